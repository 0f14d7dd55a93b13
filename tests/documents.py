"""The two documents of Chutes on streaming, whose files are served and called as they are written there."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import processes
from tests.fal_packages import environment

APPS = Path(__file__).parent / "apps"
EXAMPLE = APPS / "chutes_example"
GUIDE = APPS / "chutes_guide"


def digest(text: str) -> str:
    """Return what a text is known by; blank lines around it do not count."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


@contextmanager
def serving(file: Path, models: Path, **variables: str) -> Iterator[tuple[str, processes.Process]]:
    """Serve a document's file where its models are found by their names; yield the URL and the process."""
    env = {**environment(), "HF_HUB_OFFLINE": "1", **variables}
    with processes.serving(str(file), env=env, folder=models) as served:
        yield served


def chatting_client() -> str:
    """Return the guide's client for JavaScript with that example of its use which chats: Node has no EventSource."""
    client, _, uses = (GUIDE / "client.js").read_text().partition("// HTTP Streaming example")
    return client + uses[uses.index("// WebSocket example") :]
