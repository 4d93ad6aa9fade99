"""What can be asked of the state: reads for each noun, with filters, paging and joins; no API shapes.

Everything takes a :class:`~nova_fast.state.reader.Reader`, so it works on a snapshot and inside a transaction alike.
"""
