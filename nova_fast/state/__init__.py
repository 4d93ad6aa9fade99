"""The state of the cloud: typed tables and indexes over LMDB, one writer, any number of readers.

``table`` declares what a table and an index are, ``schema`` lists all of them, ``reader`` is what one can ask of a
snapshot or an open transaction, ``transaction`` is what the one writer may do, ``store`` is the file. ``writer`` runs
commands in batches, one durable commit for all that has arrived.

Nothing above this room may assume more than: ordered byte keys, one writer, snapshots, and a stream of events by
generation.
"""
