"""Tests of the scheduler, with the kernel's twin in ``oracle``."""
