"""Who is who: tokens and passwords.

``tokens`` seals and opens tokens, ``grants`` says what they grant now, ``passwords`` hashes and checks, ``throttle``
slows down guessing, ``login`` turns the methods of a login into facts. Reads go through ``nova_fast.queries.identity``;
nothing here writes.
"""
