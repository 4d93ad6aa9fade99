"""The client of the cloud over ZeroMQ, many times faster than REST and with the same rules.

    from nova_fast.client import Client, NewServer

    with Client.connect() as cloud:
        made = cloud.servers.create(NewServer(name="web", flavor="1", image=image_id, networks=(network_id,)))
        [server] = cloud.servers.wait(made.id)

:class:`AsyncClient` has the same methods for asyncio, and ``client.watch()`` tells what happens. ``aio`` holds the
nouns, ``sync`` is their twin; below both are ``core`` (pipelining, back-pressure, the token), ``line`` (one link, and
another when it breaks) and ``bridge`` (the thread of the blocking client). What enters here knows ``model`` and ``hub``
and nothing of the daemons: this folder runs wherever the cloud is used.
"""

from nova_fast.client.aio.client import AsyncClient
from nova_fast.client.aio.watch import AsyncWatch
from nova_fast.client.settings import ApplicationCredential, Password, Settings, read_file
from nova_fast.client.shapes import Capacity, Created, Flavor, Host, Image, Network, NewServer, Reply, Server, Subnet
from nova_fast.client.sync.client import Client
from nova_fast.client.sync.watch import Watch
from nova_fast.client.watching import Gap
from nova_fast.model.errors import NovaFastError
from nova_fast.model.sdk import HostEvent, HostGone, ServerEvent

__all__ = [
    "ApplicationCredential",
    "AsyncClient",
    "AsyncWatch",
    "Capacity",
    "Client",
    "Created",
    "Flavor",
    "Gap",
    "Host",
    "HostEvent",
    "HostGone",
    "Image",
    "Network",
    "NewServer",
    "NovaFastError",
    "Password",
    "Reply",
    "Server",
    "ServerEvent",
    "Settings",
    "Subnet",
    "Watch",
    "read_file",
]
