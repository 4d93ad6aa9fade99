"""The compiled kernels, and the shapes that go in and out of them.

The sources are in ``_ext/`` at the top of the repository, one ``.pyx``/``.pxd`` pair a kernel over a plain C header.
Nothing but C enters there; each kernel has a pure-Python twin in the tests.
"""
