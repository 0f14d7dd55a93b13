"""Define URLs of files and images as types of an input's fields."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import PIL.Image
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from .image import read_image_from_url
from .utils.download_utils import download_file

MAX_DATA_URI_LENGTH = 10 * 1024 * 1024
MAX_HTTPS_URL_LENGTH = 2048
HTTP_URL_REGEX = r"^https:\/\/(?:[a-zA-Z0-9-]+\.)+[a-zA-Z]{2,}(?::\d{1,5})?(?:\/[^\s]*)?$"


class _Url(str):
    """Be a string of one form, with a way to what it names."""

    _pattern: ClassVar[str]
    _max_length: ClassVar[int]
    _format: ClassVar[str]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.str_schema(pattern=cls._pattern, max_length=cls._max_length, strip_whitespace=True)
        return core_schema.no_info_after_validator_function(cls, text)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "format": cls._format}

    @contextmanager
    def as_temp_file(self) -> Iterator[Path]:
        """Download to a file that lasts as long as the block. Blocks."""
        with tempfile.TemporaryDirectory() as folder:
            yield download_file(self, folder)


class HttpsUrl(_Url):
    """Be the https URL of a file."""

    _pattern, _max_length, _format = HTTP_URL_REGEX, MAX_HTTPS_URL_LENGTH, "https-url"


class DataUri(_Url):
    """Be a file as a data URI."""

    _pattern, _max_length, _format = "^data:", MAX_DATA_URI_LENGTH, "data-uri"


class ImageHttpsUrl(HttpsUrl):
    """Be the https URL of an image."""

    def to_pil(self) -> PIL.Image.Image:
        """Download and decode. Blocks."""
        return read_image_from_url(self)


class ImageDataUri(DataUri):
    """Be an image as a data URI."""

    def to_pil(self) -> PIL.Image.Image:
        """Decode. Blocks."""
        return read_image_from_url(self)


FileInput = HttpsUrl | DataUri
ImageInput = ImageHttpsUrl | ImageDataUri
