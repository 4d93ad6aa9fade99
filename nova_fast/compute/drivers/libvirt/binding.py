"""The one file that touches libvirt-python.

Methods block and are called from worker threads. libvirt's events run on a thread of their own, on libvirt's own poll
loop, and not on asyncio through ``libvirtaio``: libvirt changes its watches from whatever thread makes a call, and
``libvirtaio`` passes that on to the event loop without switching threads, which neither asyncio nor uvloop allows.
Callbacks therefore arrive on the event thread; who gets them hands them over to the loop.

Everything that fails becomes a NovaFastError: Unavailable when the connection has gone, NotFound when the domain has,
Conflict when it is in the wrong state, InternalError with libvirt's own words (without paths) otherwise.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import re
import threading
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from typing import Any

from nova_fast.compute.drivers.libvirt.domain_xml import METADATA_NAMESPACE
from nova_fast.compute.drivers.libvirt.power_states import DomainState, DomainStatus
from nova_fast.model.errors import Conflict, InternalError, NotFound, NotImplementedHere, NovaFastError, Unavailable

_log = logging.getLogger(__name__)
_event_thread_lock = threading.Lock()
_event_thread: threading.Thread | None = None

KEEPALIVE_S = 5  # between questions to libvirtd whether it is there; 3 without answer end the connection
KEEPALIVE_COUNT = 3
UNREACHABLE = "hypervisor_unreachable"
HELPER_AWAY = "hypervisor_helper_away"
NAME_TAKEN = "domain_name_taken"


def _library() -> Any:
    try:
        return importlib.import_module("libvirt")
    except ImportError as e:
        raise NotImplementedHere(
            "libvirt-python is not installed on this host.",
            code="libvirt_missing",
            hint="Install nova-fast[libvirt] (it needs libvirt-dev, pkg-config and a C compiler).",
        ) from e


def _run_events(library: Any) -> None:
    """Turn libvirt's poll loop for ever; a timer keeps it from having nothing to wait for."""
    library.virEventAddTimeout(60_000, lambda *_: None, None)
    while True:
        try:
            library.virEventRunDefaultImpl()
        except library.libvirtError:
            _log.exception("libvirt's event loop failed once")


def _start_event_thread(library: Any) -> None:
    """Register libvirt's event loop and start its thread, once in a process and before the first connection."""
    global _event_thread
    with _event_thread_lock:
        if _event_thread is None:
            library.registerErrorHandler(lambda *_: None, None)  # else every error is also printed
            library.virEventRegisterDefaultImpl()
            _event_thread = threading.Thread(target=_run_events, args=(library,), name="libvirt-events", daemon=True)
            _event_thread.start()


def without_paths(text: str) -> str:
    """A message with every path cut to its last part."""
    return re.sub(r"(?<![\w.:])/(?:[^\s'\"/:,]+/)+([^\s'\"/:,]*)", r"\1", text)


class Connection:
    """A connection to one libvirt daemon."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._library = _library()
        self._connection: Any = None
        self._callback_id: int | None = None

    def open(self, on_event: Callable[[str], None], on_close: Callable[[], None]) -> None:
        """Connect; ``on_event`` gets the UUID of a domain that changed. Both are called on libvirt's event thread.

        Raises Unavailable when libvirtd cannot be reached.
        """
        assert self._connection is None
        library = self._library
        _start_event_thread(library)

        def lifecycle(_connection: Any, domain: Any, _event: int, _detail: int, _opaque: Any) -> None:
            on_event(domain.UUIDString())

        def closed(_connection: Any, _reason: int, _opaque: Any) -> None:
            on_close()

        try:
            self._connection = library.open(self._uri)
            self._connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
            self._connection.registerCloseCallback(closed, None)
            self._callback_id = self._connection.domainEventRegisterAny(
                None, library.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None
            )
        except library.libvirtError as e:
            self.close()
            raise Unavailable(
                f"libvirt at {self._uri} cannot be reached: {e.get_error_message() or e}",
                code=UNREACHABLE,
                hint="Is libvirtd (or virtqemud) running, and may this user connect to it?",
            ) from e

    def close(self) -> None:
        """Close, whatever state the connection is in."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        steps: list[Callable[[], Any]] = [connection.unregisterCloseCallback, connection.close]
        if self._callback_id is not None:
            callback_id = self._callback_id
            steps.insert(0, lambda: connection.domainEventDeregisterAny(callback_id))
        for step in steps:
            try:
                step()
            except self._library.libvirtError as e:
                _log.debug("while closing a libvirt connection: %s", e)

    def capabilities(self) -> str:
        """The XML that describes host and hypervisor; the first call after an installation takes seconds."""
        with self._translated("read the host's capabilities"):
            return str(self._connection.getCapabilities())

    def hypervisor(self) -> tuple[str, int]:
        """Type (QEMU) and version (7.2.19 = 7002019)."""
        with self._translated("read the hypervisor's version"):
            return str(self._connection.getType()), int(self._connection.getVersion())

    def status(self, server_id: str) -> DomainStatus | None:
        """The domain whose UUID is this, or None."""
        with self._translated("look up the guest"):
            try:
                return self._status(self._connection.lookupByUUIDString(server_id))
            except self._library.libvirtError as e:
                if e.get_error_code() == self._library.VIR_ERR_NO_DOMAIN:
                    return None
                raise

    def statuses(self) -> list[DomainStatus]:
        """Every domain of this libvirt, ours or not; one that goes while we look is left out."""
        found = []
        with self._translated("list the guests"):
            for domain in self._connection.listAllDomains():
                try:
                    found.append(self._status(domain))
                except self._library.libvirtError as e:
                    if e.get_error_code() != self._library.VIR_ERR_NO_DOMAIN:
                        raise
        return found

    def define(self, xml: str) -> None:
        """Define a domain or replace the definition of the one with the same UUID. Raises Conflict(NAME_TAKEN)."""
        with self._translated("define the guest"):
            self._connection.defineXML(xml)

    def start(self, server_id: str) -> None:
        """Start a defined domain, from its managed save if it has one; one that runs already is left."""
        with self._translated("start the guest"):
            domain = self._domain(server_id)
            if not domain.isActive():
                domain.create()

    def press_power_button(self, server_id: str) -> None:
        """Ask the guest to shut down (ACPI)."""
        with self._translated("shut the guest down"):
            self._domain(server_id).shutdownFlags(self._library.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)

    def kill(self, server_id: str) -> None:
        """End the QEMU process of a domain, if it has one."""
        with self._translated("power the guest off"):
            domain = self._domain(server_id)
            if not domain.isActive():
                return
            try:
                domain.destroy()
            except self._library.libvirtError:
                if domain.isActive():
                    raise  # else it went off between the look and the kill

    def undefine(self, server_id: str) -> None:
        """Forget a domain with its managed save, snapshots, checkpoints and NVRAM."""
        library = self._library
        with self._translated("remove the guest"):
            self._domain(server_id).undefineFlags(
                library.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | library.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | library.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                | library.VIR_DOMAIN_UNDEFINE_NVRAM
            )

    def suspend(self, server_id: str) -> None:
        """Stop the virtual processors."""
        with self._translated("pause the guest"):
            self._domain(server_id).suspend()

    def resume(self, server_id: str) -> None:
        """Let the virtual processors go on."""
        with self._translated("unpause the guest"):
            self._domain(server_id).resume()

    def managed_save(self, server_id: str) -> None:
        """Write the guest's memory to a file that libvirt keeps, and end QEMU."""
        with self._translated("suspend the guest"):
            self._domain(server_id).managedSave(0)

    def discard_save(self, server_id: str) -> None:
        """Remove the managed save, if there is one."""
        with self._translated("discard the guest's saved memory"):
            domain = self._domain(server_id)
            if domain.hasManagedSaveImage(0):
                domain.managedSaveRemove(0)

    def _domain(self, server_id: str) -> Any:
        return self._connection.lookupByUUIDString(server_id)

    def _status(self, domain: Any) -> DomainStatus:
        state, reason = domain.state()
        return DomainStatus(
            server_id=domain.UUIDString(),
            name=domain.name(),
            state=DomainState(state),
            starting=state == DomainState.PAUSED and reason == self._library.VIR_DOMAIN_PAUSED_STARTING_UP,
            saved=bool(domain.hasManagedSaveImage(0)),
            instances_dir=self._instances_dir(domain),
        )

    def _instances_dir(self, domain: Any) -> str | None:
        library = self._library
        try:
            text = domain.metadata(library.VIR_DOMAIN_METADATA_ELEMENT, METADATA_NAMESPACE, 0)
        except library.libvirtError as e:
            if e.get_error_code() == library.VIR_ERR_NO_DOMAIN_METADATA:
                return None
            raise
        return ET.fromstring(text).get("instances")  # noqa: S314 - libvirt's own words

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        if self._connection is None:
            raise Unavailable("The connection to libvirt is closed.", code=UNREACHABLE)
        try:
            yield
        except self._library.libvirtError as e:
            _log.info("libvirt could not %s: %s", doing, e)
            raise self._error(e, doing) from e

    def _error(self, error: Any, doing: str) -> NovaFastError:
        library, code = self._library, error.get_error_code()
        message = without_paths(str(error.get_error_message() or error)).strip()
        connection = self._connection
        if code == library.VIR_ERR_RPC or connection is None or not connection.isAlive():
            return Unavailable(f"libvirt went away while it was to {doing}.", code=UNREACHABLE)
        # The helper's name stands before these words, or does not: that depends on where libvirt failed.
        if code == library.VIR_ERR_SYSTEM_ERROR and "Failed to connect socket to" in message:
            return Unavailable(
                f"Cannot {doing}: libvirt does not reach a daemon that it needs: {message}",
                code=HELPER_AWAY,
                hint="Start virtlogd on this host.",
            )
        if code == library.VIR_ERR_NO_DOMAIN:
            return NotFound(f"Cannot {doing}: there is none on this host.")
        if code == library.VIR_ERR_OPERATION_FAILED and "already exists with uuid" in message:
            return Conflict(f"Cannot {doing}: {message}", code=NAME_TAKEN)
        if code == library.VIR_ERR_OPERATION_INVALID:
            return Conflict(f"Cannot {doing}: {message}")
        if code in (library.VIR_ERR_OPERATION_TIMEOUT, library.VIR_ERR_RESOURCE_BUSY):
            return Unavailable(f"Cannot {doing} now: {message}")
        return InternalError(f"Cannot {doing}: {message}", code="hypervisor_error")
