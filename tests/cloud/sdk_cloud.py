"""A real cloud with two API workers, three fake hosts and the SDK's file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova_fast.client import Client, NewServer, Settings, read_file

from .conftest import Cloud, new_cloud


@contextlib.contextmanager
def sdk_cloud(**compute: object) -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=3, **compute) as cloud:
        cloud.config.write_text(cloud.config.read_text().replace("[api]", "[api]\nworkers = 2"))
        cloud.up()
        yield cloud


def settings(cloud: Cloud) -> Settings:
    return read_file(cloud.state / "sdk.json")


def furnish(client: Client) -> NewServer:
    """Lift the quotas, make an image and a network; a server that can be made."""
    [project] = client.request("GET", "identity", "/v3/auth/projects").json()["projects"]
    unlimited = dict.fromkeys(("instances", "cores", "ram"), -1)
    client.request("PUT", "compute", f"/v2.1/os-quota-sets/{project['id']}", {"quota_set": unlimited})
    client.request("PUT", "network", f"/v2.0/quotas/{project['id']}", {"quota": {"port": -1}})
    image, network = client.images.create("small", bytes(65536)), client.networks.create("net", cidr="10.0.0.0/16")
    return NewServer(name="vm", flavor="1", image=image, networks=(network,))
