"""Define what stores files: `FileRepository`, which apps subclass for a store of their own."""

import mimetypes
import uuid
from dataclasses import dataclass
from typing import Any, Literal

RepositoryId = Literal["fal", "fal_v2", "fal_v3", "in_memory", "gcp_storage", "r2", "cdn"]


class FileData:
    """Hold a file's bytes, with a type and a name where the caller gave none."""

    def __init__(self, data: bytes, content_type: str | None = None, file_name: str | None = None) -> None:
        self.data = data
        self.content_type = content_type or mimetypes.guess_type(file_name or "")[0] or "application/octet-stream"
        extension = mimetypes.guess_extension(self.content_type, strict=False) or ".bin"
        self.file_name = file_name or f"{uuid.uuid4().hex}{extension}"


@dataclass
class FileRepository:
    """Store files: subclass it and pass an instance as `repository=`."""

    def save(self, data: FileData, **options: Any) -> str:
        """Store a file and return its URL; `options` are the caller's `save_kwargs`. Blocks."""
        raise NotImplementedError(f"{type(self).__name__} defines no save(self, data) -> str")
