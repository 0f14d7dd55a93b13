"""Tell which GPU there is, and keep what torch compiles for it."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from .utils.download_utils import FAL_PERSISTENT_DIR


def get_gpu_type() -> str:
    """Return the model of the first NVIDIA GPU, such as "H100", or "UNKNOWN". Blocks."""
    try:
        names = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return "UNKNOWN"
    found = re.search(r"NVIDIA (\w+)", names)
    return found[1] if found else "UNKNOWN"


def load_inductor_cache(cache_key: str) -> str:
    """Have torch keep what it compiles in a folder that outlasts the process; returns the folder."""
    folder = str(FAL_PERSISTENT_DIR / "inductor-caches" / get_gpu_type() / cache_key)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    return folder


def sync_inductor_cache(cache_key: str, unpacked_dir_hash: str) -> None:
    """Do nothing: the folder is on this machine already. fal packs it and uploads it here."""


@contextmanager
def synchronized_inductor_cache(cache_key: str) -> Iterator[None]:
    """Have torch keep what it compiles in the block, and later, in a folder that outlasts the process."""
    load_inductor_cache(cache_key)
    yield
