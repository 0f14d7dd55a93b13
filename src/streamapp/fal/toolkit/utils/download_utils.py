"""Download files, model weights and git repositories to folders that outlast the process.

They are below `FAL_PERSISTENT_DIR`: what the environment variable `STREAMAPP_PERSISTENT_DIR` says, else
`~/.cache/streamapp`. fal's own, `/data`, is a network disk.
"""

import hashlib
import logging
import math
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .... import fetch, media
from ....jobs.content import persistent_folder
from ....later import module
from ....settings import MIB

if TYPE_CHECKING:
    import httpx
else:
    httpx = module("httpx")

FAL_PERSISTENT_DIR = Path(persistent_folder())
FAL_REPOSITORY_DIR = FAL_PERSISTENT_DIR / ".fal" / "repos"
FAL_MODEL_WEIGHTS_DIR = FAL_PERSISTENT_DIR / ".fal" / "model_weights"

_SILENCE_S = 30.0
_CHUNK_BYTES = MIB
_PARTIAL = ".fal_download."  # of files that are not whole yet; `download_model_weights` passes over names with .fal

logger = logging.getLogger("streamapp")


class DownloadError(Exception):
    """Say why a file could not be downloaded."""


def download_file(
    url: str,
    target_dir: str | Path,
    *,
    force: bool = False,
    request_headers: dict[str, str] | None = None,
    filesize_limit: int | None = None,
) -> Path:
    """Download a file of any size and return its path; one that is there with the same size is kept. Blocks.

    Private addresses are refused, unless the deployment allows them.

    Args:
        target_dir: where to; a relative one is below `FAL_PERSISTENT_DIR`.
        force: replace what is there.
        filesize_limit: in megabytes.
    Raises:
        DownloadError: says why not.
    """
    folder = FAL_PERSISTENT_DIR / target_dir
    folder.mkdir(parents=True, exist_ok=True)
    with open_download(url, request_headers) as download:
        path = folder / download.file_name
        if force or not path.exists() or path.stat().st_size != download.size:
            logger.info("downloading %s to %s", url[:100], path)
            download.write(path, math.inf if filesize_limit is None else filesize_limit * MIB)
    return path


def download_to(url: str, path: Path) -> Path:
    """Download a file to a path, replacing what is there. Blocks.

    Raises:
        DownloadError: says why not.
    """
    with open_download(url) as download:
        download.write(path, math.inf)
    return path


def download_model_weights(url: str, force: bool = False, request_headers: dict[str, str] | None = None) -> Path:
    """Download weights into a folder of their own below `FAL_MODEL_WEIGHTS_DIR`, once; return their path. Blocks.

    Raises:
        DownloadError: says why not.
    """
    folder = FAL_MODEL_WEIGHTS_DIR / _hash_url(url)
    kept = [path for path in folder.glob("*") if not path.name.startswith(".fal")]
    if kept and not force:
        return kept[0]
    return download_file(url, folder, force=force, request_headers=request_headers)


def clone_repository(
    https_url: str,
    *,
    commit_hash: str | None = None,
    target_dir: str | Path | None = None,
    repo_name: str | None = None,
    force: bool = False,
    include_to_path: bool = False,
) -> Path:
    """Clone a git repository with its submodules and return its folder; one that is there at the commit stays. Blocks.

    Args:
        commit_hash: at least 8 digits; without it, the newest is cloned again each time.
        target_dir: below which folder; `FAL_REPOSITORY_DIR` when None.
        force: clone again, whatever is there.
        include_to_path: put the folder first in `sys.path`.
    Raises:
        subprocess.CalledProcessError: git failed.
    """
    folder = FAL_REPOSITORY_DIR if target_dir is None else Path(target_dir)
    path = folder / (repo_name or _repository_name(https_url, commit_hash))
    if force or not _is_at(path, commit_hash):
        _clone(https_url, commit_hash, path)
    if include_to_path and str(path) not in sys.path:
        sys.path.insert(0, str(path))
    return path


def _repository_name(url: str, commit_hash: str | None) -> str:
    if commit_hash is None:
        return Path(url).stem
    if len(commit_hash) < 8:
        raise ValueError(f"expected at least 8 digits of a commit_hash; got {commit_hash!r}")
    return f"{Path(url).stem}-{commit_hash[:8]}"


def _is_at(path: Path, commit_hash: str | None) -> bool:
    if commit_hash is None or not (path / ".git").exists():
        return False
    return _git(path, "rev-parse", "HEAD").startswith(commit_hash)


def _clone(url: str, commit_hash: str | None, path: Path) -> None:
    """Clone beside `path` and then change places: others see the old or the new, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("cloning %s to %s", url, path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PARTIAL) as folder:
        fresh = Path(folder, "new")
        _git(path.parent, "clone", "--quiet", "--recursive", "--", url, str(fresh))
        if commit_hash is not None:
            _git(fresh, "checkout", "--quiet", commit_hash)
            _git(fresh, "submodule", "--quiet", "update", "--init", "--recursive")
        if path.exists():
            path.rename(Path(folder, "old"))
        fresh.rename(path)


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


@dataclass(frozen=True, slots=True)
class Download:
    """Hold an answer whose body is still to come; `size` in bytes, where it is known."""

    file_name: str
    size: int | None
    chunks: Iterable[bytes]

    def write(self, path: Path, max_bytes: float) -> None:
        """Write the body beside `path` and put it there when it is whole."""
        received = 0
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PARTIAL) as folder:
            partial = Path(folder, "partial")
            with partial.open("wb") as file:
                for chunk in self.chunks:
                    received += file.write(chunk)
                    if max(received, self.size or 0) > max_bytes:
                        raise ValueError(f"expected at most {max_bytes} bytes, it has {self.size or 'more'}")
            partial.replace(path)


@contextmanager
def open_download(url: str, headers: dict[str, str] | None = None) -> Iterator[Download]:
    """Open what is at a URL, for the block that reads it. Blocks.

    Raises:
        DownloadError: says why not, also for what goes wrong in the block.
    """
    limits = fetch.limits_here()
    try:
        if media.is_data_uri(url):
            data = media.File.from_data_uri(url).data
            yield Download(_file_name(url), len(data), [data])
            return
        if limits.stored is not None and (own := limits.stored(url)):
            with own.path.open("rb") as file:
                yield Download(_file_name(url), own.path.stat().st_size, iter(partial(file.read, _CHUNK_BYTES), b""))
            return
        opening = fetch.open_url(url, allow_private=limits.allow_private_urls, headers=headers, timeout_s=_SILENCE_S)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(opening) as response:
            size = response.headers.get("Content-Length")
            name = _file_name(url, response.headers.get("Content-Disposition", ""))
            yield Download(name, size and int(size), _chunks(portal, response))
    except (ValueError, OSError, httpx.HTTPError, httpx.InvalidURL) as error:
        raise DownloadError(f"cannot download {url[:100]}: {error or type(error).__name__}") from error


def _chunks(portal: BlockingPortal, response: "httpx.Response") -> Iterator[bytes]:
    body = response.aiter_raw(_CHUNK_BYTES)
    while chunk := portal.call(anext, body, b""):
        yield chunk


def _file_name(url: str, disposition: str = "") -> str:
    message = Message()
    message["Content-Disposition"] = disposition
    parts = urllib.parse.urlparse(url)
    name = Path(message.get_filename() or ("" if parts.scheme == "data" else parts.path)).name
    return _hash_url(url) if name in ("", "..") else name


def _hash_url(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
