"""Define fal's `Image`, and the sizes of images that models take."""

import io
from typing import Any, Literal, Self, Unpack

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field

from .... import media
from .._fields import ui_field
from ..file.file import DEFAULT_REPOSITORY, File, Repository, SaveOptions, fetch
from ..file.types import FileData

ImageFormat = Literal["png", "jpeg", "jpg", "webp", "gif"]
ImageSizePreset = Literal["square_hd", "square", "portrait_4_3", "portrait_16_9", "landscape_4_3", "landscape_16_9"]

#: a `Field` that the playground shows as an image
ImageField = ui_field("image")
#: a `Field` for an `ImageSizeInput`
ImageSizeField = ui_field()


class ImageSize(BaseModel):
    """Hold a size in pixels."""

    width: int = Field(512, description="The width of the generated image.", gt=0, le=14142)
    height: int = Field(512, description="The height of the generated image.", gt=0, le=14142)


ImageSizeInput = ImageSize | ImageSizePreset

IMAGE_SIZE_PRESETS: dict[ImageSizePreset, ImageSize] = {
    "square_hd": ImageSize(width=1024, height=1024),
    "square": ImageSize(width=512, height=512),
    "portrait_4_3": ImageSize(width=768, height=1024),
    "portrait_16_9": ImageSize(width=576, height=1024),
    "landscape_4_3": ImageSize(width=1024, height=768),
    "landscape_16_9": ImageSize(width=1024, height=576),
}


def get_image_size(source: ImageSizeInput) -> ImageSize:
    """Return the size that an input names."""
    if isinstance(source, ImageSize):
        return source
    if source in IMAGE_SIZE_PRESETS:
        return IMAGE_SIZE_PRESETS[source]
    raise TypeError(f"expected an ImageSize or one of {', '.join(IMAGE_SIZE_PRESETS)}; got {source!r}")


class Image(File):
    """Describe an image by its URL; a string becomes one."""

    model_config = ConfigDict(json_schema_extra={"ui": {"field": "image"}})

    width: int | None = Field(None, description="The width of the image in pixels.", examples=[1024])
    height: int | None = Field(None, description="The height of the image in pixels.", examples=[1024])

    @classmethod
    def from_bytes(  # type: ignore[override]  # fal's: a format takes the place of the content type
        cls,
        data: bytes,
        format: ImageFormat,
        size: ImageSize | None = None,
        file_name: str | None = None,
        repository: Repository = DEFAULT_REPOSITORY,
        **options: Unpack[SaveOptions],
    ) -> Self:
        """Store an encoded image and return its URL. Blocks."""
        content_type = f"image/{'jpeg' if format == 'jpg' else format}"
        file = FileData(data, content_type, file_name)
        return cls._store(file, repository, options, **(size.model_dump() if size else {}))

    @classmethod
    def from_pil(
        cls,
        pil_image: PIL.Image.Image,
        format: ImageFormat | None = None,
        file_name: str | None = None,
        repository: Repository = DEFAULT_REPOSITORY,
        **options: Unpack[SaveOptions],
    ) -> Self:
        """Encode an image, store it and return its URL. Blocks.

        Args:
            format: the one that the image was read from when None, else PNG.
        """
        chosen: Any = (format or pil_image.format or "png").lower()
        size = ImageSize(width=pil_image.width, height=pil_image.height)
        return cls.from_bytes(_encode(pil_image, chosen), chosen, size, file_name, repository, **options)

    def to_pil(self, mode: str = "RGB") -> PIL.Image.Image:
        """Return the image upright, downloaded where it came as a URL; transparency is flattened on white. Blocks.

        Raises:
            InvalidInput: it cannot be fetched or decoded, is not public, or is over the deployment's limits.
        """
        if self._data is not None:
            return media.Image(self._data).to_pil(mode)
        return read_image_from_url(self.url, mode)


def read_image_from_url(url: str, mode: str = "RGB") -> PIL.Image.Image:
    """Return the image at an http(s) or data URL, as `Image.to_pil` does. Blocks."""
    return fetch(media.Image, url).to_pil(mode)


def _encode(pil: PIL.Image.Image, format: ImageFormat) -> bytes:
    match format:
        case "gif":
            buffer = io.BytesIO()
            pil.save(buffer, "GIF")
            return buffer.getvalue()
        case "jpeg" | "jpg":
            return media.Image.from_pil(pil, "JPEG").data
        case "webp":
            return media.Image.from_pil(pil, "WEBP").data
        case "png":
            return media.Image.from_pil(pil, "PNG").data
    raise ValueError(f"expected a format of png, jpeg, webp or gif; got {format!r}")
