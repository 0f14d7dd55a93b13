"""Keep a job's files where its readers get them: in this server's file store.

Outside of a job, in a script, they go to a folder beside it, as Runpod's do where no bucket is set.

Divergence: buckets are not written to, whether the call or `BUCKET_ENDPOINT_URL` names one. The URL is one of this
server's, for as long as it keeps files.
"""

import mimetypes
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ....media import File, publisher_here
from ...logger import RunPodLogger

Credentials = Mapping[str, Any] | None


def upload_image(
    job_id: str,
    image_location: str,
    result_index: int = 0,
    results_list: list[str] | None = None,
    bucket_name: str | None = None,
) -> str:
    """Keep an image's file and return its URL, or its path outside of a job. Blocks.

    Args:
        results_list: gets it at `result_index`.
    """
    _say_without_bucket(None, bucket_name)
    name = str(uuid.uuid4())[:8] + Path(image_location).suffix
    url = _keep_file(name, image_location, "simulated_uploaded")
    if results_list is not None:
        results_list[result_index] = url
    return url


def files(job_id: str, file_list: Iterable[str]) -> list[str]:
    """Keep the files of images and return their URLs, in order. Blocks."""
    return [upload_image(job_id, path) for path in file_list]


def bucket_upload(job_id: str, file_list: Iterable[str], bucket_creds: Credentials) -> list[str]:
    """Keep files and return their URLs, in order. Blocks."""
    _say_without_bucket(bucket_creds, None)
    return [_keep_file(Path(path).name, path, "local_upload") for path in file_list]


def upload_file_to_bucket(
    file_name: str,
    file_location: str,
    bucket_creds: Credentials = None,
    bucket_name: str | None = None,
    prefix: str | None = None,
    extra_args: Mapping[str, Any] | None = None,
) -> str:
    """Keep a file under a name and return its URL, or its path outside of a job. Blocks."""
    _say_without_bucket(bucket_creds, bucket_name)
    return _keep_file(file_name, file_location, "local_upload")


def upload_in_memory_object(
    file_name: str,
    file_data: bytes,
    bucket_creds: Credentials = None,
    bucket_name: str | None = None,
    prefix: str | None = None,
) -> str:
    """Keep bytes under a name and return their URL, or their path outside of a job. Blocks."""
    _say_without_bucket(bucket_creds, bucket_name)
    publisher = publisher_here()
    if publisher is None:
        path = _local(file_name, "local_upload")
        path.write_bytes(file_data)
        return str(path)
    file = File(file_data, mimetypes.guess_type(file_name)[0] or "", Path(file_name).name)
    return publisher.publish(file) or file.data_uri()


def _keep_file(name: str, location: str, folder: str) -> str:
    publisher = publisher_here()
    if publisher is None:
        return str(shutil.copyfile(location, _local(name, folder)))
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return publisher.publish_path(Path(location), kind) or File.from_path(location).data_uri()


def _local(name: str, folder: str) -> Path:
    """Return where a file of a script's goes; its name leads to no other folder."""
    Path(folder).mkdir(exist_ok=True)
    return Path(folder, Path(name).name)


def _say_without_bucket(creds: Credentials, bucket_name: str | None) -> None:
    if creds or bucket_name or os.environ.get("BUCKET_ENDPOINT_URL"):
        _warn_once()


@cache
def _warn_once() -> None:
    RunPodLogger().warn("files are kept by this server, and not in a bucket; return its URL as it is")
