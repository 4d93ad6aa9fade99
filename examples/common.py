"""What the examples need before they can begin: an image and a network, made the first time."""

from __future__ import annotations

from nova_fast.client import Client, Image, Network

NAME = "example"


def image_and_network(cloud: Client) -> tuple[Image, Network]:
    """An image of zeros, and a network with room for many servers."""
    images = [image for image in cloud.images.list(name=NAME) if image.status == "active"]
    networks = list(cloud.networks.list(name=NAME))
    image = images[0] if images else cloud.images.create(NAME, bytes(65536))
    network = networks[0] if networks else cloud.networks.create(NAME, cidr="10.64.0.0/16")
    return image, network


def no_limits(cloud: Client) -> None:
    """Lift the quotas of the admin's own project; an admin may."""
    projects = cloud.request("GET", "identity", "/v3/auth/projects").json()["projects"]
    for project in projects:
        unlimited = dict.fromkeys(("instances", "cores", "ram"), -1)
        cloud.request("PUT", "compute", f"/v2.1/os-quota-sets/{project['id']}", {"quota_set": unlimited})
        cloud.request("PUT", "network", f"/v2.0/quotas/{project['id']}", {"quota": {"port": -1}})
