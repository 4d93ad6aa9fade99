"""What the scheduler is asked for a server that is only thought of, and how its answer is shown."""

from __future__ import annotations

from typing import Any

from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import claim_of
from nova_fast.model.images import Image
from nova_fast.model.tasks import AskCapacity, Capacity, GroupRule, PlacementRequest
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")


def request_of(reader: Reader, asked: AskCapacity) -> PlacementRequest:
    """One server as it would be created now, by nobody in particular. Raises NotFound, BadRequest with the field.

    Hosts that aggregates keep for certain projects are therefore not among the candidates.
    """
    flavor = _flavor(reader, asked.flavor)
    image = _image(reader, asked.image) if asked.image else None
    if asked.zone and next(reader.scan_index(tables.HOSTS_BY_ZONE, asked.zone, limit=1), None) is None:
        raise BadRequest(f"There is no availability zone {asked.zone}.", field="zone", code="zone_not_found")
    properties = image.properties if image is not None else {}
    return PlacementRequest(
        server_id="",
        claim=claim_of(flavor, properties),
        zone=asked.zone,
        architecture=properties.get("hw_architecture") or properties.get("architecture", ""),
        extra_specs=flavor.extra_specs,
        image_properties=properties,
        vcpus=flavor.vcpus,
        ram_mib=flavor.ram_mib,
        flavor_name=flavor.name,
        image_id=image.id if image is not None else "",
        group=_group(asked),
    )


def described(capacity: Capacity) -> dict[str, Any]:
    """The answer as JSON has it, for the API and the command line alike; a host that is not named is null."""
    return {
        "servers": capacity.servers,
        "hosts": capacity.hosts,
        "first_host": capacity.first or None,
        "last_host": capacity.last or None,
        "hint": capacity.hint or None,
        "filters": [{"filter": one.filter, "before": one.before, "after": one.after} for one in capacity.filters],
    }


def _group(asked: AskCapacity) -> GroupRule | None:
    if not asked.group_policy:
        return None
    if asked.group_policy not in POLICIES:
        raise BadRequest(
            f"There is no group policy {asked.group_policy}.",
            field="group_policy",
            hint=f"one of {', '.join(POLICIES)}",
        )
    if asked.max_servers_per_host < 1:
        raise BadRequest("A host takes at least one server.", field="max_server_per_host")
    return GroupRule(id="", policy=asked.group_policy, max_servers_per_host=asked.max_servers_per_host)


def _flavor(reader: Reader, wanted: str) -> Flavor:
    found = reader.get(tables.FLAVORS, wanted) or reader.find(tables.FLAVORS_BY_NAME, wanted)
    if found is None:
        raise NotFound(f"Flavor {wanted} could not be found.", code="flavor_not_found", field="flavor")
    return found


def _image(reader: Reader, wanted: str) -> Image:
    found = reader.get(tables.IMAGES, wanted)
    if found is not None:
        return found
    named = [image for image in reader.scan(tables.IMAGES) if image.name == wanted]
    if len(named) != 1:
        what = f"{len(named)} images are named {wanted}." if named else f"Image {wanted} could not be found."
        raise NotFound(what, code="image_not_found", field="image", hint="say which by its id" if named else None)
    return named[0]
