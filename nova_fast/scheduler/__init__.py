"""The scheduler: which host a server goes to, exactly, and why none when there is none.

A pure core over the compiled table of hosts. Nothing here does I/O or reads a clock, and all randomness comes from a
``random.Random`` that is passed in::

    events ──► claims ──► hosts ──► HostTable (columns, index over blocks)
                 ▲          │ facts        ▲
                 │       profiles          │
    SelectHosts ─┴─ select ── search ──────┴─ policies ──► Selection
                       │        └─ lowering ── filters, weighers, topology
                       └──── explain, whatif

* ``facts`` and ``profiles``: what seldom changes of hosts, shared by those that agree in all of it;
* ``filters``, ``weighers``, ``topology``: Nova's, by what each has to look at; ``plugins``: a site's own;
* ``lowering``: a request as what the table can decide: a class of requests, sets of rows, further terms of the sum;
* ``search``: that, with the table's verdicts kept current;
* ``hosts``: what each host has and what is taken of it, in step with the table; ``aggregates``: whom they concern;
* ``fleet``: who is where;
* ``claims``: which server holds what where, so that a choice is counted once from the choice to the commit;
* ``policies``: ``filter``, ``simple``, ``chance``, ``zone``: how one of the hosts that pass is chosen;
* ``explain``: how many hosts each filter removed, and which one change would help most; ``whatif``: how many more fit;
* ``idle``: what the daemon does while nobody asks: the table brings its indexes up to date;
* ``select``: the :class:`~nova_fast.scheduler.select.Scheduler` that the daemon drives.
"""
