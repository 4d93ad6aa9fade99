"""Keeping and forgetting public keys. Key pairs belong to a user, and are counted against the project's limit."""

from __future__ import annotations

from nova_fast.commands.registry import command
from nova_fast.model.commands.keypairs import CreateKeyPair, DeleteKeyPair, KeyPairResult
from nova_fast.model.errors import Conflict, Forbidden, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.servers import KeyPair
from nova_fast.queries import keypairs, quotas
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction


@command(CreateKeyPair)
def create_key_pair(tx: Transaction, request: CreateKeyPair) -> KeyPairResult:
    """Keep a public key. Raises Conflict when the name is taken, OverQuota, Forbidden for another user's."""
    _check_owner(request.caller, request.user_id)
    if tx.get(tables.KEY_PAIRS, (request.user_id, request.name)) is not None:
        raise Conflict(f"Key pair '{request.name}' already exists.", code="keypair_exists", field="name")
    limit = quotas.limits(tx, request.caller.project_id)["key_pairs"]
    used = keypairs.count(tx, request.user_id)
    if quotas.exceeded(limit, used, 1):
        raise OverQuota(
            f"Quota exceeded, too many key pairs: the user has {used} of {limit}.",
            code="quota_exceeded",
            details={"resources": "key_pairs"},
            hint="delete one, or ask an admin for a larger quota",
        )
    key_pair = KeyPair(
        user_id=request.user_id,
        name=request.name,
        type=request.key_type,
        public_key=request.public_key,
        fingerprint=request.fingerprint,
        created_at_us=tx.now_us,
        number=tx.next_number("key_pairs"),
    )
    tx.insert(tables.KEY_PAIRS, key_pair)
    return KeyPairResult(key_pair=key_pair)


@command(DeleteKeyPair)
def delete_key_pair(tx: Transaction, request: DeleteKeyPair) -> KeyPairResult:
    """Forget a key pair. Raises NotFound, Forbidden for another user's."""
    _check_owner(request.caller, request.user_id)
    key_pair = keypairs.get(tx, request.user_id, request.name)
    tx.delete(tables.KEY_PAIRS, (request.user_id, request.name))
    return KeyPairResult(key_pair=key_pair)


def _check_owner(caller: Caller, user_id: str) -> None:
    if caller.user_id != user_id and not caller.is_admin:
        raise Forbidden("Only an admin may act on the key pairs of another user.", code="foreign_user")
