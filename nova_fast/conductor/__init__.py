"""The one writer: batches commands into durable transactions, and carries long operations to their end.

* ``writer`` commits; ``workflows/`` holds what the long operations are, and ``engine`` moves them on inside a
  transaction;
* ``dispatcher`` sends what a commit asked of the other daemons and brings the answers back as commands;
* ``reports`` takes what the daemons say by themselves; ``daemon`` puts it together.

May enter: commands, queries, hub.
"""
