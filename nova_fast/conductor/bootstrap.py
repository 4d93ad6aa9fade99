"""Founding a cloud: at every start the conductor makes sure that what every client expects is there.

The admin's first password lies in a file that only root reads (``nova-fast up`` makes it); the store keeps its hash.
"""

from __future__ import annotations

import asyncio
import logging

from nova_fast.commands import registry
from nova_fast.conductor.writer import Writer
from nova_fast.config import Config
from nova_fast.edges import Edges
from nova_fast.model.commands.identity import Bootstrap, BootstrapResult, CatalogEntry
from nova_fast.state.store import Store

log = logging.getLogger(__name__)

TOKEN_KEY_BYTES = 32
PASSWORD_FILE = "admin-password"  # noqa: S105 - the name of a file


async def bootstrap(config: Config, store: Store, writer: Writer, edges: Edges) -> None:
    """Found the cloud, or bring the URLs of its catalog up to date. Raises NovaFastError."""
    with store.snapshot() as snapshot:
        founded = snapshot.identity_generation() > 0
    request = Bootstrap(
        admin_password_hash="" if founded else await asyncio.to_thread(_password_hash, config),
        token_key=edges.entropy(TOKEN_KEY_BYTES),
        region=config.region,
        catalog=catalog(config),
    )
    result = await writer.run(lambda tx: registry.run(tx, request))
    assert isinstance(result, BootstrapResult)
    if result.created:
        log.info("a new cloud: region %s, project and user admin", config.region)


def catalog(config: Config) -> tuple[CatalogEntry, ...]:
    """The services of this cloud and where they answer."""
    host, api = config.public_host, config.api
    host = f"[{host}]" if ":" in host else host
    services = (
        ("identity", "keystone", api.identity_port, "/v3"),
        ("compute", "nova", api.compute_port, "/v2.1"),
        ("image", "glance", api.image_port, ""),
        ("network", "neutron", api.network_port, ""),
        ("placement", "placement", api.placement_port, ""),
    )
    return tuple(
        CatalogEntry(type=kind, name=name, public_url=url, internal_url=url, admin_url=url)
        for kind, name, port, path in services
        for url in (f"http://{host}:{port}{path}",)
    )


def _password_hash(config: Config) -> str:
    from nova_fast.identity.passwords import hash_password  # only a new cloud needs it

    path = config.state_path / PASSWORD_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: start a new cloud with nova-fast up, which makes it")
    return hash_password(path.read_text().strip())
