"""The faces: one folder per API. A face translates: wire request → authorize → command or query → wire answer.

``framework`` holds what all faces share (route declarations, authentication, microversions, error bodies, limits);
``app`` puts the faces together into one ASGI application. May import commands' Structs, queries, identity, image, hub.
"""
