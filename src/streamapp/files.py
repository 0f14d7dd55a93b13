"""Keep files on this machine's disk, each under an id that cannot be guessed: uploads, and results too large to inline.

A file is written in parts, then completed; what is complete never changes. Whoever knows a file's URL may read it, so
that an `<img>` can; whoever began an upload may write it. Files expire; what does not fit into the quota is refused.
Any thread may call; only `get`, `find`, `upload` and `check_room` do not touch the disk.
"""

import hashlib
import re
import secrets
import shutil
import tempfile
import time
import urllib.parse
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from .errors import InvalidInput, NotFound, StorageFull
from .media import File
from .settings import Settings

_ID = re.compile(r"https?://[^/]+(?:/.*)?/files/([0-9a-f]{32})/")
_UNSAFE = re.compile(r"[^\w.-]+")
_MAX_NAME = 100
_MAX_PARTS = 10_000


@dataclass(slots=True)
class Stored:
    """Describe a file.

    Attributes:
        id: 32 hexadecimal digits.
        key: with it the upload goes on; empty when the file is complete.
        size: in bytes; of an upload, of its parts so far.
        expires_at: by `time.time()`.
    """

    id: str
    key: str
    content_type: str
    name: str
    path: Path
    expires_at: float
    size: int = 0
    parts: dict[int, int] = field(default_factory=dict)

    @property
    def url_path(self) -> str:
        """Return the path of the file's URL."""
        return f"/files/{self.id}/{urllib.parse.quote(self.name)}"

    def part_path(self, number: int) -> Path:
        """Return where a part is written."""
        return self.path.with_name(f"{self.id}.{number}")


class FileStore:
    """Keep files in a folder: the settings' `files_dir`, else one that ends with the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._files: dict[str, Stored] = {}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    def publish(self, media: File, *, base_url: str) -> str | None:
        """Keep a result's media; return its absolute URL, or None when there is no room for it."""
        try:
            stored = self.put(media.data, media.content_type, media.file_name or "")
        except StorageFull:
            return None
        return base_url + stored.url_path

    def put(self, data: bytes, content_type: str, name: str) -> Stored:
        """Keep a whole file.

        Raises:
            StorageFull: the quota is used up.
        """
        self.check_room(len(data))
        stored = self.begin(content_type, name)
        stored.path.write_bytes(data)
        stored.size, stored.key = len(data), ""
        return stored

    def begin(self, content_type: str, name: str, *, ttl_s: float | None = None) -> Stored:
        """Begin an upload.

        Args:
            ttl_s: how long the file is kept, at most `file_ttl_s`.
        """
        self.expire()
        file_id = secrets.token_hex(16)
        most_s = self._settings.file_ttl_s
        stored = Stored(
            id=file_id,
            key=secrets.token_hex(16),
            content_type=content_type or "application/octet-stream",
            name=_UNSAFE.sub("_", name)[-_MAX_NAME:].lstrip(".") or "file",
            path=self._folder() / file_id,
            expires_at=time.time() + (most_s if ttl_s is None else min(ttl_s, most_s)),
        )
        self._files[file_id] = stored
        return stored

    def open_part(self, file_id: str, key: str, number: int) -> BinaryIO:
        """Open a part of an upload for writing; one that is sent again replaces the former.

        Raises:
            NotFound: no such upload is under way.
            InvalidInput: the number is out of range.
        """
        if not 1 <= number <= _MAX_PARTS:
            raise InvalidInput(f"a part's number is 1 to {_MAX_PARTS}, got {number}")
        return self.upload(file_id, key).part_path(number).open("wb")

    def end_part(self, stored: Stored, number: int) -> str:
        """Note a part that is written, and return its ETag."""
        path = stored.part_path(number)
        stored.parts[number] = path.stat().st_size
        stored.size = sum(stored.parts.values())
        with path.open("rb") as part:
            return f'"{hashlib.file_digest(part, "md5").hexdigest()}"'

    def complete(self, file_id: str, key: str, numbers: Collection[int]) -> Stored:
        """Make a file of an upload's parts.

        Raises:
            NotFound: no such upload is under way.
            InvalidInput: the parts are not those that came.
        """
        stored = self.upload(file_id, key)
        if not numbers or sorted(numbers) != sorted(stored.parts):
            raise InvalidInput(f"the upload has the parts {sorted(stored.parts)}, got {sorted(numbers)[:100]}")
        first, *others = sorted(numbers)
        with stored.part_path(first).open("ab") as whole:
            for number in others:
                with stored.part_path(number).open("rb") as part:
                    shutil.copyfileobj(part, whole)
                stored.part_path(number).unlink()
        stored.part_path(first).rename(stored.path)
        stored.key, stored.parts = "", {}
        return stored

    def upload(self, file_id: str, key: str) -> Stored:
        """Return an upload that is under way.

        Raises:
            NotFound: there is none with this id and key.
        """
        stored = self._files.get(file_id)
        if stored is None or not stored.key or not secrets.compare_digest(stored.key.encode(), key.encode()):
            raise NotFound("no such upload is under way; begin another")
        return stored

    def get(self, file_id: str) -> Stored:
        """Return a complete file.

        Raises:
            NotFound: it never was, is not complete, or has expired.
        """
        stored = self._files.get(file_id)
        if stored is None or stored.key or stored.expires_at <= time.time():
            raise NotFound(f"no file {file_id[:64]!r}: files are kept {self._settings.file_ttl_s:g} s")
        return stored

    def find(self, url: str) -> Stored | None:
        """Return the file that a URL names, whatever its host; None when it is none of this store's."""
        match = _ID.search(url)
        try:
            return None if match is None else self.get(match[1])
        except NotFound:
            return None

    def read(self, url: str) -> File | None:
        """Return the content of the file that a URL names; None when it is none of this store's."""
        stored = self.find(url)
        return None if stored is None else File(stored.path.read_bytes(), stored.content_type, stored.name)

    def check_room(self, more_bytes: int) -> None:
        """Make sure that there is room for more.

        Raises:
            StorageFull: there is not.
        """
        if self.size + more_bytes > self._settings.max_files_bytes:
            raise StorageFull(f"the files' quota of {self._settings.max_files_bytes} bytes is used up; try again later")

    @property
    def size(self) -> int:
        """Return the bytes kept."""
        return sum(stored.size for stored in list(self._files.values()))

    def expire(self) -> None:
        """Delete what is too old."""
        now = time.time()
        for stored in list(self._files.values()):
            if stored.expires_at <= now:
                self._delete(stored)

    def discard(self, stored: Stored) -> None:
        """Give an upload up."""
        self._delete(stored)

    def close(self) -> None:
        """Delete all files."""
        for stored in list(self._files.values()):
            self._delete(stored)
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    def _folder(self) -> Path:
        if self._settings.files_dir is not None:
            self._settings.files_dir.mkdir(parents=True, exist_ok=True)
            return self._settings.files_dir
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="streamapp-files-")
        return Path(self._temporary.name)

    def _delete(self, stored: Stored) -> None:
        self._files.pop(stored.id, None)
        for path in (stored.path, *map(stored.part_path, stored.parts)):
            path.unlink(missing_ok=True)
