"""Delete what jobs have left in the current folder."""

import shutil
from collections.abc import Iterable
from pathlib import Path

_FOLDERS = ("input_objects", "output_objects", "job_files")


def clean(folder_list: Iterable[str] | None = None) -> None:
    """Delete the folders that Runpod's utilities use, `output.zip`, and those of `folder_list`. Blocks."""
    for folder in (*_FOLDERS, *(folder_list or ())):
        shutil.rmtree(folder, ignore_errors=True)
    Path("output.zip").unlink(missing_ok=True)
