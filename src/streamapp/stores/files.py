"""Keep files, each under an id that cannot be guessed: uploads, and results too large to inline.

`FileStore` says what a store does, `LocalFiles` does it on this machine's disk. A file is written in parts, then
completed; what is complete never changes. Whoever knows a file's URL may read it, so that an `<img>` can, and whoever
has the key of an upload may write it, unless they say to be somebody else than the one who began it. Files expire, and
much sooner uploads of which nothing comes; what does not fit into the quota is refused.

Divergence: this module uses `threading`, for one lock: requests are served in several threads at once, and what one of
them takes for its own, a folder or the parts of an upload, none of the others may delete.
"""

import math
import os
import re
import secrets
import shutil
import stat
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import DefinitionError, InvalidInput, NotFound, StorageFull
from ..media import File
from ..settings import Settings
from .folder import TemporaryFolder

_ID = re.compile(r"https?://[^/]+(?:/.*)?/files/([0-9a-f]{32})/")
_UNSAFE = re.compile(r"[^\w.-]+")
_MAX_NAME = 100
_MAX_TYPE = 255
_MAX_URL = 2048  # of the part that is looked at: an input can be megabytes of anything
_MAX_PARTS = 10_000
_RESULTS = 0.75  # of the quota
_LOOK_S = 1.0  # for what has expired: to look through a hundred thousand files takes milliseconds
_MAX_FILES = 100_000  # parts of uploads among them: each takes a kilobyte of memory, even when it is empty
_MAX_UPLOADS = 4096  # under way at once
_SILENT_S = 600.0  # after which an upload has expired
_STALE_S = 60.0  # after which it is given up where room is needed
_SHARE = 0.5  # of the quota: what the uploads under way of one of several callers may take
_MANY_PARTS = 1000  # of an upload, which is given up where there are too many files


@dataclass(slots=True)
class Stored:
    """Describe a file.

    Attributes:
        id: 32 hexadecimal digits.
        key: with it the upload goes on, until it is complete.
        path: where its content can be read on this machine.
        expires_at: by `time.time()`.
        caller: whose it is.
    """

    id: str
    key: str
    content_type: str
    name: str
    path: Path
    expires_at: float
    caller: str = ""

    @property
    def url_path(self) -> str:
        """Return the path of the file's URL."""
        return f"/files/{self.id}/{urllib.parse.quote(self.name)}"


class Part(Protocol):
    """Write one part of an upload, apart from all others: what is sent twice at once does not mix.

    Attributes:
        etag: tells it from what is sent again for the same part.
    """

    etag: str

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            StorageFull: there is no room for it.
        """
        ...

    def discard(self) -> None:
        """Delete what was written."""
        ...


class FileStore(Protocol):
    """Keep files. Any thread may call; every method may block, so that the loop calls it in a thread."""

    def publish(self, media: File, *, base_url: str, caller: str = "") -> str | None:
        """Keep a result's media; return its absolute URL, or None when there is no room for it."""
        ...

    def begin(self, content_type: str, name: str, *, caller: str = "", ttl_s: float | None = None) -> Stored:
        """Begin an upload.

        Args:
            ttl_s: how long the file is kept at most; as long as all files where None.
        Raises:
            InvalidInput: the content type cannot be one.
            StorageFull: there are too many files.
        """
        ...

    def upload(self, file_id: str, key: str, *, caller: str = "") -> Stored:
        """Return an upload that is under way.

        Raises:
            NotFound: there is none with this id and key, or it is somebody else's.
        """
        ...

    def open_part(self, file_id: str, key: str, number: int) -> Part:
        """Begin a part of an upload.

        Raises:
            NotFound: no such upload is under way.
            InvalidInput: the number is out of range.
            StorageFull: there is no room for it.
        """
        ...

    def end_part(self, stored: Stored, number: int, part: Part) -> None:
        """Take a part that came whole; it replaces one of the same number.

        Raises:
            NotFound: the upload is over, or has expired.
            StorageFull: there is no room for it.
        """
        ...

    def complete(self, file_id: str, key: str, numbers: Collection[int]) -> Stored:
        """Make a file of an upload's parts.

        Raises:
            NotFound: no such upload is under way.
            InvalidInput: the parts are not those that came.
            StorageFull: there is no room for it; the upload is lost.
        """
        ...

    def discard(self, stored: Stored) -> None:
        """Give an upload up."""
        ...

    def get(self, file_id: str) -> Stored:
        """Return a complete file.

        Raises:
            NotFound: it never was, is not complete, or has expired.
        """
        ...

    def find(self, url: str) -> Stored | None:
        """Return the file that a URL names, whatever its host; None when it is none of this store's."""
        ...

    def close(self) -> None:
        """End what is this process's own."""
        ...


class LocalPart:
    """Write a file, of its own, that is a part of an upload: a `Part`; or a whole one, of no upload."""

    def __init__(self, store: "LocalFiles", path: Path, upload: "LocalUpload | None" = None) -> None:
        self.path = path
        self.upload = upload
        self.etag = f'"{path.suffix[1:]}"'
        self._store = store
        store.count(path, upload)
        try:
            with _telling_of_the_disk():
                self._file = open(path, "xb", opener=_for_us_alone)
        except StorageFull:
            store.delete(path)
            raise

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            StorageFull: the quota is used up, or the disk is full.
        """
        self._store.take_room(self.path, len(data), self.upload)
        with _telling_of_the_disk():
            self._file.write(data)

    def close(self) -> None:
        """End the writing.

        Raises:
            StorageFull: the disk is full.
        """
        with _telling_of_the_disk():
            self._file.close()

    def discard(self) -> None:
        """Delete what was written."""
        with suppress(OSError):  # what is still to be written may not fit on the disk
            self._file.close()
        self._store.delete(self.path)


@dataclass(slots=True)
class LocalUpload(Stored):
    """Describe a file whose parts come.

    Attributes:
        parts: those that came whole.
        ttl_s: how long the file is kept once it is complete.
        heard_at: when something of it came, by `time.monotonic()`.
    """

    parts: dict[int, LocalPart] = field(default_factory=dict)
    ttl_s: float = math.inf
    heard_at: float = field(default_factory=time.monotonic)

    @property
    def silent_s(self) -> float:
        """Return how long nothing of it has come."""
        return time.monotonic() - self.heard_at


@dataclass(slots=True)
class _Kept:
    """Count a file on the disk.

    Attributes:
        of: whose upload under way it belongs to; None when it is complete.
    """

    of: str | None
    size: int = 0


class LocalFiles:
    """Keep files in a folder that ends with the process, below the settings' `files_dir`: a `FileStore`.

    Raises:
        DefinitionError: no files can be kept in `files_dir`; says why.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: dict[str, Stored] = {}
        self._uploads: dict[str, LocalUpload] = {}
        self._kept: dict[Path, _Kept] = {}  # all on the disk, also what is being written
        self._size = 0  # of all together: there may be a hundred thousand
        self._under_way: Counter[str] = Counter()  # of uploads of each caller
        self._room = threading.Lock()  # for these three
        self._expired_at = -math.inf
        self._folder: TemporaryFolder | None = None
        self._lock = threading.Lock()  # for `_folder`, and for uploads that end and their parts
        if settings.files_dir is not None:
            self._folder = _checked_folder(settings.files_dir)

    def publish(self, media: File, *, base_url: str, caller: str = "") -> str | None:
        """Keep a result's media; return its absolute URL, or None when there is no room for it.

        Results leave a quarter of the quota to uploads, without which no input with a file could come.
        """
        self._look()
        if self.size + len(media.data) > self._settings.max_files_bytes * _RESULTS:
            return None
        try:
            stored = self.put(media.data, media.content_type, media.file_name or "", caller=caller)
        except StorageFull:
            return None
        return base_url + stored.url_path

    def put(self, data: bytes, content_type: str, name: str, *, caller: str = "") -> Stored:
        """Keep a whole file.

        Raises:
            StorageFull: the quota is used up, or the disk is full.
        """
        self._look()
        stored = self._named(content_type, name, caller=caller)
        part = LocalPart(self, stored.path)
        try:
            part.write(data)
            part.close()
        except StorageFull:
            part.discard()
            raise
        self._files[stored.id] = stored
        return stored

    def begin(self, content_type: str, name: str, *, caller: str = "", ttl_s: float | None = None) -> LocalUpload:
        """Begin an upload. Where there are too many, that of the caller who has most is given up which has been silent
        longest.

        Args:
            ttl_s: how long the file is kept, at most `file_ttl_s`.
        Raises:
            InvalidInput: the content type cannot be one.
            StorageFull: there are too many files.
        """
        self._look()
        upload = self._named(content_type, name, caller=caller, ttl_s=ttl_s)
        while len(self._uploads) >= _MAX_UPLOADS:
            self._give_up_one()
        self.count(upload.path, upload)
        self._uploads[upload.id] = upload
        return upload

    def _named(self, content_type: str, name: str, *, caller: str, ttl_s: float | None = None) -> LocalUpload:
        file_id = secrets.token_hex(16)
        most_s = self._settings.file_ttl_s
        kept_s = most_s if ttl_s is None else min(ttl_s, most_s)
        return LocalUpload(
            id=file_id,
            key=secrets.token_hex(16),
            content_type=_checked(content_type),
            name=_UNSAFE.sub("_", name)[-_MAX_NAME:].lstrip(".") or "file",
            path=self._own_folder() / file_id,
            expires_at=time.time() + kept_s,
            caller=caller,
            ttl_s=kept_s,
        )

    def open_part(self, file_id: str, key: str, number: int) -> LocalPart:
        """Begin a part of an upload.

        Raises:
            NotFound: no such upload is under way.
            InvalidInput: the number is out of range.
            StorageFull: there are too many files, or the disk is full.
        """
        if not 1 <= number <= _MAX_PARTS:
            raise InvalidInput(f"a part's number is 1 to {_MAX_PARTS}, got {number}")
        upload = self.upload(file_id, key)
        upload.heard_at = time.monotonic()
        self._own_folder()
        return LocalPart(self, upload.path.with_suffix(f".{secrets.token_hex(8)}"), upload)

    def end_part(self, stored: Stored, number: int, part: Part) -> None:
        """Take a part that came whole; it replaces one of the same number.

        Raises:
            NotFound: the upload is over, or has expired.
            StorageFull: the disk is full.
        """
        assert isinstance(part, LocalPart)
        part.close()
        with self._lock:
            upload = self.upload(stored.id, stored.key)
            former = upload.parts.get(number)
            upload.parts[number] = part
        if former is not None:
            former.discard()

    def complete(self, file_id: str, key: str, numbers: Collection[int]) -> Stored:
        """Make a file of an upload's parts.

        Raises:
            NotFound: no such upload is under way.
            InvalidInput: the parts are not those that came.
            StorageFull: the disk is full; the upload is lost.
        """
        with self._lock:  # of two that complete it at once, one does
            stored = self.upload(file_id, key)
            if not numbers or sorted(numbers) != sorted(stored.parts):
                came = sorted(stored.parts)[:100]
                raise InvalidInput(f"the upload has the parts {came}, got {sorted(numbers)[:100]}")
            del self._uploads[file_id]
            parts, stored.parts = stored.parts, {}  # what is still being sent is too late
        try:
            self._join(stored.path, [part for _, part in sorted(parts.items())])
        except StorageFull:
            stored.parts = parts
            self._delete(stored)
            raise
        stored.expires_at = time.time() + stored.ttl_s
        self._files[file_id] = stored
        return stored

    def _join(self, path: Path, parts: Sequence[LocalPart]) -> None:
        """Put the parts into one file: the others behind the first, where most often there are none."""
        with self._room:
            size = sum(self._forget(part.path) for part in parts)
            self._forget(path)
            self._kept[path] = _Kept(None, size)
            self._size += size
        first, *others = parts
        with _telling_of_the_disk():
            with first.path.open("ab") as whole:
                for part in others:
                    with part.path.open("rb") as content:
                        shutil.copyfileobj(content, whole)
                    part.discard()
            first.path.rename(path)

    def upload(self, file_id: str, key: str, *, caller: str = "") -> LocalUpload:
        """Return an upload that is under way.

        Args:
            caller: "" where nobody is told: clients send bodies to an upload's URL without their API key.
        Raises:
            NotFound: there is none with this id and key, or it is somebody else's.
        """
        stored = self._uploads.get(file_id)
        is_known = stored is not None and secrets.compare_digest(stored.key.encode(), key.encode())
        if stored is None or not is_known or caller not in ("", stored.caller):
            raise NotFound("no such upload is under way; begin another")
        return stored

    def get(self, file_id: str) -> Stored:
        """Return a complete file.

        Raises:
            NotFound: it never was, is not complete, has expired, or was deleted or replaced by somebody.
        """
        stored = self._files.get(file_id)
        if stored is None or stored.expires_at <= time.time() or not _is_file(stored.path):
            raise NotFound(f"no file {file_id[:64]!r}: files are kept {self._settings.file_ttl_s:g} s")
        return stored

    def find(self, url: str) -> Stored | None:
        """Return the file that a URL names, whatever its host; None when it is none of this store's."""
        match = _ID.match(url, 0, _MAX_URL)
        try:
            return None if match is None else self.get(match[1])
        except NotFound:
            return None

    def count(self, path: Path, upload: LocalUpload | None) -> None:
        """Note that there is a file.

        Raises:
            StorageFull: there are too many.
        """
        if len(self._kept) >= _MAX_FILES:
            self._give_up_stale(lambda: len(self._kept) < _MAX_FILES)
        if len(self._kept) >= _MAX_FILES:
            self._give_up_in_many_parts()
        with self._room:
            if len(self._kept) >= _MAX_FILES:
                raise StorageFull(f"there are {_MAX_FILES} files, as many as are kept; try again later")
            self._kept[path] = _Kept(None if upload is None else upload.caller)

    def take_room(self, path: Path, more_bytes: int, upload: LocalUpload | None = None) -> None:
        """Note that a file grows.

        Raises:
            StorageFull: there is no room; it is noted all the same, so that of two at once none gets over the quota.
        """
        most = self._settings.max_files_bytes
        with self._room:
            self._kept[path].size += more_bytes
            self._size += more_bytes
            if upload is not None:
                upload.heard_at = time.monotonic()
                self._under_way[upload.caller] += more_bytes
        if upload is not None and upload.caller and self._under_way[upload.caller] > most * _SHARE:
            raise StorageFull(f"uploads under way have more than half of the files' {most} bytes; complete them first")
        if self.size > most:
            self._give_up_stale(lambda: self.size <= most)
        if self.size > most:
            raise StorageFull(f"the files' quota of {most} bytes is used up; try again later")

    @property
    def size(self) -> int:
        """Return the bytes on the disk, those that are still being written among them."""
        return self._size

    def expire(self) -> None:
        """Delete what is too old, and uploads of which nothing comes any more."""
        now, self._expired_at = time.time(), time.monotonic()
        for upload in [each for each in list(self._uploads.values()) if each.silent_s > _SILENT_S]:
            self.discard(upload)
        for stored in [stored for stored in list(self._files.values()) if stored.expires_at <= now]:
            self._files.pop(stored.id, None)
            self._delete(stored)

    def _look(self) -> None:
        if time.monotonic() - self._expired_at > _LOOK_S:
            self.expire()

    def _give_up_one(self) -> None:
        uploads = list(self._uploads.values())
        ((caller, _),) = Counter(upload.caller for upload in uploads).most_common(1)
        self.discard(min((upload for upload in uploads if upload.caller == caller), key=lambda each: each.heard_at))

    def _give_up_stale(self, is_enough: Callable[[], bool]) -> None:
        for upload in sorted(self._uploads.values(), key=lambda each: each.heard_at):
            if is_enough() or upload.silent_s < _STALE_S:
                return
            self.discard(upload)

    def _give_up_in_many_parts(self) -> None:
        """Give that upload up which has most parts, if those are many: they cost next to nothing to send."""
        most = max(self._uploads.values(), key=lambda each: len(each.parts), default=None)
        if most is not None and len(most.parts) >= _MANY_PARTS:
            self.discard(most)

    def discard(self, stored: Stored) -> None:
        """Give an upload up."""
        with self._lock:
            self._uploads.pop(stored.id, None)
        self._delete(stored)

    def delete(self, path: Path) -> None:
        """Delete a file from the disk."""
        path.unlink(missing_ok=True)
        with self._room:
            self._forget(path)

    def close(self) -> None:
        """Delete all files."""
        self._files, self._uploads = {}, {}
        with self._room:
            for path in list(self._kept):
                self._forget(path)
        if self._folder is not None:
            self._folder.close()
        self._folder = None

    def _forget(self, path: Path) -> int:
        """Count a file no more, and return its size; under the lock."""
        kept = self._kept.pop(path, _Kept(None))
        self._size -= kept.size
        if kept.of is not None:
            self._under_way[kept.of] -= kept.size
            if not self._under_way[kept.of]:
                del self._under_way[kept.of]
        return kept.size

    def _own_folder(self) -> Path:
        with self._lock, _telling_of_the_disk():
            if self._folder is None:
                self._folder = TemporaryFolder(self._settings.files_dir)
            elif self._folder.restore():
                self._forget_files()
            return self._folder.path

    def _forget_files(self) -> None:
        files, self._files = self._files, {}
        with self._room:
            for stored in files.values():
                self._forget(stored.path)

    def _delete(self, stored: Stored) -> None:
        if isinstance(stored, LocalUpload):
            for part in list(stored.parts.values()):
                part.discard()
        self.delete(stored.path)


def _checked_folder(parent: Path) -> TemporaryFolder:
    try:
        folder = TemporaryFolder(parent)
        folder.check_room()
    except OSError as error:
        raise DefinitionError(f"STREAMAPP_FILES_DIR: files cannot be kept in {parent}: {error.strerror}") from error
    return folder


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _is_file(path: Path) -> bool:
    """Say whether a file is there, and no link."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _checked(content_type: str) -> str:
    """Return a content type that can be a header."""
    if len(content_type) > _MAX_TYPE:
        raise InvalidInput(f"expected a content type of at most {_MAX_TYPE} characters, got {len(content_type)}")
    try:
        return File(b"", content_type).content_type
    except ValueError as error:
        raise InvalidInput(str(error)) from None


@contextmanager
def _telling_of_the_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFull(f"the file cannot be kept: {error.strerror}") from error
