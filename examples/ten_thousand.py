"""Ten thousand servers in one call, and how to look at them: python examples/ten_thousand.py [HOW MANY]."""

from __future__ import annotations

import sys
import time

from common import image_and_network, no_limits

from nova_fast.client import Client, NewServer

count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000

with Client.connect() as cloud:
    no_limits(cloud)
    image, network = image_and_network(cloud)
    fleet = NewServer(name="fleet", flavor="1", image=image, networks=(network,))

    # One transaction: all of them, or none. With all_or_nothing=False: as many as the quota allows.
    began_s = time.monotonic()
    made = cloud.servers.create(fleet, count=count, all_or_nothing=True)
    print(f"{len(made.ids)} servers accepted and durable after {time.monotonic() - began_s:.2f} s")

    # Reads travel together in messages of 64, so thousands a second need no thread.
    began_s = time.monotonic()
    servers = cloud.servers.get_many(made.ids)
    seconds = time.monotonic() - began_s
    print(f"read them one by one in {seconds:.2f} s: {len(servers) / seconds:.0f}/s, the last is {servers[-1].name}")

    cloud.servers.delete_many(made.ids)
    cloud.servers.wait(made.ids, "DELETED", timeout_s=600)
    print("and gone")
