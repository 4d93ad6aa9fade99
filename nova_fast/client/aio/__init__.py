"""The asyncio client, by nouns. ``nova_fast.client.sync`` is made from these files by ``tools/twins.py``: edit here."""
