"""The Compute API v2.1, microversions 2.1 to 2.96: one file per collection.

``face`` is the object all of them declare their routes on; ``shapes`` holds what they share (links, times, values that
may be numbers or text). Source: the Compute API reference of Nova 34.
"""

from nova_fast.api.compute.face import face

__all__ = ["face"]
