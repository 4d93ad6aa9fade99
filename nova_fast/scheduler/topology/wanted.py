"""What a request asks of NUMA cells; the rules are ``model.guest_cells``."""

from __future__ import annotations

from nova_fast.model import guest_cells
from nova_fast.model.guest_cells import Asked, Wanted
from nova_fast.model.tasks import PlacementRequest


def asked_of(request: PlacementRequest) -> Asked:
    """vCPUs and RAM are the guest's, which is not what is claimed when its flavor says otherwise."""
    claim = request.claim
    vcpus, ram_mib = request.vcpus or claim.vcpus, request.ram_mib or claim.ram_mib
    return Asked(request.extra_specs, request.image_properties, vcpus, ram_mib)


def wanted_cells(request: PlacementRequest) -> Wanted | None:
    """The cells a request asks for; None when it does not care. Raises BadRequest for what contradicts itself."""
    return guest_cells.wanted_cells(asked_of(request))


def feature(request: PlacementRequest, name: str) -> str:
    """What the flavor says of a feature, else the image; "" = nothing."""
    return guest_cells.feature(asked_of(request), name)
