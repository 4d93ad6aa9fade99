"""The nouns of the cloud: records, states, messages and errors.

Nothing here does I/O, reads a clock or imports another room. Every other room may enter.

* records (``servers``, ``flavors``, ``images``, ``networks``, ``hosts``, ``identity``, ``quotas``, ``workflows``)
  are what the store keeps: frozen, array-like msgspec Structs whose field order is append-only;
* ``states`` says which states exist, what the API calls them and which action is allowed in which;
* ``commands`` are what a face asks of the conductor; ``tasks`` are what the conductor asks of the other daemons;
* ``events`` is what the conductor tells everybody after a commit;
* ``errors`` is the one list of what can go wrong.
"""
