"""Define fal's `File`, a URL with what is known about it, and `CompressedFile`.

Unlike `streamapp.File`, which holds bytes, it is fetched when the app asks for its bytes, in the app's own thread.
"""

import functools
import shutil
import tempfile
import urllib.parse
import weakref
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypedDict, TypeVar, Unpack

import anyio.to_thread
from anyio.from_thread import start_blocking_portal
from pydantic import BaseModel, Field, FieldSerializationInfo, PrivateAttr, field_serializer, model_validator
from starlette.requests import Request

from .... import media
from ....fetch import limits_here, resolve_media
from .._fields import ui_field
from ..utils.download_utils import download_to
from .providers.fal import FalFileRepository, InMemoryRepository
from .types import FileData, FileRepository, RepositoryId

Repository = FileRepository | RepositoryId
M = TypeVar("M", bound=media.File)

DEFAULT_REPOSITORY: RepositoryId = "fal_v3"
BUILT_IN_REPOSITORIES: dict[str, Callable[[], FileRepository]] = {
    **dict.fromkeys(("fal", "fal_v2", "fal_v3", "cdn", "gcp_storage", "r2"), FalFileRepository),
    "in_memory": InMemoryRepository,
}

#: a `Field` that the playground shows as a file
FileField = ui_field("file")


class SaveOptions(TypedDict, total=False):
    """Name what may be said about storing a file; only `save_kwargs` counts, for repositories of the app's own."""

    fallback_repository: Repository | list[Repository] | None
    request: Request | None
    save_kwargs: dict[str, Any] | None
    fallback_save_kwargs: dict[str, Any] | None


class File(BaseModel):
    """Describe a file by its URL; a string becomes one."""

    url: str = Field(description="The URL where the file can be downloaded from.")
    content_type: str | None = Field(None, description="The mime type of the file.", examples=["image/png"])
    file_name: str | None = Field(None, description="The name of the file.", examples=["z9RV14K95DvU.png"])
    file_size: int | None = Field(None, description="The size of the file in bytes.", examples=[4404019])
    _data: bytes | None = PrivateAttr(None)
    _is_movable: bool = PrivateAttr(False)  # its URL is a data URI for want of a better one

    @field_serializer("url", when_used="json")
    def _written_url(self, url: str, info: FieldSerializationInfo) -> str:
        """Write the URL as the job wants its files, which a thread of the app's own cannot know, nor whether it shows a
        preview.
        """
        if not self._is_movable or not isinstance(info.context, media.HeldBack):
            return url
        return media.File(self._data or b"", self.content_type or "", self.file_name).url(info.context)

    @model_validator(mode="before")
    @classmethod
    def _from_string(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if urllib.parse.urlparse(value).scheme not in ("http", "https", "data"):
            raise ValueError("value must be a valid URL")
        return {"url": value}

    @classmethod
    def _from_url(cls, url: str) -> Self:
        """Describe what is at a URL: not public in fal either, but its apps use it in their examples."""
        return cls(url=url)

    @classmethod
    def from_bytes(
        cls,
        data: bytes,
        content_type: str | None = None,
        file_name: str | None = None,
        repository: Repository = DEFAULT_REPOSITORY,
        **options: Unpack[SaveOptions],
    ) -> Self:
        """Store bytes and return their URL. Blocks.

        Args:
            content_type: guessed from the name where it is not given.
            repository: "in_memory" for a data URI; a `FileRepository` of the app's own; all others mean this server.
        """
        return cls._store(FileData(data, content_type, file_name), repository, options)

    @classmethod
    def _store(cls, file: FileData, repository: Repository, options: SaveOptions, **more: Any) -> Self:
        chosen = _repository(repository)
        url = chosen.save(file, **(options.get("save_kwargs") or {}))
        size = len(file.data)
        stored = cls(url=url, content_type=file.content_type, file_name=file.file_name, file_size=size, **more)
        stored._data = file.data
        stored._is_movable = isinstance(chosen, FalFileRepository) and media.is_data_uri(url)
        return stored

    @classmethod
    async def from_bytes_async(cls, data: bytes, *arguments: Any, **options: Any) -> Self:
        """Do as `from_bytes`, in a thread."""
        return await anyio.to_thread.run_sync(functools.partial(cls.from_bytes, data, *arguments, **options))

    @classmethod
    def from_path(
        cls,
        path: str | Path,
        content_type: str | None = None,
        repository: Repository = DEFAULT_REPOSITORY,
        multipart: bool | None = None,
        **options: Unpack[SaveOptions],
    ) -> Self:
        """Store a file and return its URL; `multipart` is without effect. Blocks."""
        return cls._store(FileData(Path(path).read_bytes(), content_type, Path(path).name), repository, options)

    @classmethod
    async def from_path_async(cls, path: str | Path, *arguments: Any, **options: Any) -> Self:
        """Do as `from_path`, in a thread."""
        return await anyio.to_thread.run_sync(functools.partial(cls.from_path, path, *arguments, **options))

    @property
    def file_data(self) -> bytes | None:
        """Return the bytes where they are here already."""
        return self._data

    def as_bytes(self) -> bytes:
        """Return the bytes; a file that came as a URL is downloaded once. Blocks.

        Raises:
            InvalidInput: the URL cannot be fetched, is not public, or holds more than the deployment's limit.
        """
        if self._data is None:
            self._data = fetch(media.File, self.url).data
        return self._data

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Write the bytes to a file and return its absolute path; what is downloaded can have any size. Blocks.

        Raises:
            FileExistsError: it is there already.
            DownloadError: the URL cannot be fetched.
        """
        path = Path(path).resolve()
        if path.exists() and not overwrite:
            raise FileExistsError(f"there is a file {path}; pass overwrite=True to replace it")
        if self._data is None:
            return download_to(self.url, path)
        path.write_bytes(self._data)
        return path

    async def save_async(self, path: str | Path, overwrite: bool = False) -> Path:
        """Do as `save`, in a thread."""
        return await anyio.to_thread.run_sync(self.save, path, overwrite)


class CompressedFile(File):
    """Describe a ZIP archive: iterate over what it holds, as paths in a folder that lasts as long as this value."""

    _folder: Path | None = PrivateAttr(None)

    def __iter__(self) -> Iterator[Path]:  # type: ignore[override]
        """Return the paths of the uppermost files and folders."""
        return self._extracted().iterdir()

    def glob(self, pattern: str) -> Iterator[Path]:
        """Return the paths that match."""
        return self._extracted().glob(pattern)

    def _extracted(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp())
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(self.save(Path(folder, "zip"))) as archive:
                archive.extractall(self._folder)
        return self._folder


def fetch(kind: type[M], url: str) -> M:
    """Return what a URL holds, verified, within the deployment's limits for media. Blocks.

    Raises:
        InvalidInput: says why not.
    """
    reference: Any = media.MediaReference(kind, url)
    limits = limits_here()
    with start_blocking_portal() as portal:  # a loop of its own: an `async def` endpoint may call this, too
        fetched: M = portal.call(functools.partial(resolve_media, reference, limits=limits))
    return fetched


def _repository(repository: Repository) -> FileRepository:
    if isinstance(repository, FileRepository):
        return repository
    if repository not in BUILT_IN_REPOSITORIES:
        raise ValueError(f"expected one of {', '.join(BUILT_IN_REPOSITORIES)}; got the repository {repository!r}")
    return BUILT_IN_REPOSITORIES[repository]()
