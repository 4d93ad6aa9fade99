"""Which driver the configuration asks for."""

from __future__ import annotations

from nova_fast.compute.drivers.base import Driver, OnChange
from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.config import Config
from nova_fast.model.errors import BadRequest


def create_driver(config: Config, on_change: OnChange) -> Driver:
    """The driver named by ``compute.driver``, not started yet. Raises BadRequest for a name that is none."""
    if config.compute.driver == "fake":
        return FakeDriver(config.compute, on_change)
    if config.compute.driver == "libvirt":
        from nova_fast.compute.drivers.libvirt.driver import LibvirtDriver

        return LibvirtDriver(config, on_change)
    raise BadRequest(
        f"There is no compute driver {config.compute.driver!r}.", field="compute.driver", hint="Use libvirt or fake."
    )
