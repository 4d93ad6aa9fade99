"""Watch a server being made, and go on from a place that was kept: what a program does that was restarted."""

from __future__ import annotations

from common import image_and_network

from nova_fast.client import Client, Gap, NewServer, ServerEvent

with Client.connect() as cloud:
    image, network = image_and_network(cloud)

    watch = cloud.watch()
    place = watch.start()  # "now": nothing after this can be missed
    made = cloud.servers.create(NewServer(name="seen", flavor="1", image=image, networks=(network,)))

    for event in watch:
        if isinstance(event, Gap):  # we were away for longer than events are kept
            print("some events are kept no more: read again what you know")
        elif isinstance(event, ServerEvent) and event.server_id == made.id:
            print(f"{event.generation}: {event.status} {event.task_state or ''} {event.host}")
            if event.status == "ACTIVE":
                break

    # Another program, tomorrow, after a restart of everything: the same events again, from the place that was kept.
    for event in cloud.watch(since=place):
        if isinstance(event, ServerEvent) and event.server_id == made.id and event.status == "ACTIVE":
            print(f"again: {event.generation}")
            break
    cloud.servers.delete(made.id)
