"""NUMA cells and PCI devices: what a server wants of them, and whether a host has it.

* ``wanted``: the cells a flavor and an image ask for (``hw:numa_nodes``, ``hw:cpu_policy``, ``hw:mem_page_size``, …);
* ``devices``: the PCI devices (``pci_passthrough:alias``), and pools of them;
* ``fit``: whether cells and devices fit a host.

The rules are Nova's (``nova.virt.hardware``, ``nova.pci.stats``). A host says what it has and what is taken of it in
each report; the scheduler counts nothing of this itself, so the host has the last word when it makes the guest.
"""
