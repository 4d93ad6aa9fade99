"""How many more would fit? Ask the scheduler's own table before you promise or buy anything; nothing is taken."""

from __future__ import annotations

from nova_fast.client import Client

with Client.connect() as cloud:
    for flavor in cloud.flavors.list():
        answer = cloud.hosts.capacity(flavor)
        print(f"{flavor.name:12} {answer.servers:8} more on {answer.hosts} hosts, first on {answer.first_host}")

    # What would be without room says which filter left how many hosts, and what would help.
    monster = cloud.flavors.create("monster", vcpus=100_000, ram_mib=1024, disk_gib=1)
    answer = cloud.hosts.capacity(monster)
    print(f"{monster.name:12} {answer.servers:8} more: {answer.hint}")
    for count in answer.filters:
        print(f"    {count.filter:30} {count.before} hosts before, {count.after} after")
    cloud.flavors.delete(monster.id)
