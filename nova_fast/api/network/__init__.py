"""The Networking API v2.0: one file per collection.

``face`` is the object all of them declare their routes on; ``shapes`` turns what clients write into values, ``views``
turns records into what clients read, ``listing`` filters, sorts and pages. Source: the API reference of Neutron 29.
"""

from nova_fast.api.network.face import face

__all__ = ["face"]
