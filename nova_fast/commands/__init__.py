"""What can be done to the state: pure functions, one file for each noun.

A command takes an open transaction and a request, checks everything that depends on the state, and changes it or raises
a :class:`~nova_fast.model.errors.NovaFastError`. It does no I/O and reads no clock: time and ids come from the
transaction.
"""
