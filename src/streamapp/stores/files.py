"""Keep files, each under an id that cannot be guessed: uploads, and results too large to inline.

`FileStore` says what a store does, `LocalFiles` does it on this machine's disk. A file is written in parts, then
completed; what is complete never changes. Whoever knows a file's URL may read it, so that an `<img>` can, and whoever
has the key of an upload may write it, unless they say to be somebody else than the one who began it. Files expire;
what does not fit into the quota is refused.

Divergence: this module uses `threading`, for one lock: requests are served in several threads at once, and what one of
them takes for its own, a folder or the parts of an upload, none of the others may delete.
"""

import atexit
import fcntl
import math
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..errors import InvalidInput, NotFound, StorageFull
from ..media import File
from ..settings import Settings

_ID = re.compile(r"https?://[^/]+(?:/.*)?/files/([0-9a-f]{32})/")
_OWN = re.compile(r"[0-9a-f]{32}(\.[0-9a-f]{8})?")  # what the store calls its files on the disk
_FOLDER = "streamapp-files-"
_TRIES = 3
_UNSAFE = re.compile(r"[^\w.-]+")
_MAX_NAME = 100
_MAX_TYPE = 255
_MAX_URL = 2048  # of the part that is looked at: an input can be megabytes of anything
_MAX_PARTS = 10_000
_RESULTS = 0.75  # of the quota
_LOOK_S = 1.0  # for what has expired: to look through a hundred thousand files takes milliseconds
_MAX_FILES = 100_000  # parts of uploads among them: each takes a kilobyte of memory, even when it is empty


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
    """Write a part into a file of its own: a `Part`."""

    def __init__(self, store: "LocalFiles", path: Path) -> None:
        self.path = path
        self.etag = f'"{path.suffix[1:]}"'
        self._store = store
        with _telling_of_the_disk():
            self._file = path.open("wb")

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            StorageFull: the quota is used up, or the disk is full.
        """
        self._store.take_room(self.path, len(data))
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
    """

    parts: dict[int, LocalPart] = field(default_factory=dict)


class LocalFiles:
    """Keep files in a folder, the settings' `files_dir`, else one that ends with the process: a `FileStore`.

    `get`, `find` and `upload` do not touch the disk.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: dict[str, Stored] = {}
        self._uploads: dict[str, LocalUpload] = {}
        self._sizes: dict[Path, int] = {}  # of all on the disk, also what is being written
        self._size = 0  # their sum: there may be a hundred thousand
        self._room = threading.Lock()  # for both
        self._expired_at = -math.inf
        self._folder: Path | None = None
        self._temporary: TemporaryFolder | None = None
        self._lock = threading.Lock()  # for `_folder`, and for uploads that end and their parts

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
        stored = self.begin(content_type, name, caller=caller)
        try:
            part = stored.parts[1] = self.open_part(stored.id, stored.key, 1)
            part.write(data)
            part.close()
            return self.complete(stored.id, stored.key, [1])
        except StorageFull:
            self.discard(stored)
            raise

    def begin(self, content_type: str, name: str, *, caller: str = "", ttl_s: float | None = None) -> LocalUpload:
        """Begin an upload.

        Args:
            ttl_s: how long the file is kept, at most `file_ttl_s`.
        Raises:
            InvalidInput: the content type cannot be one.
            StorageFull: there are too many files.
        """
        self._look()
        file_id = secrets.token_hex(16)
        most_s = self._settings.file_ttl_s
        stored = LocalUpload(
            id=file_id,
            key=secrets.token_hex(16),
            content_type=_checked(content_type),
            name=_UNSAFE.sub("_", name)[-_MAX_NAME:].lstrip(".") or "file",
            path=self._own_folder() / file_id,
            expires_at=time.time() + (most_s if ttl_s is None else min(ttl_s, most_s)),
            caller=caller,
        )
        self._count(stored.path)
        self._uploads[file_id] = stored
        return stored

    def open_part(self, file_id: str, key: str, number: int) -> LocalPart:
        """Begin a part of an upload.

        Raises:
            NotFound: no such upload is under way.
            InvalidInput: the number is out of range.
            StorageFull: there are too many files, or the disk is full.
        """
        if not 1 <= number <= _MAX_PARTS:
            raise InvalidInput(f"a part's number is 1 to {_MAX_PARTS}, got {number}")
        stored = self.upload(file_id, key)
        path = stored.path.with_suffix(f".{secrets.token_hex(4)}")
        self._count(path)
        try:
            return LocalPart(self, path)
        except StorageFull:
            self.delete(path)
            raise

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
        self._files[file_id] = stored
        return stored

    def _join(self, path: Path, parts: Sequence[LocalPart]) -> None:
        """Put the parts into one file: the others behind the first, where most often there are none."""
        with self._room:
            self._sizes[path] = sum(self._sizes.pop(part.path) for part in parts)
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
            NotFound: it never was, is not complete, or has expired.
        """
        stored = self._files.get(file_id)
        if stored is None or stored.expires_at <= time.time():
            raise NotFound(f"no file {file_id[:64]!r}: files are kept {self._settings.file_ttl_s:g} s")
        return stored

    def find(self, url: str) -> Stored | None:
        """Return the file that a URL names, whatever its host; None when it is none of this store's."""
        match = _ID.match(url, 0, _MAX_URL)
        try:
            return None if match is None else self.get(match[1])
        except NotFound:
            return None

    def take_room(self, path: Path, more_bytes: int) -> None:
        """Note that a file grows.

        Raises:
            StorageFull: there is no room; it is noted all the same, so that of two at once none gets over the quota.
        """
        with self._room:
            self._sizes[path] += more_bytes
            self._size += more_bytes
        most = self._settings.max_files_bytes
        if self.size > most:
            raise StorageFull(f"the files' quota of {most} bytes is used up; try again later")

    @property
    def size(self) -> int:
        """Return the bytes on the disk, those that are still being written among them."""
        return self._size

    def expire(self) -> None:
        """Delete what is too old."""
        now, self._expired_at = time.time(), time.monotonic()
        for kept in (self._files, self._uploads):
            for stored in [stored for stored in list(kept.values()) if stored.expires_at <= now]:
                with self._lock:
                    kept.pop(stored.id, None)
                self._delete(stored)

    def _look(self) -> None:
        if time.monotonic() - self._expired_at > _LOOK_S:
            self.expire()

    def discard(self, stored: Stored) -> None:
        """Give an upload up."""
        with self._lock:
            self._uploads.pop(stored.id, None)
        self._delete(stored)

    def delete(self, path: Path) -> None:
        """Delete a file from the disk."""
        path.unlink(missing_ok=True)
        with self._room:
            self._size -= self._sizes.pop(path, 0)

    def close(self) -> None:
        """Delete all files."""
        self._files, self._uploads = {}, {}
        for path in list(self._sizes):
            self.delete(path)
        if self._temporary is not None:
            self._temporary.close()
        self._folder = self._temporary = None

    def _count(self, path: Path) -> None:
        if len(self._sizes) >= _MAX_FILES:
            raise StorageFull(f"there are {_MAX_FILES} files, as many as are kept; try again later")
        self._sizes[path] = 0

    def _own_folder(self) -> Path:
        with self._lock:
            if self._folder is None:
                self._folder = self._make_folder(self._settings.files_dir)
            return self._folder

    def _make_folder(self, folder: Path | None) -> Path:
        if folder is None:
            self._temporary = TemporaryFolder()
            return self._temporary.path
        folder = folder.absolute()  # the app may change the working directory
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._delete_leftovers(folder)
        return folder

    def _delete_leftovers(self, folder: Path) -> None:
        """Delete what a killed process has left: what is older than any file of another that shares the folder."""
        oldest = time.time() - self._settings.file_ttl_s
        for path in folder.iterdir():
            with suppress(FileNotFoundError):  # another process that starts does the same
                if _OWN.fullmatch(path.name) and path.stat().st_mtime < oldest:
                    path.unlink()

    def _delete(self, stored: Stored) -> None:
        if isinstance(stored, LocalUpload):
            for part in stored.parts.values():
                part.discard()
        self.delete(stored.path)


class TemporaryFolder:
    """Have a folder that ends with the process: one that was killed leaves it behind, for the next to delete.

    Its owner holds a lock on the folder itself, which the system lets go of whatever becomes of the process.
    """

    def __init__(self) -> None:
        _sweep()
        self._owner = os.getpid()
        for _ in range(_TRIES):  # another process that sweeps may be faster
            self.path = Path(tempfile.mkdtemp(prefix=_FOLDER))
            self._lock = _try_lock(self.path)
            if self._lock is not None:
                break
        atexit.register(self.close)

    def close(self) -> None:
        """Delete the folder; again, and in a forked child, without effect."""
        atexit.unregister(self.close)
        if os.getpid() == self._owner:
            shutil.rmtree(self.path, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None


def _sweep() -> None:
    """Delete the folders of this user's whose owners have ended without doing so."""
    for path in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        lock = _try_lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


def _try_lock(path: Path) -> int | None:
    """Lock a folder of this user's; None where somebody else has, or has deleted it meanwhile."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(lock)
        if held.st_uid == os.getuid() and os.path.samestat(held, os.lstat(path)):
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


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
