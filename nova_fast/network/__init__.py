"""The network daemon: bridges, DHCP, routing, packet filters and the metadata address of one host.

A backend is told the whole wanted state (:class:`~nova_fast.model.tasks.ApplyNetworks`) and makes the host look so.
``backend`` says what a backend is, ``fake`` answers at once and touches nothing, ``linux`` is the real one. Only
``model`` and ``hub`` may be imported here; the backends need ``model`` alone.
"""
