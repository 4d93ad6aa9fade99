"""The command line, ``nova-fast``: starts, stops and shows the cloud of this machine.

It may import everything; nothing imports it. Modules are loaded when a command needs them, so that a daemon's process
holds nothing of the others.

* ``main`` reads the arguments; ``lifecycle`` is ``up``, ``down`` and ``status``;
* ``supervisor`` keeps the daemons running; ``programs`` says which there are; ``processes`` is what both know of Linux;
* ``libvirt_host`` runs libvirt where nothing else does; ``credentials`` makes the first user's password and files.
"""
