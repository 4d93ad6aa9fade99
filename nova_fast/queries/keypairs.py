"""The key pairs of a user, in the order of their names."""

from __future__ import annotations

from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.servers import KeyPair
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def get(reader: Reader, user_id: str, name: str) -> KeyPair:
    """One key pair. Raises NotFound."""
    found = reader.get(tables.KEY_PAIRS, (user_id, name))
    if found is None:
        raise NotFound(f"Keypair {name} not found for user {user_id}", code="keypair_not_found")
    return found


def listing(reader: Reader, user_id: str, marker: str | None = None, limit: int | None = None) -> list[KeyPair]:
    """One page of a user's key pairs by name. Raises BadRequest when the marker names none of them."""
    if marker is not None and reader.get(tables.KEY_PAIRS, (user_id, marker)) is None:
        raise BadRequest(f"Marker {marker} could not be found.", code="marker_not_found", field="marker")
    after = None if marker is None else (user_id, marker)
    return list(reader.scan(tables.KEY_PAIRS, user_id, after=after, limit=limit))


def count(reader: Reader, user_id: str) -> int:
    """How many a user has."""
    return sum(1 for _ in reader.scan(tables.KEY_PAIRS, user_id))
