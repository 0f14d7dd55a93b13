"""Test apps in-process: a client that shows events, failures, disconnects and resumes; a pipeline without a model.

from streamapp.testing import TestClient

def test_the_last_event_is_the_image() -> None:
    with TestClient(Painter) as client, client.stream("/stream", {"prompt": "a red circle"}) as events:
        assert list(events)[-1].image().size == (512, 512)
"""

from .client import TestClient, TestStream
from .pipeline import FakePipeline

__all__ = ["FakePipeline", "TestClient", "TestStream"]
