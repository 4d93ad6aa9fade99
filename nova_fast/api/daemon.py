"""nova-api: one worker that serves every face, each on its own port.

Workers share the ports through SO_REUSEPORT and nothing else: each reads the store for itself and has its own link to
the conductor. Answers to reads come from the map in process; whatever changes something goes through the conductor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Iterator

import uvicorn

from nova_fast import logs
from nova_fast.api.app import FACES, build_app, port_of
from nova_fast.api.framework.build import Application
from nova_fast.api.framework.log import access_log
from nova_fast.api.framework.request import Runtime, Services
from nova_fast.api.http_protocol import BoundedProtocol
from nova_fast.api.zmq.door import Door
from nova_fast.config import Config, ConfigError
from nova_fast.daemon import run_daemon, settle_memory
from nova_fast.hub.local import local_peer
from nova_fast.hub.peer import Peer
from nova_fast.image.store import ImageStore
from nova_fast.model.base import Message
from nova_fast.model.tasks import ServiceReport
from nova_fast.queries.images import ids_with_files
from nova_fast.queries.reading import open_when_made

log = logging.getLogger(__name__)

BACKLOG = 2048
COMMAND_TIMEOUT_S = 30
SHUTDOWN_TIMEOUT_S = 5
KEEP_ALIVE_S = 75
READER_CHECK_S = 60


def main(config: Config, worker: int = 0) -> int:
    """Run one API worker in the foreground. Returns the exit code."""
    return run_daemon(config, lambda stop: serve(config, worker, stop))


class HubCommander:
    """Sends commands to the conductor, which answers when they are durable."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def run(self, command: Message, request_id: str) -> Awaitable[Message]:
        """Do a command. Raises NovaFastError: the command's own, or Unavailable when the conductor does not answer."""
        return self._peer.call(command, timeout_s=COMMAND_TIMEOUT_S)


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the daemon has that."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(config: Config, worker: int, stop: asyncio.Event) -> int:
    """Serve until ``stop`` is set."""
    store = await open_when_made(config.store_path, stop)
    if store is None:
        return 0
    peer = local_peer(f"api.{worker}", config)
    report = ServiceReport(name=f"api.{worker}", binary="nova-api", host=config.host_name, zone="internal")
    peer.heartbeat = lambda: report
    await peer.start()
    images = ImageStore(config.images_path, config.image.max_image_bytes)
    if worker == 0:
        with store.snapshot() as snapshot:
            known = ids_with_files(snapshot)
        images.sweep(known)
    commander, services = HubCommander(peer), Services(images, peer)
    app = build_app(config, store, commander, services)
    try:
        sockets = [_listen(config.api.listen, port_of(config.api, face)) for face in FACES]
        door = Door(config, worker, app, Runtime(config, store, commander, services))
        await door.start()
    except (OSError, ConfigError) as error:
        log.error("the API cannot listen on %s: %s", config.api.listen, error)
        await peer.close()
        return 1
    server = _server(app)
    settle_memory()
    access_log.open(logs.stderr)
    serving = asyncio.ensure_future(server.serve(sockets=sockets))
    log.info("nova-api worker %d serves on %s", worker, config.api.listen)
    try:
        while not stop.is_set() and not serving.done():
            stopping = asyncio.ensure_future(stop.wait())
            await asyncio.wait({stopping, serving}, timeout=READER_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            store.reader_check()
    finally:
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        await door.close()
        access_log.close()
        await peer.close()
        store.close()
    return 0


def _server(app: Application) -> _Server:
    """The HTTP server, with everything off that the framework does itself."""
    return _Server(
        uvicorn.Config(
            app,
            http=BoundedProtocol,
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            backlog=BACKLOG,
        )
    )


def _listen(address: str, port: int) -> socket.socket:
    """A listening socket that other workers may share."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"{address}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener
