"""Setting a cloud up, and again."""

from __future__ import annotations

from nova_fast.commands.bootstrap import bootstrap
from nova_fast.commands.identity import revoke_token, update_user
from nova_fast.identity.grants import resolve, token_key
from nova_fast.identity.tokens import TokenFacts, new_audit_id
from nova_fast.model.commands.identity import Bootstrap, CatalogEntry, RevokeToken, UpdateUser
from nova_fast.model.flavors import CLASSICAL_FLAVORS
from nova_fast.model.identity import Caller
from nova_fast.queries import identity as queries
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store


def request(url: str, key: bytes = bytes(32), password: str = "h1") -> Bootstrap:
    names = ("identity", "compute", "image", "network", "placement")
    entries = tuple(
        CatalogEntry(type=name, name=name, public_url=url + name, internal_url=url, admin_url=url) for name in names
    )
    return Bootstrap(admin_password_hash=password, token_key=key, region="RegionOne", catalog=entries)


def test_a_new_cloud_has_what_every_client_expects() -> None:
    with memory_store() as cloud:
        made = cloud.run(lambda tx: bootstrap(tx, request("http://a/")))
        assert made.created
        with cloud.store.snapshot() as reader:
            roles = queries.effective_roles(reader, made.admin_user_id, "project", made.admin_project_id)
            assert {role.name for role in roles} == {"admin", "manager", "member", "reader"}
            assert queries.effective_roles(reader, made.admin_user_id, "system", "all")
            assert reader.size(tables.FLAVORS) == len(CLASSICAL_FLAVORS)
            assert reader.size(tables.CATALOG_ENDPOINTS) == 15
            assert token_key(reader) == bytes(32)
            assert {role.name for role in queries.roles(reader)} >= {"service", "admin"}


def test_a_second_time_only_the_urls_change() -> None:
    with memory_store() as cloud:
        first = cloud.run(lambda tx: bootstrap(tx, request("http://a/")))
        cloud.run(lambda tx: tx.delete(tables.FLAVORS, "1"))
        second = cloud.run(lambda tx: bootstrap(tx, request("http://b/", key=b"x" * 32, password="h2")))
        assert not second.created
        assert (second.admin_user_id, second.admin_project_id) == (first.admin_user_id, first.admin_project_id)
        with cloud.store.snapshot() as reader:
            user = queries.user(reader, first.admin_user_id)
            assert user is not None and user.password_hash == "h1"
            assert token_key(reader) == bytes(32)
            assert reader.get(tables.FLAVORS, "1") is None
            endpoints = queries.endpoints(reader)
            assert len(endpoints) == 15
            assert all(endpoint.url.startswith("http://b/") for endpoint in endpoints)


def test_the_same_urls_do_not_touch_identity() -> None:
    with memory_store() as cloud:
        cloud.run(lambda tx: bootstrap(tx, request("http://a/")))
        before = cloud.read(lambda reader: reader.identity_generation())
        cloud.run(lambda tx: bootstrap(tx, request("http://a/")))
        assert cloud.read(lambda reader: reader.identity_generation()) == before


def test_revocations_whose_tokens_have_ended_are_forgotten() -> None:
    caller = Caller(user_id="u", project_id="", roles=())
    with memory_store() as cloud:
        now_us = cloud.run(lambda tx: tx.now_us)
        for audit_id, expires_at_us in (("old", now_us - 5), ("new", now_us + 10_000_000), ("third", now_us + 10**9)):
            revocation = RevokeToken(caller=caller, audit_id=audit_id, expires_at_us=expires_at_us)
            cloud.run(lambda tx, revocation=revocation: revoke_token(tx, revocation))
        with cloud.store.snapshot() as reader:
            assert {row.audit_id for row in reader.scan(tables.REVOKED_TOKENS)} == {"new", "third"}


def test_another_password_voids_older_tokens_only() -> None:
    with memory_store() as cloud:
        made = cloud.run(lambda tx: bootstrap(tx, request("http://a/")))
        caller = Caller(user_id=made.admin_user_id, project_id="", roles=("admin",))

        def holds(issued_at_us: int) -> bool:
            facts = TokenFacts(
                user_id=made.admin_user_id, methods=("password",), scope_type="project",
                scope_id=made.admin_project_id, issued_at_us=issued_at_us, expires_at_us=1 << 60,
                audit_id=new_audit_id(),
            )  # fmt: skip
            try:
                return bool(cloud.read(lambda reader: resolve(reader, facts, issued_at_us)).roles)
            except Exception:
                return False

        before = cloud.run(lambda tx: tx.now_us)
        assert holds(before)
        change = UpdateUser(caller=caller, user_id=made.admin_user_id, password_hash="h2")
        cloud.run(lambda tx: update_user(tx, change))
        assert not holds(before)
        assert holds(cloud.run(lambda tx: tx.now_us))
