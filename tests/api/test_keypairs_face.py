"""Key pairs through the real HTTP server: imported, made here, whose they are, and how many."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509.oid import NameOID

from nova_fast.model.commands.quotas import SetComputeQuota

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud

PATH = "/v2.1/os-keypairs"


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute",)


def public_key() -> str:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def create(client: Client, name: Any = "k", microversion: str = "2.92", **more: Any) -> Any:
    return client.post("compute", PATH, json={"keypair": {"name": name, **more}}, microversion=microversion)


def test_an_imported_key_has_the_fingerprint_of_its_bytes(cloud: Cloud) -> None:
    client, key = cloud.project("p1").member, public_key()
    made = create(client, public_key=key)
    assert made.status == 201
    digest = hashlib.md5(base64.b64decode(key.split()[1])).hexdigest()
    fingerprint = ":".join(digest[n : n + 2] for n in range(0, 32, 2))
    expected = {"name": "k", "type": "ssh", "public_key": key, "fingerprint": fingerprint, "user_id": client.user_id}
    assert made.json["keypair"] == expected
    shown = client.get("compute", f"{PATH}/k", microversion="2.92").json["keypair"]
    assert set(shown) == set(expected) | {"id", "created_at", "updated_at", "deleted", "deleted_at"}


@pytest.mark.parametrize(
    ("microversion", "created", "deleted", "more"),
    [("2.1", 200, 202, set()), ("2.2", 201, 204, {"type"}), ("2.91", 201, 204, {"type"})],
)
def test_before_2_92_a_pair_is_made_and_its_private_half_given_once(
    cloud: Cloud, microversion: str, created: int, deleted: int, more: set[str]
) -> None:
    client = cloud.project("p1").member
    made = create(client, microversion=microversion)
    assert made.status == created
    pair = made.json["keypair"]
    assert set(pair) == {"name", "public_key", "fingerprint", "user_id", "private_key"} | more
    private = serialization.load_pem_private_key(pair["private_key"].encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 2048
    half = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    assert pair["public_key"].startswith(half.decode())
    listed = client.get("compute", PATH, microversion=microversion).json["keypairs"]
    assert [set(one["keypair"]) for one in listed] == [{"name", "public_key", "fingerprint"} | more]
    assert b"PRIVATE" not in client.get("compute", f"{PATH}/k", microversion=microversion).body
    assert client.delete("compute", f"{PATH}/k", microversion=microversion).status == deleted
    assert client.delete("compute", f"{PATH}/k", microversion=microversion).status == 404


def test_since_2_92_a_public_key_must_be_given(cloud: Cloud) -> None:
    assert create(cloud.project("p1").member).status == 400


def test_a_certificate_can_be_imported(cloud: Cloud) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    certificate = builder.sign(key, None)
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    made = create(cloud.project("p1").member, type="x509", public_key=pem).json["keypair"]
    assert made["type"] == "x509"
    assert made["fingerprint"].replace(":", "") == certificate.fingerprint(hashes.SHA1()).hex()


@pytest.mark.parametrize(
    "more",
    [
        {"public_key": ""}, {"public_key": "nonsense"}, {"public_key": "ssh-rsa"}, {"public_key": "ssh-rsa !!!"},
        {"public_key": "ssh-rsa AAAA"}, {"public_key": "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA=="}, {"public_key": 5},
        {"public_key": "x", "type": "x509"}, {"public_key": "ssh-ed25519 AAAA", "type": "gpg"},
        {"type": "x509"}, {"unknown": "x"},
    ],
)  # fmt: skip
def test_what_is_no_key_is_400_and_nothing_is_kept(cloud: Cloud, more: dict[str, Any]) -> None:
    client = cloud.project("p1").member
    assert create(client, microversion="2.91", **more).status == 400
    assert client.get("compute", PATH).json["keypairs"] == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("a b-c_d", 201, 201), ("me@host.example", 400, 201), ("a/b", 400, 400), ("", 400, 400), (" a", 400, 400),
     ("x" * 256, 400, 400), ("ü", 400, 400), (5, 400, 400)],
)  # fmt: skip
def test_names_are_checked_as_their_microversion_says(cloud: Cloud, name: Any, old: int, new: int) -> None:
    project, key = cloud.project("p1"), public_key()
    assert create(project.member, name, "2.91", public_key=key).status == old
    assert create(project.manager, name, "2.92", public_key=key).status == new


def test_a_name_is_taken_once_for_each_user(cloud: Cloud) -> None:
    project, key = cloud.project("p1"), public_key()
    assert create(project.member, public_key=key).status == 201
    assert create(project.member, public_key=key).status == 409
    assert create(project.manager, public_key=key).status == 201
    assert project.reader.get("compute", f"{PATH}/k").status == 404


def test_an_admin_may_act_for_another_user_since_2_10(cloud: Cloud) -> None:
    project, key = cloud.project("p1"), public_key()
    user_id = project.member.user_id
    assert create(cloud.admin, public_key=key, user_id=user_id).json["keypair"]["user_id"] == user_id
    for_user = f"?user_id={user_id}"
    assert len(cloud.admin.get("compute", PATH + for_user, microversion="2.10").json["keypairs"]) == 1
    assert cloud.admin.get("compute", PATH + for_user, microversion="2.9").json["keypairs"] == []
    assert project.reader.get("compute", PATH + for_user, microversion="2.10").status == 403
    assert create(project.reader, public_key=key, user_id=user_id).status == 403
    assert project.reader.delete("compute", f"{PATH}/k{for_user}", microversion="2.10").status == 403
    assert create(cloud.admin, "x", "2.9", public_key=key, user_id=user_id).status == 400
    assert cloud.admin.delete("compute", f"{PATH}/k{for_user}", microversion="2.10").status == 204


def test_lists_are_by_name_and_paged_since_2_35(cloud: Cloud) -> None:
    client, key = cloud.project("p1").member, public_key()
    for name in ("c", "a", "b"):
        create(client, name, public_key=key)
    body = client.get("compute", f"{PATH}?limit=2", microversion="2.35").json
    assert [one["keypair"]["name"] for one in body["keypairs"]] == ["a", "b"]
    assert "marker=b" in body["keypairs_links"][0]["href"]
    rest = client.get("compute", f"{PATH}?marker=b", microversion="2.35").json
    assert [one["keypair"]["name"] for one in rest["keypairs"]] == ["c"]
    assert client.get("compute", f"{PATH}?marker=zz", microversion="2.35").status == 400
    assert len(client.get("compute", f"{PATH}?limit=1", microversion="2.34").json["keypairs"]) == 3
    assert client.get("compute", f"{PATH}?x=y", microversion="2.75").status == 400


def test_the_quota_of_key_pairs_is_kept(cloud: Cloud) -> None:
    client, key = cloud.project("p1").member, public_key()
    cloud.run(SetComputeQuota(caller=cloud.root, project_id=client.project_id, limits={"key_pairs": 1}))
    assert create(client, "one", public_key=key).status == 201
    refused = create(client, "two", public_key=key)
    assert refused.status == 403
    assert "key pairs" in refused.json["forbidden"]["message"]
    client.delete("compute", f"{PATH}/one")
    assert create(client, "two", public_key=key).status == 201
