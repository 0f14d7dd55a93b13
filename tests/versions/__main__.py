"""Keep what a version of ours sent, and its packages, for the tests of later ones.

`python -m tests.versions record` notes what the server of the sources sends, and what code may count on; `freeze` also
keeps what `make build` has made in dist/. All goes into the folder of the version that the sources state. Of packages
only the last version's are kept.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from tests.processes import serving
from tests.versions.recording import FRAMES, KEY, REQUESTS, record
from tests.versions.surface import surface

import streamapp

VERSIONS = Path(__file__).parent
APP = VERSIONS / "app.py"
PACKAGES = ("streamapp_server-{}-py3-none-any.whl", "streamapp_client-{}-py3-none-any.whl", "streamapp-client-{}.tgz")
ENVIRONMENT = {"STREAMAPP_API_KEY": KEY, "STREAMAPP_MAX_QUEUE": "1"}


def keep_recording(folder: Path) -> None:
    """Ask a server of the sources all that is asked of each version, and note what names the sources have."""
    with serving(str(APP), env={**os.environ, **ENVIRONMENT}) as (url, _):
        recording = record(int(url.rpartition(":")[2]), REQUESTS, FRAMES)
    folder.mkdir(exist_ok=True)
    for name, kept in {"wire": recording, "surface": surface()}.items():
        (folder / f"{name}.json").write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


def keep_packages(folder: Path, built: Path) -> None:
    """Copy the packages of this version, and let go of older ones, of which no test makes use."""
    for old in VERSIONS.glob("*/*streamapp*"):
        old.unlink()
    for name in PACKAGES:
        shutil.copyfile(built / name.format(streamapp.__version__), folder / name.format(streamapp.__version__))


def main(command: str) -> None:
    """Keep this version's recording, and, to freeze it, its packages."""
    folder = VERSIONS / streamapp.__version__
    keep_recording(folder)
    if command == "freeze":
        keep_packages(folder, VERSIONS.parent.parent / "dist")


if __name__ == "__main__":
    if sys.argv[1:] not in (["record"], ["freeze"]):
        sys.exit("Write: python -m tests.versions record, or, after `make build`, python -m tests.versions freeze")
    main(sys.argv[1])
