"""Define fal's file stores by what stands for them here: this server's file store, and data URIs."""

from typing import Any

from ..... import media
from ..types import FileData, FileRepository


class FalFileRepository(FileRepository):
    """Store files with this server: small ones in the URL itself, until it is known how the job wants its files."""

    def save(self, data: FileData, **options: Any) -> str:
        """Return a URL of the file; `options` are without effect."""
        return media.File(data.data, data.content_type, data.file_name).url()


class InMemoryRepository(FileRepository):
    """Store files in their URLs."""

    def save(self, data: FileData, **options: Any) -> str:
        """Return a data URI; `options` are without effect."""
        return media.File(data.data, data.content_type, data.file_name).data_uri()


FalFileRepositoryV3 = FalFileRepositoryV2 = FalCDNFileRepository = FalFileRepository
