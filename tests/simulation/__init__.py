"""The whole control plane in one process, under a seed.

The conductor, its commands and workflows, the hub's two ends, the scheduler, and the compute and network daemons are
the production ones. Only the edges are played:

* ``loop``: one event loop with virtual time for many processes, each of which may stop or die between any two steps;
* ``wire``: ZeroMQ's sockets, over a network that delays, loses, doubles, reorders and parts;
* ``disk``: syncs that are slow, fail, or leave it open whether they happened;
* ``machines``: clocks that jump, and the hypervisor and network of each host, which fail in every way they know.

``users`` ask for things, valid and not, and write down what they were promised; ``faults`` break things for a while;
``checker`` looks after every commit whether what is kept is right, from the rows (``rows``) and the promises alone.
``cloud`` puts one seed together, ``__main__`` runs many: ``make simulate SEEDS=400 FIRST_SEED=0``.
"""
