"""The Image API v2: one file per collection.

``images`` makes, shows, changes, removes; ``listing`` reads the filters of lists; ``data`` moves the bytes; ``members``
shares; ``schemas`` and ``info`` describe the service. Source: the Image API reference, v2.17, of Glance 33.
"""

from nova_fast.api.image.face import face

__all__ = ["face"]
