"""Download what a job's input names, from public addresses and up to a size.

Files go where Runpod's do, below the current folder: `job_files` and `jobs/<id>/downloaded_files`. The limit is
`RUNPOD_MAX_DOWNLOAD_BYTES`, 5 GiB where it is not set, and counts what a zip file unpacks to as well; other addresses
are opened by `STREAMAPP_ALLOW_PRIVATE_URLS`.
"""

import os
import uuid
import zipfile
from collections.abc import Iterable
from contextvars import copy_context
from pathlib import Path
from typing import Any

from ....fal.toolkit.utils.download_utils import DownloadError, open_download
from ....process.threads import DaemonPool
from ...logger import RunPodLogger

_MAX_BYTES = 5 * 1024**3
_downloading = DaemonPool(8, "download-files")


def file(file_url: str) -> dict[str, Any]:
    """Download a file, and unpack it where it is a zip file. Blocks.

    Returns:
        `file_path`, `type` (the name's ending), `original_name`, `extracted_path` (None for other files).
    Raises:
        DownloadError: says why not.
    """
    folder = Path("job_files").absolute()
    name = str(uuid.uuid4())
    with open_download(file_url) as download:
        kind = Path(download.file_name).suffix.removeprefix(".")
        folder.mkdir(exist_ok=True)
        path = folder / f"{name}.{kind}"
        download.write(path, _max_bytes())
        unpacked = _unpacked(path, folder / name) if kind == "zip" else None
    return {"file_path": str(path), "type": kind, "original_name": download.file_name, "extracted_path": unpacked}


def download_files_from_urls(job_id: str, urls: str | Iterable[str | None]) -> list[str | None]:
    """Download files, several at once; return their paths, and None for what cannot be had: the log says why. Blocks.

    Raises:
        ValueError: the id is none.
    """
    if not job_id or Path(job_id).name != job_id:
        raise ValueError(f"Expected a job's id, got {job_id!r}")
    folder = Path("jobs", job_id, "downloaded_files").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # Each in the job's context, whose limits count, and which knows the server's own files.
    started = [
        _downloading.submit(copy_context().run, _download, url, folder)
        for url in ([urls] if isinstance(urls, str) else urls)
    ]
    return [each.result() for each in started]


def _download(url: str | None, folder: Path) -> str | None:
    if url is None:
        return None
    try:
        with open_download(url) as download:
            path = folder / f"{uuid.uuid4()}{Path(download.file_name).suffix}"
            download.write(path, _max_bytes())
            return str(path)
    except DownloadError as error:
        RunPodLogger().error(str(error))
        return None


def _unpacked(path: Path, folder: Path) -> str:
    """Unpack a zip file: what it says it unpacks to is all that is read of it."""
    try:
        with zipfile.ZipFile(path) as archive:
            if (size := sum(member.file_size for member in archive.infolist())) > _max_bytes():
                raise ValueError(f"expected at most {_max_bytes()} bytes, it unpacks to {size}")
            archive.extractall(folder)
    except (zipfile.BadZipFile, RuntimeError) as error:  # the second of what is encrypted
        raise ValueError(f"expected a zip file: {error}") from error
    return str(folder)


def _max_bytes() -> int:
    asked = os.environ.get("RUNPOD_MAX_DOWNLOAD_BYTES", "")
    return int(asked) if asked.isdecimal() and int(asked) else _MAX_BYTES
