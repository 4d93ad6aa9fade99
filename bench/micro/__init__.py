"""Single steps under pytest-benchmark: ``make bench-micro``; ``make bench-compare`` runs them against another commit.

The clock is the process's own time, all threads together: it means the same on a machine that others use too. As plain
tests (``make test``) each runs once, so none of them rots.
"""
