"""Cutting established flows: a removed rule must stop what it let through, not only what comes later.

The conntrack program is used where it is there, as it walks a large table fast; else the kernel is asked by netlink.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import shutil
import socket
import subprocess
from typing import Any

from nova_fast.model.errors import Unavailable

_TIMEOUT_S = 10.0
_WHOLE_ZONE_ABOVE = 8  # addresses; more than that and the zone is emptied at once


def cut(flows: dict[int, set[str]]) -> None:
    """Forget the flows from and to these addresses, zone by zone. Raises Unavailable when it cannot."""
    program = shutil.which("conntrack")
    for zone, addresses in flows.items():
        if program is None:
            _cut_by_netlink(zone, addresses)
        elif len(addresses) > _WHOLE_ZONE_ABOVE:
            for family in sorted({_family(address) for address in addresses}):
                _run(program, "-D", "-f", family, "-w", str(zone))
        else:
            for address in sorted(addresses):
                for side in ("-s", "-d"):
                    _run(program, "-D", "-f", _family(address), "-w", str(zone), side, address)


def _family(address: str) -> str:
    return "ipv6" if ipaddress.ip_address(address).version == 6 else "ipv4"


def _run(*words: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"conntrack did not answer in {_TIMEOUT_S:g} s") from None
    # conntrack exits 1 as well when no flow matched, and then says "0 flow entries have been deleted".
    if done.returncode and "flow entries" not in done.stderr:
        raise Unavailable(f"conntrack failed: {done.stderr.strip()}")


def _cut_by_netlink(zone: int, addresses: set[str]) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    loop = asyncio.SelectorEventLoop()  # by name, see links.netlink
    try:
        for family in sorted({_family(address) for address in addresses}):
            number = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
            loop.run_until_complete(_cut_family(number, zone, addresses))
    except NetlinkError as error:
        raise Unavailable(f"established flows cannot be cut: {error}", hint="install conntrack") from error
    finally:
        loop.close()


async def _cut_family(family: int, zone: int, addresses: set[str]) -> None:
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import AsyncNFCTSocket, NFCTAttrTuple

    kernel = AsyncNFCTSocket(nfgen_family=family)
    try:
        entries = [entry async for entry in await kernel.dump()]
        for entry in entries:
            if entry.get_attr("CTA_ZONE") != zone or not _ends(entry) & addresses:
                continue
            flow = NFCTAttrTuple.from_netlink(family, entry.get_attr("CTA_TUPLE_ORIG"))
            try:
                await kernel.entry("del", tuple_orig=flow, zone=zone)
            except NetlinkError as error:
                if error.code != errno.ENOENT:  # it ended meanwhile
                    raise
    finally:
        kernel.close()


def _ends(entry: Any) -> set[str]:
    """The addresses of a flow's first packet."""
    attributes = entry.get_attr("CTA_TUPLE_ORIG").get_attr("CTA_TUPLE_IP")["attrs"]
    return {value for name, value in attributes if name.startswith("CTA_IP_")}
