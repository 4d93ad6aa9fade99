"""The hub: how the daemons speak to each other.

One ROUTER socket lives in the conductor (:class:`~nova_fast.hub.server.HubServer`), one DEALER in every other daemon
(:class:`~nova_fast.hub.peer.Peer`). Two things travel over them:

* **calls**, in both directions: a typed message with an id, resent until it is answered or its deadline passes, and
  recognised by that id at the receiver, so that it runs once (``outgoing`` and ``incoming`` are the two halves);
* **events**, from the conductor: an ordered stream that each subscriber resumes from where it stopped (``events``).

``contracts`` says which messages may travel, ``wire`` how a frame looks, ``sockets`` how a ZeroMQ socket sits on the
loop, ``keys`` who may be whom. What enters here is about carrying messages; what they mean belongs to the daemons.
"""
