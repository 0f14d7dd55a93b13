"""Count the steps that a served pipeline begins after its reader has left, or after somebody cancelled its job.

The server stands behind a real socket, with the worker and the channel that every app has.
"""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import torch

import streamapp
from streamapp.diffusion import Previews
from streamapp.serve.server import Server, bind

from .figures import spread

_WAIT_S = 30.0
_MANY = 200  # more steps than a reader waits for, however slow it is


class Left(NamedTuple):
    """What was computed for nobody."""

    #: begun after the leaving
    steps: int
    #: from the leaving until the device was idle, in steps' time
    busy_steps: float


class Drawing(streamapp.App):
    """Draw with a pipeline that is there already, and note when each step begins."""

    pipe: Any
    previews: Previews
    call: dict[str, Any]

    def setup(self) -> None:
        """Watch the model."""
        self.begun: list[float] = []
        self.is_over = threading.Event()
        self.pipe.unet.register_forward_pre_hook(lambda *_: self.begun.append(time.monotonic()))

    @streamapp.endpoint("/draw")
    def draw(self, stream: streamapp.Stream) -> None:
        """Draw one image, as latents."""
        self.begun.clear()
        self.is_over.clear()
        try:
            with self.previews.to(stream) as pipe:
                pipe(**self.call)
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.idle_at = time.monotonic()
            self.is_over.set()


def measure(pipe: Any, tiny_vae: Any, call: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Leave at moments all over a step; returns the spread of each figure by the way of leaving."""
    app = Drawing()
    app.pipe, app.previews, app.call = pipe, Previews(pipe, tiny_vae, max_fps=1000), call
    with _serving(app) as url, httpx.Client(base_url=url, timeout=_WAIT_S) as client:
        _until_ready(client)
        step_s = _step_s(app, client)
        app.call = call | {"num_inference_steps": _MANY}
        taken = {
            way: [_leave(app, client, step_s, n / rounds * step_s, cancels=cancels) for n in range(rounds)]
            for way, cancels in (("the reader leaves", False), ("POST /jobs/{id}/cancel", True))
        }
    return {
        way: {name: spread([getattr(each, name) for each in left]) for name in Left._fields}
        for way, left in taken.items()
    }


@contextmanager
def _serving(app: Drawing) -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    server = Server(streamapp.compile_app(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(_WAIT_S)


def _until_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not client.get("/ready").is_success:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the app was not ready after {_WAIT_S:g} s")
        time.sleep(0.05)


def _step_s(app: Drawing, client: httpx.Client) -> float:
    """Draw a whole image and return how long a step takes."""
    client.post("/draw").raise_for_status()
    return statistics.median(after - before for before, after in zip(app.begun, app.begun[1:], strict=False))


def _leave(app: Drawing, client: httpx.Client, step_s: float, pause_s: float, *, cancels: bool) -> Left:
    with client.stream("POST", "/draw", headers={"Accept": "text/event-stream"}) as response:
        lines = response.iter_lines()  # by a name: httpx hangs up when the iterator is let go
        next(line for line in lines if line == "event: progress")
        client.get("/health")  # opens the connection that the cancel takes
        time.sleep(pause_s)
        if app.is_over.is_set():
            raise RuntimeError("the image was finished before its reader left")
        left_at = time.monotonic()
        if cancels:
            job = response.headers["X-Streamapp-Job-Id"]
            client.post(f"/jobs/{job}/cancel").raise_for_status()
    if not app.is_over.wait(_WAIT_S):
        raise TimeoutError(f"the pipeline ran on for {_WAIT_S:g} s")
    return Left(sum(begun > left_at for begun in app.begun), (app.idle_at - left_at) / step_s)
