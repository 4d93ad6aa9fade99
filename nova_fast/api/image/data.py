"""The bytes of images: upload and download.

Source: Image API v2, "Image data". An upload is reserved first (so there is one at a time), then streamed into the
image store; the image becomes active only after its bytes are durable. Whatever goes wrong before, it is queued again.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.image.face import face
from nova_fast.image import inspect
from nova_fast.image.store import ImageStore, Received, Upload
from nova_fast.model.commands.images import AbortUpload, BeginUpload, FinishUpload, ImageResult
from nova_fast.model.errors import BadRequest, Forbidden, NotFound, NovaFastError, TooLarge
from nova_fast.model.images import Image, ImageStatus
from nova_fast.queries import images

OCTETS = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(?:\d{1,19}|\*)")


@face.route(
    "PUT",
    "/images/{image_id}/file",
    ok=204,
    errors=(400, 403, 404, 409, 413, 415, 503),
    policy="member",
    stream=True,
    media=(OCTETS,),
)
async def upload(request: Request, image_id: str) -> None:
    """Take the bytes of a queued image."""
    store = request.services.get(ImageStore)
    declared = request.header("content-length")
    largest = request.config.image.max_image_bytes
    if declared is not None and declared.isdecimal() and int(declared) > largest:
        raise TooLarge(f"The image is larger than {largest} bytes, the most this cloud takes.", code="image_too_large")
    with request.snapshot() as snapshot:
        images.get(snapshot, image_id, request.caller)  # an image that is not there is not "being uploaded"
    async with store.upload(image_id) as place:
        begun: ImageResult = await request.command(BeginUpload(caller=request.caller, image_id=image_id))
        image = begun.image
        try:
            received = await _receive(request, place, image)
        except BaseException:
            # Also when the client went away: the reservation must not outlive this request.
            await asyncio.shield(_abort(request, image.id))
            raise
        await asyncio.shield(_finish(request, store, image.id, received))


async def _receive(request: Request, place: Upload, image: Image) -> Received:
    assert image.disk_format is not None, "an upload was reserved for an image without a format"
    inspect.check_supported(image.disk_format)
    if image.container_format != "bare":
        raise BadRequest(
            f"Images of container_format {image.container_format} cannot be used here; use bare.",
            code="image_container_unsupported",
            field="container_format",
        )
    return await place.receive(request.stream, image.disk_format)


async def _finish(request: Request, store: ImageStore, image_id: str, received: Received) -> None:
    try:
        await request.command(
            FinishUpload(
                caller=request.caller,
                image_id=image_id,
                size=received.size,
                virtual_size=received.virtual_size,
                checksum=received.checksum,
                hash_value=received.hash_value,
            )
        )
    except NotFound:
        # Deleted while its bytes came: nobody else will remove them.
        await asyncio.to_thread(store.remove, image_id)
        raise
    except NovaFastError:
        await _abort(request, image_id)
        raise


async def _abort(request: Request, image_id: str) -> None:
    with suppress(NotFound):
        await request.command(AbortUpload(caller=request.caller, image_id=image_id))


@face.route("GET", "/images/{image_id}/file", errors=(400, 403, 404, 416), policy="reader", gives_stream=True)
async def download(request: Request, image_id: str) -> Answer:
    """Give the bytes of an image, or one range of them; 204 when it has none."""
    with request.snapshot() as snapshot:
        image = images.get(snapshot, image_id, request.caller)
    if image.status is ImageStatus.DEACTIVATED and not request.caller.is_admin:
        raise Forbidden(f"The requested image {image_id} has been deactivated.", code="image_deactivated")
    if image.status not in (ImageStatus.ACTIVE, ImageStatus.DEACTIVATED):
        return Answer(status=204)
    assert image.size is not None, "an active image has a size"
    begin, end = _range(request, image.size)
    if begin >= end:
        return face.problem(416, f"The range lies outside the {image.size} bytes of the image.")
    whole = (begin, end) == (0, image.size)
    stream = await request.services.get(ImageStore).read(image.id, begin, end - begin)
    headers = {"content-length": str(end - begin), "accept-ranges": "bytes"}
    if whole:
        headers["content-md5"] = image.checksum or ""
        return Answer(stream=stream, headers=headers, content_type=OCTETS)
    headers["content-range"] = f"bytes {begin}-{end - 1}/{image.size}"
    return Answer(status=206, stream=stream, headers=headers, content_type=OCTETS)


def _range(request: Request, size: int) -> tuple[int, int]:
    """First byte and the one behind the last; empty for a range the file does not have. Raises BadRequest."""
    text, form = request.header("range"), _RANGE
    if text is None:
        text, form = request.header("content-range"), _CONTENT_RANGE
    if text is None:
        return 0, size
    match = form.fullmatch(text.strip())
    if match is None or match[1] == match[2] == "":
        raise BadRequest(f"Invalid range {text[:80]}: give one range of bytes.", code="bad_range", field="range")
    if match[1] == "":
        begin, end = max(0, size - int(match[2])), size
    else:
        begin, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    return begin, end
