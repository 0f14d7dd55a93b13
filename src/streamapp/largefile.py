"""Name a file of an input that need not fit into memory: it stays where it is, on the disk, and is opened there.

`File` holds its bytes, so it is bounded by what an input may have in memory. A `LargeFile` is bounded by the file
store, into which an upload goes as it comes: `fetch` puts one in the place of a `LargeReference` without reading it.
What is in the request itself, or is downloaded, is bounded as a `File` is.
"""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol, cast, runtime_checkable

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from .errors import NotFound
from .media import AS_JSON, File, HeldBack, MediaReference


@runtime_checkable
class Spooled(Protocol):
    """Be an upload that came with a form; Starlette's `UploadFile` is one.

    Attributes:
        file: on the disk where it is over a megabyte; it is closed when both the request and the job have let go of it.
    """

    file: BinaryIO
    size: int | None


@dataclass(frozen=True, slots=True)
class LargeReference:
    """Stand in a validated input for a `LargeFile` that `fetch` has not found yet."""

    media: MediaReference


@dataclass(frozen=True, slots=True)
class LargeFile:
    """Name a file that need not fit into memory; in an endpoint's input the type of a field that takes one.

    Attributes:
        source: where its content is; read it by `open`.
        size: in bytes.
    """

    source: Path | bytes | Spooled = field(repr=False)
    size: int
    content_type: str = ""
    file_name: str | None = None

    # Field by field, as a dataclass is written, it would show a path of this machine.
    __pydantic_serializer__: ClassVar = SchemaSerializer(core_schema.any_schema(serialization=AS_JSON))

    def open(self) -> BinaryIO:
        """Open the file to be read from its beginning; again, too, and by several at once. Blocks.

        Raises:
            NotFound: it has expired, as a job that waits for long may find.
        """
        match self.source:
            case Path() as path:
                try:
                    return path.open("rb")
                except FileNotFoundError:
                    raise NotFound(f"the file {self.file_name or ''!r} is not kept any more; upload it again") from None
            case bytes() as data:
                return io.BytesIO(data)
            case spooled:
                # A view of its own: who closes what was opened does not close the upload.
                return cast("BinaryIO", io.BufferedReader(_View(spooled.file), 64 * 1024))

    def as_json(self, held: HeldBack | None = None) -> dict[str, Any]:
        """Refuse to be a result: what is large is read where it is."""
        raise ValueError("a LargeFile is an input; answer with a path, or with a File of what of it is wanted")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(cls._accept, serialization=AS_JSON)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**File.__get_pydantic_json_schema__(schema, handler), "title": cls.__name__}

    @classmethod
    def _accept(cls, value: Any) -> "LargeFile | LargeReference":
        if isinstance(value, cls):
            return value
        if isinstance(value, File):
            return cls.of(value)
        accepted = File._accept(value)
        assert isinstance(accepted, MediaReference)
        return LargeReference(accepted)

    @classmethod
    def of(cls, file: File) -> "LargeFile":
        """Return a file that is in memory as one that need not be."""
        return cls(file.data, len(file.data), file.content_type, file.file_name)

    @classmethod
    def at(cls, path: Path, content_type: str = "", file_name: str | None = None) -> "LargeFile":
        """Return the file that is at a path. Blocks."""
        return cls(path, path.stat().st_size, content_type, file_name or path.name)


class _View(io.RawIOBase):
    """Read a file from a place of its own; one thread at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(self._at)
        self._at = self._file.seek(offset, whence)
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._at)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
