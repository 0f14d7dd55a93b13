"""Know the repository that the tests are in: its folder, and what git has of it."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def listed(*patterns: str) -> list[str]:
    """Return what git knows of; of a checkout, too, that belongs to somebody else, as one in a container does."""
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", *patterns]
    places = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\0")
    return [place for place in places if (ROOT / place).is_file()]


def texts() -> dict[str, str]:
    """Return what is in the repository and is text, by its path."""
    read = {place: (ROOT / place).read_bytes() for place in listed()}
    return {place: content.decode() for place, content in read.items() if b"\0" not in content}
