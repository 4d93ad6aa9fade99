"""The compiled kernels, and the shapes that go in and out of them.

The sources are in ``_ext/`` at the top of the repository, one ``.pyx``/``.pxd`` pair a kernel over a plain C header.
Nothing but C enters there; each kernel has a pure-Python twin in the tests.
"""

from typing import NamedTuple

from nova_fast._ext import rows as rows

ANY = -1  # a zone, an architecture or a host: whichever


class HostRow(NamedTuple):
    """One host as the table keeps it: 32-bit whole numbers; what is free may be negative, and then nothing fits."""

    ram_mib: int  # free, as are the next two
    vcpus: int
    disk_gib: int
    io_ops: int
    servers: int
    vcpus_used: int
    zone: int
    architecture: int
    flags: int  # HOST_UP, HOST_ENABLED


class HostQuery(NamedTuple):
    """What one request wants of a host, as far as the columns can tell."""

    ram_mib: int
    vcpus: int
    disk_gib: int
    zone: int = ANY
    architecture: int = ANY
    host: int = ANY
    ignored_flags: int = 0  # of HOST_UP, HOST_ENABLED, HOST_EXCLUDED: what-if questions look past these
