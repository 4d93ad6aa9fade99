"""The PCI devices of a machine that servers may have: those that the option ``pci_device_spec`` names, in pools.

What a device is the kernel says in sysfs: a virtual function names its card, a card says how many it can be cut into.
The option is Nova's ``[pci]device_spec``: vendor, product, an address with wildcards or regular expressions or the name
of a network device (which also means the virtual functions of that card), and tags that aliases may ask for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from nova_fast.model.errors import BadRequest
from nova_fast.model.topology import PciPool
from nova_fast.model.words import TRUE_WORDS

SYSFS = Path("/sys/bus/pci/devices")
_FIELD = "compute.pci_device_spec"
_PARTS = (("domain", 4, 0xFFFF), ("bus", 2, 0xFF), ("slot", 2, 0x1F), ("function", 1, 0x7))
_ADDRESS = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")
_ANY = "*"
_BOOLEANS = ("remote_managed", "live_migratable")


class PciDevice(NamedTuple):
    """A device as the kernel tells it."""

    address: str
    vendor_id: str
    product_id: str
    device_type: str  # type-PCI, type-PF, type-VF, vdpa
    numa_node: int | None = None
    parent: str = ""  # of a virtual function: its card
    names: tuple[str, ...] = ()  # of its network devices


class DeviceSpec(NamedTuple):
    """One entry of the option."""

    vendor_id: str  # or *
    product_id: str
    address: tuple[re.Pattern[str], ...] | None  # of domain, bus, slot, function; None = named by devname
    card: str  # the address of one device, which stands for its virtual functions as well; "" = none
    devname: str
    tags: dict[str, str]

    def matches(self, device: PciDevice, names: dict[str, PciDevice]) -> bool:
        """Whether a device is one of these; ``names`` are all devices by the names of their network devices."""
        if self.vendor_id not in (_ANY, device.vendor_id) or self.product_id not in (_ANY, device.product_id):
            return False
        if self.address is None:
            named = names.get(self.devname)
            return named is not None and named.address in (device.address, device.parent)
        if self.card and device.parent == self.card:
            return True
        found = _ADDRESS.fullmatch(device.address)
        return found is not None and all(
            part.match(text) for part, text in zip(self.address, found.groups(), strict=True)
        )


def read_devices(folder: Path = SYSFS) -> list[PciDevice]:
    """Every PCI device, by address. One that goes while it is looked at is left out."""
    found = []
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            found.append(_read_device(entry))
        except (OSError, ValueError):
            continue
    return found


def _read_device(entry: Path) -> PciDevice:
    node = int(_text(entry / "numa_node") or "-1")
    parent = (entry / "physfn").resolve().name if (entry / "physfn").exists() else ""
    is_card = int(_text(entry / "sriov_totalvfs") or "0") > 0
    kind = "type-VF" if parent else "type-PF" if is_card else "type-PCI"
    if parent and any(child.name.startswith("vdpa") for child in entry.iterdir()):
        kind = "vdpa"
    names = tuple(sorted(one.name for one in (entry / "net").iterdir())) if (entry / "net").is_dir() else ()
    return PciDevice(
        address=entry.name,
        vendor_id=f"{int((entry / 'vendor').read_text(), 16):04x}",
        product_id=f"{int((entry / 'device').read_text(), 16):04x}",
        device_type=kind,
        numa_node=node if node >= 0 else None,
        parent=parent,
        names=names,
    )


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def told_pools(devices: Iterable[PciDevice], specs: tuple[str, ...]) -> tuple[PciPool, ...]:
    """The devices that the option names, those alike in one pool. Raises BadRequest for an entry that is none."""
    known = list(devices)
    read = [_read_spec(text, known) for text in specs]
    names = {name: device for device in known for name in device.names}
    pools: dict[tuple[Any, ...], list[PciDevice]] = {}
    for device in known:
        spec = next((one for one in read if one.matches(device, names)), None)  # the first that names it
        if spec is not None:
            alike = (device.vendor_id, device.product_id, device.device_type, device.numa_node)
            pools.setdefault((*alike, tuple(sorted(spec.tags.items()))), []).append(device)
    return tuple(
        [
            PciPool(
                vendor_id=vendor, product_id=product, count=len(alike), device_type=kind, numa_node=node,
                tags=dict(tags),
                addresses=tuple([device.address for device in alike]),
                parents=tuple([device.parent for device in alike]) if any(one.parent for one in alike) else (),
            )
            for (vendor, product, kind, node, tags), alike in pools.items()
        ]
    )  # fmt: skip


def _read_spec(text: str, devices: list[PciDevice]) -> DeviceSpec:
    try:
        entry = json.loads(text)
        address, devname = entry.pop("address", None), str(entry.pop("devname", ""))
        vendor, product = (_hex(entry.pop(name, _ANY), 4, 0xFFFF) for name in ("vendor_id", "product_id"))
        if address and devname:
            raise _refused(text, "an address or a devname, not both")
        patterns = _patterns(_ANY if address is None else address)
    except (ValueError, AttributeError, TypeError, re.error) as error:
        raise _refused(text, '{"vendor_id": …, "product_id": …, "address": …} in JSON') from error
    for name in ("managed", "one_time_use"):
        asked = str(entry.pop(name, "")).lower()
        if asked and (asked in TRUE_WORDS) != (name == "managed"):
            raise _refused(
                text, f"{name} cannot be {asked} here: libvirt takes devices from the host and gives them back"
            )
    tags = {name: _tag(name, str(value)) for name, value in entry.items()}
    card = address if isinstance(address, str) and _ADDRESS.fullmatch(address) else ""
    if card and not any(one.address == card and one.device_type == "type-PF" for one in devices):
        card = ""
    return DeviceSpec(vendor, product, None if devname else patterns, card, devname, tags)


def _tag(name: str, value: str) -> str:
    return ("true" if value.lower() in TRUE_WORDS else "false") if name in _BOOLEANS else value


def _patterns(address: Any) -> tuple[re.Pattern[str], ...]:
    """Regular expressions of a dict as they are, others as wildcards: parts that are left out mean any."""
    if isinstance(address, dict):
        return tuple([re.compile(str(address.get(name, ".*"))) for name, _, _ in _PARTS])
    before, _dot, function = address.partition(".")
    parts = before.split(":") if before else []
    if len(parts) > 3:
        raise ValueError(address)
    parts = [*[_ANY] * (3 - len(parts)), *parts, function]
    wanted = [_hex(part, width, most) for part, (_, width, most) in zip(parts, _PARTS, strict=True)]
    return tuple([re.compile(".*" if part == _ANY else re.escape(part) + "$") for part in wanted])


def _hex(text: Any, width: int, most: int) -> str:
    text = str(text).strip() or _ANY
    if text == _ANY:
        return _ANY
    number = int(text, 16)
    if not 0 <= number <= most:
        raise ValueError(text)
    return f"{number:0{width}x}"


def _refused(text: str, hint: str) -> BadRequest:
    return BadRequest(f"{text!r} names no PCI devices.", field=_FIELD, hint=hint)
