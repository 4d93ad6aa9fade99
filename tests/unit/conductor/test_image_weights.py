"""Servers gather on hosts that have servers with such an image: through the conductor, and after a restart."""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.config import SchedulerConfig
from nova_fast.model.tasks import Done
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.placing import PlacingCloud
from tests.unit.conductor.player import IMAGE_ID

BSD = "87654321-0000-4000-8000-000000000000"


def images(tx: Any) -> Done:
    image = tx.need(tables.IMAGES, IMAGE_ID, "Image")
    tx.put(tables.IMAGES, msgspec.structs.replace(image, properties={"os_distro": "debian"}))
    tx.put(tables.IMAGES, msgspec.structs.replace(image, id=BSD, properties={"os_distro": "openbsd"}))
    return Done()


def test_servers_gather_by_their_image_before_and_after_a_restart() -> None:
    with memory_store() as store:
        cloud = PlacingCloud(store)
        cloud.commit(images)
        cloud.options = SchedulerConfig(image_props_weight_multiplier=1000.0)
        cloud.start_scheduler()

        def host_of(image_id: str) -> str:
            server_id = cloud.create(image_id=image_id)
            host = cloud.place(server_id).host
            cloud.settle()
            return host

        linux, bsd = host_of(IMAGE_ID), host_of(BSD)
        assert {linux, bsd} == {"h1", "h2"}
        for _ in range(2):
            assert (host_of(IMAGE_ID), host_of(BSD)) == (linux, bsd)
            cloud.start_scheduler()
        assert cloud.scheduler is not None
        assert cloud.scheduler.hosts.images.of(linux)["os_distro", "debian"] == 3
        for server in list(cloud.store.read(lambda reader: list(reader.scan(tables.SERVERS)))):
            cloud.delete(server.id)
            cloud.settle()
        assert not cloud.scheduler.hosts.images.of(linux) and not cloud.scheduler.hosts.images.of(bsd)
