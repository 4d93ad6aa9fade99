"""What a hypervisor must know to make a server's guest: joined from the server, its image and its ports."""

from __future__ import annotations

from nova_fast.model.networks import bridge_name, tap_name
from nova_fast.model.servers import Server
from nova_fast.model.tasks import Guest, GuestImage, GuestNic
from nova_fast.queries.metadata import config_drive_files
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

DEFAULT_MTU = 1450


def guest_of(reader: Reader, server: Server, admin_password: str = "") -> Guest:
    """The guest of a server as it should be now. An image that is gone has no hash: only a cached copy will do."""
    return Guest(
        server_id=server.id,
        domain_name=server.domain_name,
        name=server.name,
        project_id=server.project_id,
        user_id=server.user_id,
        vcpus=server.flavor.vcpus,
        ram_mib=server.flavor.ram_mib,
        root_disk_gib=server.flavor.disk_gib,
        ephemeral_gib=server.flavor.ephemeral_gib,
        swap_mib=server.flavor.swap_mib,
        image=image_of(reader, server.image_id, server.image_properties),
        nics=_nics(reader, server),
        config_drive=config_drive_files(reader, server, admin_password or None) if server.config_drive else None,
        extra_specs=server.flavor.extra_specs,
        topology=server.claim.topology,
    )


def image_of(reader: Reader, image_id: str, properties: dict[str, str]) -> GuestImage:
    """An image as a hypervisor is told of it."""
    image = reader.get(tables.IMAGES, image_id)
    return GuestImage(
        id=image_id,
        path="",
        size=(image.size or 0) if image else 0,
        sha512=(image.hash_value or "") if image else "",
        disk_format=(image.disk_format or "") if image else "",
        properties=properties,
    )


def _nics(reader: Reader, server: Server) -> tuple[GuestNic, ...]:
    nics = []
    for port in server_ports(reader, server.id):
        network = reader.get(tables.NETWORKS, port.network_id)
        nics.append(
            GuestNic(
                port_id=port.id,
                mac_address=port.mac_address,
                bridge=bridge_name(port.network_id),
                tap=tap_name(port.id),
                mtu=network.mtu if network else DEFAULT_MTU,
            )
        )
    return tuple(nics)
