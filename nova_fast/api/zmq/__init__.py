"""The door for clients of the ZeroMQ SDK: a hub of its own in each API worker.

What a client asks goes through the worker's own application, face by face, with the same tokens, policies, validation
and microversions as over HTTP; so whatever a face can do the SDK can do, and nothing else. ``inside`` asks the
application without a socket, ``turns`` shares the worker among clients, ``journal`` and ``watching`` tell what
happened to who may see it, ``keys`` knows the keys that may come in over tcp, ``door`` puts them together.
"""
