"""The network backend for Linux: bridges, namespaces, dnsmasq, nftables.

Pure files decide (``plan``, ``rules``, ``firewall``, ``router``, the first half of ``dhcp``), thin ones act (``links``,
``namespaces``, ``nftables``, ``conntrack``, ``sysctl``, ``dhcp``, ``metadata``), ``record`` remembers what was made,
``reconcile`` puts them in order and ``backend`` is the asynchronous shell around it.
"""
