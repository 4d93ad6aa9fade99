"""What a user can ask of key pairs. A private key never travels through here."""

from __future__ import annotations

from nova_fast.model.base import Message
from nova_fast.model.identity import Caller
from nova_fast.model.servers import KeyPair


class CreateKeyPair(Message, frozen=True):
    """Keep a public key, whose form and fingerprint the face has checked. → KeyPairResult."""

    caller: Caller
    user_id: str  # the caller, or anyone for an admin
    name: str
    key_type: str  # ssh, x509
    public_key: str
    fingerprint: str


class DeleteKeyPair(Message, frozen=True):
    """Forget a key pair; servers keep their copy. → KeyPairResult (as it was)."""

    caller: Caller
    user_id: str
    name: str


class KeyPairResult(Message, frozen=True):
    key_pair: KeyPair


COMMANDS = (CreateKeyPair, DeleteKeyPair)
RESULTS = (KeyPairResult,)
