"""The blocking client, by nouns: made from ``nova_fast.client.aio`` by ``tools/twins.py``."""
