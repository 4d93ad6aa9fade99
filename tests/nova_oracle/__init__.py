"""The oracle: OpenStack's own Nova judges the same fleets and requests as ours, and both must say the same.

* ``nova_side``: runs inside the environment that ``make oracle`` makes, and imports Nova and nothing of ours;
* ``generate``: fleets and requests from a seed;
* ``ours``: the same case through our filters and weighers;
* ``compare``: what differs, and the smallest case that still differs;
* ``peer``: the worker process from our side.
"""
