"""Images: what a server boots from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from nova_fast.client.answers import Many, One, check
from nova_fast.client.core import AsyncCore
from nova_fast.client.requests import new_key, path_of, query_of
from nova_fast.client.shapes import Image
from nova_fast.model.sdk import Ask

_IMAGE = One(Image)
_IMAGES = Many(Image, "images")
_PATH = "/v2/images"
_BYTES = {"content-type": "application/octet-stream"}


class AsyncImages:
    """``cloud.images``."""

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def list(self, **filters: Any) -> AsyncIterator[Image]:
        """The images one may use, page by page; filters as the Image API has them."""
        marker = ""
        more = True
        while more:
            target = f"{_PATH}{query_of(filters, marker)}"
            rows, more = _IMAGES.read(await self._core.ask(Ask("image", "GET", target), alone=True))
            for image in rows:
                yield image
            marker = rows[-1].id if rows else ""

    async def get(self, image_id: str) -> Image:
        """One image. Raises NotFound."""
        return _IMAGE.read(await self._core.ask(Ask("image", "GET", path_of(_PATH, image_id))))

    async def create(self, name: str, data: bytes, *, disk_format: str = "raw", **properties: str) -> Image:
        """Make an image of bytes, up to 16 MiB; larger ones are uploaded over REST."""
        body = {"name": name, "disk_format": disk_format, "container_format": "bare", **properties}
        asked = Ask("image", "POST", _PATH, msgspec.json.encode(body), new_key())
        made = _IMAGE.read(await self._core.ask(asked))
        target = f"{path_of(_PATH, made.id)}/file"
        check(await self._core.ask(Ask("image", "PUT", target, data, headers=_BYTES), alone=True))
        return await self.get(made.id)

    async def delete(self, image_id: str) -> None:
        check(await self._core.ask(Ask("image", "DELETE", path_of(_PATH, image_id))))
