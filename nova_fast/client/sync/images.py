"""Images: what a server boots from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from nova_fast.client.answers import Many, One, check
from nova_fast.client.bridge import Core
from nova_fast.client.requests import new_key, path_of, query_of
from nova_fast.client.shapes import Image
from nova_fast.model.sdk import Ask

_IMAGE = One(Image)
_IMAGES = Many(Image, "images")
_PATH = "/v2/images"
_BYTES = {"content-type": "application/octet-stream"}


class Images:
    """``cloud.images``."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def list(self, **filters: Any) -> Iterator[Image]:
        """The images one may use, page by page; filters as the Image API has them."""
        marker = ""
        more = True
        while more:
            target = f"{_PATH}{query_of(filters, marker)}"
            rows, more = _IMAGES.read(self._core.ask(Ask("image", "GET", target), alone=True))
            yield from rows
            marker = rows[-1].id if rows else ""

    def get(self, image_id: str) -> Image:
        """One image. Raises NotFound."""
        return _IMAGE.read(self._core.ask(Ask("image", "GET", path_of(_PATH, image_id))))

    def create(self, name: str, data: bytes, *, disk_format: str = "raw", **properties: str) -> Image:
        """Make an image of bytes, up to 16 MiB; larger ones are uploaded over REST."""
        body = {"name": name, "disk_format": disk_format, "container_format": "bare", **properties}
        asked = Ask("image", "POST", _PATH, msgspec.json.encode(body), new_key())
        made = _IMAGE.read(self._core.ask(asked))
        target = f"{path_of(_PATH, made.id)}/file"
        check(self._core.ask(Ask("image", "PUT", target, data, headers=_BYTES), alone=True))
        return self.get(made.id)

    def delete(self, image_id: str) -> None:
        check(self._core.ask(Ask("image", "DELETE", path_of(_PATH, image_id))))
