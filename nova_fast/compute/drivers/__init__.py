"""What runs guests: one protocol (``base``), real machines (``libvirt``), and machines in memory (``fake``).

``choice`` picks the driver the configuration names. libvirt's binding is imported only when the libvirt driver is used,
so that a host without it can run everything else.
"""
