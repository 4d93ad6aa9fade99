"""The scheduler: which host a server goes to, exactly, and why none when there is none.

A pure core over the compiled host table. Nothing here does I/O or reads a clock, and all randomness comes from a
``random.Random`` that is passed in::

    events ──► claims ──► hosts ──► HostTable (columns, one full scan)
                 ▲                      │
    SelectHosts ─┴─ select ── policies ─┴─► Selection
                       └──── explain (only when there is no host)

* ``hosts``: names, zones and architectures as the table's numbers; what each host has and what is taken of it;
* ``claims``: which server holds what where, so that a choice is counted once from the choice to the commit;
* ``policies``: ``filter``, ``simple``, ``chance``, ``zone``: how one of the hosts that pass is chosen;
* ``explain``: how many hosts each filter removed, and which one change would help most;
* ``select``: the :class:`~nova_fast.scheduler.select.Scheduler` that the daemon drives.
"""
