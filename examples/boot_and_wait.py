"""Make a server, wait until it runs, look at it, delete it."""

from __future__ import annotations

from common import image_and_network

from nova_fast.client import Client, NewServer

with Client.connect() as cloud:
    image, network = image_and_network(cloud)

    # It is recorded durably when this returns; a broken connection or a killed API worker makes no second one.
    made = cloud.servers.create(NewServer(name="web", flavor="1", image=image, networks=(network,)))
    print(f"accepted {made.id}, password {len(made.admin_password)} characters")

    # Told by events, not by asking again and again. Raises with the reason if it goes into ERROR.
    [server] = cloud.servers.wait(made.id)
    print(f"{server.name} is {server.status} at {', '.join(server.ips)}")

    cloud.servers.delete(server.id)
    cloud.servers.wait(server.id, "DELETED")
    print("and gone")
