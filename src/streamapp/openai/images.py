"""Ask an endpoint for pictures as OpenAI's `/v1/images/generations` does, and tell its previews and pictures.

The endpoint is an ordinary one of the app: its input has a `prompt`, it may emit previews, and its result holds `image`
or `images`. What a request says besides goes to the fields that the input has; what it has none for is refused where it
would change the pictures. Pictures are those of the job's log, converted to the format that is asked for, PNG where
none is, as documented.

Source: https://platform.openai.com/docs/api-reference/images, and the types of `openai` 3.57.

Divergence: no tokens are counted here: `usage` of the last event, which clients expect, is zeros, and a whole answer
has none.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import pybase64
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import Response

from ..endpoint import EndpointSpec
from ..errors import DefinitionError, NotEncodable
from ..jobs.events import Event, encode
from ..jobs.job import Job
from ..media import Image, ImageFormat, is_data_uri, shown
from ..stores.files import FileStore
from ..workers.binding import url_of
from .asked import Asked, fields_of, file_at, own_fields, read_body, refusal

_FORMATS: dict[str, ImageFormat] = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}
_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
# What a request may say of the pictures, with the values that say what holds anyway: OpenAI's defaults, old and new.
_USUAL = {"quality": ("auto", "standard"), "background": ("auto", "opaque"), "style": ("vivid",)}


class _Body(BaseModel):
    """Hold what OpenAI documents; the others of its fields, as of GIFs, count as unknown."""

    model_config = ConfigDict(strict=True)

    prompt: Annotated[str, Field(min_length=1)]
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=10)] | None = None
    size: Annotated[str, Field(pattern=r"^(auto|[1-9]\d{0,4}x[1-9]\d{0,4})$")] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    moderation: Literal["low", "auto"] | None = None
    background: Literal["transparent", "opaque", "auto"] | None = None
    quality: str | None = None
    style: str | None = None
    user: str | None = None
    safety_identifier: str | None = None


_DOCUMENTED = frozenset(_Body.model_fields)
# What is never an input's: which app it is for, and how it is answered.
_OURS = {"model", "stream", "partial_images", "response_format"}


class Images:
    """Ask one endpoint for pictures.

    Args:
        adapter: of the endpoint's input.
        files: the server's, where pictures are kept that are asked for by URL.
    Raises:
        DefinitionError: the endpoint cannot be asked so.
    """

    def __init__(self, spec: EndpointSpec, adapter: TypeAdapter[Any], files: FileStore) -> None:
        self._spec = spec
        self._files = files
        self._fields = fields_of(adapter)
        self._passed = self._fields - _OURS
        if "prompt" not in self._fields or spec.kind == "response":
            raise DefinitionError(
                f"OpenAI(images={spec.path!r}) on {spec.function.__qualname__}: expected an endpoint whose input has a "
                "prompt, and whose result holds image or images"
            )

    def asked(self, given: Mapping[str, Any]) -> Asked:
        """Return what a request's body asks for.

        Raises:
            RequestValidationError: a field is not as documented, or cannot be honoured.
        """
        body = read_body(_Body, given)
        streams = bool(body.stream)
        partial_images = body.partial_images or 0 if streams else 0
        self._check(body)
        telling = _Pictures(body, self._files, partial_images)
        return Asked(
            spec=self._spec,
            input=own_fields(given, self._fields, _DOCUMENTED - self._passed) | self._sized(body) | self._counted(body),
            telling=telling,
            streams=streams,
            says_done=False,
            shows_previews=telling.tells_more,
            encodes_media=True,
            media="inline",
        )

    def _check(self, body: _Body) -> None:
        for name, usual in _USUAL.items():
            value = getattr(body, name)
            if value is not None and value not in usual and name not in self._fields:
                raise refusal(name, f"this model has no {name}; leave it out, got {shown(value)}")
        if body.output_compression not in (None, 100) and (body.output_format or "png") == "png":
            raise refusal(
                "output_compression", "a PNG is never lossy; write output_format jpeg or webp, or leave it out"
            )
        if body.stream and body.response_format == "url":
            raise refusal("response_format", "events hold pictures; write b64_json, or leave stream out")

    def _sized(self, body: _Body) -> dict[str, Any]:
        if body.size in (None, "auto") or "size" in self._fields:
            return {}
        width, height = map(int, body.size.split("x"))
        if {"width", "height"} <= self._fields:
            return {"width": width, "height": height}
        if "image_size" in self._fields:  # as fal's apps have it
            return {"image_size": {"width": width, "height": height}}
        raise refusal("size", f"this model has one size; write auto, or leave it out, got {body.size}")

    def _counted(self, body: _Body) -> dict[str, Any]:
        if body.n is None:
            return {}
        name = next((name for name in ("n", "num_images") if name in self._fields), None)
        if name is None and body.n > 1:
            raise refusal("n", f"this model makes one picture at a time; write 1, or leave it out, got {body.n}")
        return {} if name is None else {name: body.n}


class _Pictures:
    """Tell one job's previews and pictures: a `Telling`, whose methods decode and encode.

    Args:
        partial_images: how many previews are told at most, spread over the run.
    """

    def __init__(self, body: _Body, files: FileStore, partial_images: int) -> None:
        self._body = body
        self._files = files
        self._format = body.output_format or "png"
        self._left = partial_images
        self._n = 0
        self._told_at = 0
        self._progress = (0, 0)  # step and total, of previews that do not say it

    def tells_more(self) -> bool:
        """Say whether there is a preview left to be told."""
        return self._left > 0

    def told(self, event: Event) -> bytes:
        """Return the block for a preview, where it is that one's turn."""
        if event.kind not in ("preview", "progress") or not self.tells_more():
            return b""
        payload = event.json()
        if not isinstance(payload, dict):
            return b""
        step, total = payload.get("step") or self._progress[0], payload.get("total") or self._progress[1]
        self._progress = step, total
        pictures = list(_urls(payload)) if event.kind == "preview" else []
        if not pictures or (step - self._told_at) * (self._left + 1) < total - self._told_at:
            return b""
        self._told_at = step
        self._left -= 1
        self._n += 1
        image = self._image(pictures[0])
        size = f"{payload.get('width') or image.width}x{payload.get('height') or image.height}"
        return self._block("partial_image", image, size, partial_image_index=self._n - 1)

    def ended(self, job: Job) -> bytes:
        """Return a block for each picture."""
        images = map(self._image, self._results(job))
        who = self._identifier
        return b"".join([self._block("completed", image, _size(image), usage=_USAGE, **who) for image in images])

    def whole(self, job: Job) -> Response:
        """Return all pictures in one JSON document."""
        urls = self._results(job)
        told: dict[str, Any] = {"created": int(time.time())}
        if self._body.response_format == "url":
            return _json({**told, "data": [{"url": self._at_url(url, job)} for url in urls], **self._identifier})
        images = [self._image(url) for url in urls]
        body = self._body
        if body.background == "opaque":
            told["background"] = body.background
        if body.quality not in (None, "auto", "standard"):
            told["quality"] = body.quality
        told |= {"output_format": self._format, "size": _size(images[0]), **self._identifier}
        return _json({**told, "data": [{"b64_json": _base64(image)} for image in images]})

    @property
    def _identifier(self) -> dict[str, str]:
        told = self._body.safety_identifier or self._body.user
        return {"safety_identifier": told} if told else {}

    def _results(self, job: Job) -> list[str]:
        urls = [] if job.result is None else list(_urls(job.result.json()))
        if not urls:
            raise NotEncodable(f"{job.request.path}: expected a result with image or images, there is none in it")
        return urls

    def _block(self, name: str, image: Image, size: str, **fields: Any) -> bytes:
        type_ = f"image_generation.{name}"
        quality = self._body.quality
        told = {
            "type": type_,
            "b64_json": _base64(image),
            "created_at": int(time.time()),
            "size": size,
            "quality": "auto" if quality in (None, "standard") else quality,
            "background": self._body.background or "auto",
            "output_format": self._format,
            **fields,
        }
        return b"event: %b\ndata: %b\n\n" % (type_.encode(), encode(told))

    def _at_url(self, url: str, job: Job) -> str:
        """Return where a picture is kept, in the format that is asked for; one that is elsewhere stays there."""
        if not is_data_uri(url) and self._body.output_format is None:
            return url
        image = replace(self._image(url), file_name=f"image.{self._format}")
        base_url, caller = url_of(job.request.origin), job.request.caller
        return self._files.publish(image, base_url=base_url, caller=caller) or image.data_uri()

    def _image(self, url: str) -> Image:
        """Return a picture of the endpoint's in the format that is asked for."""
        try:
            image = Image(file_at(url, self._files).data)
            if image.content_type == f"image/{self._format}" and self._body.output_compression is None:
                return self._opaque(image)
            return self._converted(image)
        except ValueError as error:
            raise NotEncodable(f"the endpoint's image: {error}") from None

    def _opaque(self, image: Image) -> Image:
        needs_flattening = self._body.background == "opaque" and image.to_pil(None).has_transparency_data
        return self._converted(image) if needs_flattening else image

    def _converted(self, image: Image) -> Image:
        compression = self._body.output_compression
        pil = image.to_pil("RGB" if self._body.background == "opaque" else None)
        quality = 100 if compression is None else max(1, compression)
        return Image.from_pil(pil, _FORMATS[self._format], quality=quality)


def _urls(value: Any) -> Iterator[str]:
    """Find the pictures in what an endpoint emits: under `images`, or `image`, or it is one."""
    match value:
        case {"images": [_, *_] as several}:
            yield from _each(several)
        case {"image": picture}:
            yield from _each([picture])
        case _:
            yield from _each([value])


def _each(pictures: Iterable[Any]) -> Iterator[str]:
    for picture in pictures:
        url = picture.get("url") if isinstance(picture, dict) else picture
        if isinstance(url, str):
            yield url


def _size(image: Image) -> str:
    return f"{image.width}x{image.height}"


def _base64(image: Image) -> str:
    return pybase64.b64encode_as_string(image.data)


def _json(told: dict[str, Any]) -> Response:
    return Response(encode(told), media_type="application/json")
