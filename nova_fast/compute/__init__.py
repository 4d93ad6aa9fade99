"""The compute daemon of a host: it makes guests and keeps them as they are wanted.

``daemon`` speaks with the conductor; ``drivers`` speak with a hypervisor. What the daemon knows of a guest it
learns from the messages it gets and from the hypervisor: it keeps no store. Only ``model``, ``config`` and ``hub`` may
enter.
"""
