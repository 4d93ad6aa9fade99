"""What all faces share, so that a face is only its declarations and its handlers.

* ``route``: how a route is declared, :class:`Face` and :class:`Answer`;
* ``request``: what a handler is given;
* ``versions``, ``policy``, ``auth``, ``body``, ``query``, ``errors``: one step of a request each;
* ``endpoint``: those steps in order, compiled per path and method;
* ``build``: declarations → Falcon applications → one ASGI callable;
* ``paging``, ``log``, ``openapi``: what is made from the same declarations.

It knows no API: names of collections, fields and shapes belong to the faces.
"""
