"""What tests of placement's commands have in common."""

from __future__ import annotations

from nova_fast.model.flavors import Flavor
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState

CONSUMER = "c0000000-0000-4000-8000-000000000001"
OTHER = "c0000000-0000-4000-8000-000000000002"


def new_server(flavor: Flavor) -> Server:
    """A server that has no host yet."""
    return Server(
        id="50000000-0000-4000-8000-000000000001", number=1, project_id="p", user_id="u", name="s", hostname="s",
        created_at_us=1, updated_at_us=1, vm_state=VmState.ACTIVE, task_state=None, power_state=PowerState.RUNNING,
        flavor=flavor, image_id="", image_properties={}, reservation_id="r-1",
    )  # fmt: skip
