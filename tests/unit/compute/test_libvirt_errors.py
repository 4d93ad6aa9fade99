"""What libvirt says becomes the error that callers act on."""

from __future__ import annotations

from typing import Any

import pytest

from nova_fast.compute.drivers.libvirt.binding import HELPER_AWAY, UNREACHABLE, Connection
from nova_fast.model.errors import InternalError, NovaFastError, Unavailable

libvirt = pytest.importorskip("libvirt")


class Failure:
    """An error as libvirt-python hands it out."""

    def __init__(self, code: int, message: str) -> None:
        self._code, self._message = code, message

    def get_error_code(self) -> int:
        return self._code

    def get_error_message(self) -> str:
        return self._message


class Open:
    """A connection that is there, or not."""

    def __init__(self, alive: bool) -> None:
        self._alive = alive

    def isAlive(self) -> bool:
        return self._alive


def error_of(code: int, message: str, *, alive: bool = True) -> NovaFastError:
    connection: Any = Connection("qemu:///system")
    connection._connection = Open(alive)
    found: NovaFastError = connection._error(Failure(code, message), "start the guest")
    return found


@pytest.mark.parametrize(
    "message",
    [
        "Failed to connect socket to '/run/libvirt/virtlogd-sock': Connection refused",
        "can't connect to virtlogd: Failed to connect socket to '/run/libvirt/virtlogd-sock': Connection refused",
    ],
)
def test_a_helper_of_libvirt_that_is_away_is_waited_for(message: str) -> None:
    found = error_of(libvirt.VIR_ERR_SYSTEM_ERROR, message)
    assert isinstance(found, Unavailable) and found.code == HELPER_AWAY
    assert "/run" not in found.message


def test_a_connection_that_is_gone_is_waited_for() -> None:
    found = error_of(libvirt.VIR_ERR_INTERNAL_ERROR, "End of file while reading data", alive=False)
    assert isinstance(found, Unavailable) and found.code == UNREACHABLE


def test_what_nobody_knows_is_told_in_libvirts_words_without_paths() -> None:
    found = error_of(libvirt.VIR_ERR_SYSTEM_ERROR, "cannot open file '/var/lib/guests/disk': No such file")
    assert isinstance(found, InternalError) and found.message == (
        "Cannot start the guest: cannot open file 'disk': No such file"
    )
