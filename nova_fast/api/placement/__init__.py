"""The Placement API, microversions 1.0 to 1.39: reads only, all of them computed from hosts and servers.

``face`` declares the root; ``providers``, ``allocations``, ``candidates`` and ``names`` (traits, resource classes) are
the collections. Source: the Placement API reference.
"""

from nova_fast.api.placement.face import face

__all__ = ["face"]
