"""Which images a caller may see, and lists of them.

Source: Image API v2, ``GET /v2/images``. An admin sees every image. Anybody else sees public and community images, the
project's own, and shared ones that the project was offered. A list without ``visibility`` leaves the community images
of others out, and of shared ones has those whose offer the project accepted (``member_status`` chooses others).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nova_fast.model.base import Value
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, ImageStatus, Visibility
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "neq": operator.ne,
}
#: attribute of a filter or a sort key → where it is found in an image.
ATTRIBUTES: dict[str, Callable[[Image], Any]] = {
    "id": lambda image: image.id,
    "name": lambda image: image.name,
    "status": lambda image: image.status.value,
    "container_format": lambda image: image.container_format,
    "disk_format": lambda image: image.disk_format,
    "owner": lambda image: image.project_id,
    "checksum": lambda image: image.checksum,
    "os_hash_algo": lambda image: "sha512" if image.hash_value else None,
    "os_hash_value": lambda image: image.hash_value,
    "size": lambda image: image.size,
    "virtual_size": lambda image: image.virtual_size,
    "min_disk": lambda image: image.min_disk_gib,
    "min_ram": lambda image: image.min_ram_mib,
    "protected": lambda image: image.protected,
    "os_hidden": lambda image: image.hidden,
    "visibility": lambda image: image.visibility.value,
    "created_at": lambda image: image.created_at_us,
    "updated_at": lambda image: image.updated_at_us,
}
SORT_KEYS = frozenset(
    {"id", "name", "status", "container_format", "disk_format", "owner", "size", "created_at", "updated_at"}
)
NEWEST_FIRST = (("created_at", True),)
COMPARISONS = frozenset(_COMPARISONS)


class ImageFilter(Value, frozen=True):
    """What a list asks for; every condition must hold."""

    one_of: dict[str, tuple[str, ...]] = {}  # attribute → accepted values, as text
    numbers: dict[str, int] = {}  # min_disk, min_ram, size, virtual_size → exact value
    times: tuple[tuple[str, str, int], ...] = ()  # (created_at or updated_at, comparison, microseconds)
    properties: dict[str, str] = {}
    tags: tuple[str, ...] = ()
    visibility: str | None = None  # None = the default list, "all" = community images too
    member_status: str = "accepted"  # or pending, rejected, all
    protected: bool | None = None
    hidden: bool = False
    size_min: int | None = None  # bytes
    size_max: int | None = None
    sort: tuple[tuple[str, bool], ...] = NEWEST_FIRST  # (key, descending?)
    marker: str | None = None
    limit: int = 25


def may_see(image: Image, caller: Caller) -> bool:
    """Whether the image exists for the caller, when asked for by its id."""
    if caller.is_admin or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY):
        return True
    if not caller.project_id:
        return False
    if image.project_id == caller.project_id:
        return True
    return image.visibility is Visibility.SHARED and caller.project_id in image.members


def get(reader: Reader, image_id: str, caller: Caller) -> Image:
    """An image the caller may see. Raises NotFound."""
    image = reader.get(tables.IMAGES, image_id)
    if image is None or not may_see(image, caller):
        raise NotFound(f"No image found with ID {image_id}", code="image_not_found")
    return image


def find_all(reader: Reader) -> Iterator[Image]:
    """Every image, for what the cloud itself has to look after."""
    return reader.scan(tables.IMAGES)


def ids_with_files(reader: Reader) -> frozenset[str]:
    """The images whose bytes must be kept in the image store."""
    with_files = (ImageStatus.ACTIVE, ImageStatus.DEACTIVATED)
    return frozenset(image.id for image in find_all(reader) if image.status in with_files)


def listing(reader: Reader, wanted: ImageFilter, caller: Caller) -> list[Image]:
    """One page. Raises BadRequest for a marker that is no image the caller sees.

    In the default order it reads no further than the page; any other order reads all that is visible.
    """
    marker = None
    if wanted.marker is not None:
        marker = reader.get(tables.IMAGES, wanted.marker)
        if marker is None or not may_see(marker, caller):
            raise BadRequest(f"Invalid marker. Image {wanted.marker} could not be found.", field="marker")
    if wanted.sort == NEWEST_FIRST and "id" not in wanted.one_of:
        rows = reader.scan_index(tables.IMAGES_BY_CREATED, after=marker)
        return _take((image for image in rows if _matches(image, wanted, caller)), wanted.limit)
    found = [image for image in _candidates(reader, wanted) if _matches(image, wanted, caller)]
    if marker is not None and all(image.id != marker.id for image in found):
        found.append(marker)
    ordered = _sorted(found, wanted.sort)
    if marker is not None:
        ordered = ordered[[image.id for image in ordered].index(marker.id) + 1 :]
    return ordered[: wanted.limit]


def _take(rows: Iterable[Image], limit: int) -> list[Image]:
    found: list[Image] = []
    if limit == 0:
        return found
    for image in rows:
        found.append(image)
        if len(found) == limit:
            break
    return found


def _candidates(reader: Reader, wanted: ImageFilter) -> Iterable[Image]:
    ids = wanted.one_of.get("id")
    if ids is None:
        return reader.scan(tables.IMAGES)
    found = (reader.get(tables.IMAGES, image_id) for image_id in dict.fromkeys(ids))
    return [image for image in found if image is not None]


def _sorted(found: list[Image], sort: tuple[tuple[str, bool], ...]) -> list[Image]:
    keys = [*sort, *((key, True) for key in ("created_at", "id") if key not in dict(sort))]
    for key, descending in reversed(keys):
        found.sort(key=_none_first(ATTRIBUTES[key]), reverse=descending)
    return found


def _none_first(attribute: Callable[[Image], Any]) -> Callable[[Image], tuple[Any, ...]]:
    def key(image: Image) -> tuple[Any, ...]:
        value = attribute(image)
        return (False,) if value is None else (True, value)

    return key


def _matches(image: Image, wanted: ImageFilter, caller: Caller) -> bool:
    return (
        _listed(image, wanted, caller)
        and image.hidden == wanted.hidden
        and wanted.protected in (None, image.protected)
        and all(_text(ATTRIBUTES[name](image)) in values for name, values in wanted.one_of.items())
        and all(ATTRIBUTES[name](image) == number for name, number in wanted.numbers.items())
        and all(_COMPARISONS[how](_seconds(ATTRIBUTES[name](image)), _seconds(at)) for name, how, at in wanted.times)
        and all(image.properties.get(name) == value for name, value in wanted.properties.items())
        and all(tag in image.tags for tag in wanted.tags)
        and (wanted.size_min is None or (image.size is not None and image.size >= wanted.size_min))
        and (wanted.size_max is None or (image.size is not None and image.size <= wanted.size_max))
    )


def _listed(image: Image, wanted: ImageFilter, caller: Caller) -> bool:
    own = bool(caller.project_id) and image.project_id == caller.project_id
    if wanted.visibility is None:
        if image.visibility is Visibility.COMMUNITY and not own:
            return False
    elif wanted.visibility not in ("all", image.visibility.value):
        return False
    if own or caller.is_admin or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY):
        return True
    status = image.members.get(caller.project_id) if image.visibility is Visibility.SHARED else None
    return status is not None and wanted.member_status in ("all", status)


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _seconds(at_us: int) -> int:
    """Times are shown, and so compared, in whole seconds."""
    return at_us // 1_000_000
