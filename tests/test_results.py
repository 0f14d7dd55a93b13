"""How jobs end: with what their endpoints returned, yielded or raised."""

import asyncio
import contextlib
import io
import signal
import sys
import threading
from collections.abc import AsyncIterator, Generator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy
import PIL.Image
import pytest
from fastapi import HTTPException
from starlette.testclient import TestClient
from tests import served
from tests.at_work import OutOfMemoryError, code, new
from tests.served import PICTURE, PNG, Failing, Prompt, Results, data, names, serving

import streamapp
from streamapp.errors import Cancelled, OutOfMemory, StreamAppError
from streamapp.jobs.events import Output, Preview
from streamapp.jobs.inbox import Unread
from streamapp.jobs.job import Job
from streamapp.jobs.pause import Pause
from streamapp.jobs.stream import Stream
from streamapp.media import File
from streamapp.workers.results import (
    empty_gpu_cache,
    exhaust,
    exhaust_on_loop,
    failures,
    final_event,
    report,
    succeed_at_once,
)


def stream_of(job: Job) -> Stream:
    return Stream(job.channel, job.id)


def outputs(job: Job) -> list[Any]:
    return [event.json() for event in job.channel.events() if event.kind == "output"]


def counted(closed: list[int]) -> Generator[int, None, str]:
    try:
        yield 1
        yield 2
    finally:
        closed.append(threading.get_ident())
    return "end"


# What is yielded


@pytest.mark.parametrize("result", [None, 1, "text", [1, 2], {"a": 1}])
def test_what_is_no_iterator_is_the_result(result: Any) -> None:
    job = new()
    assert exhaust(result, stream_of(job)) == result
    assert outputs(job) == []


def test_all_that_a_generator_yields_is_emitted_and_its_return_value_is_the_result() -> None:
    job, closed = new(), list[int]()
    assert exhaust(counted(closed), stream_of(job)) == "end"
    assert outputs(job) == [1, 2]
    assert closed == [threading.get_ident()]


async def test_what_an_async_iterator_yields_is_emitted_on_the_loop_and_it_is_closed() -> None:
    closed = list[str]()

    async def generated() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append("closed")

    class Counting:
        def __aiter__(self) -> AsyncIterator[int]:
            return generated()

    job = new()
    await exhaust_on_loop(generated(), stream_of(job))
    await exhaust_on_loop(Counting(), stream_of(job))
    assert (outputs(job), closed) == ([1, 2, 1, 2], ["closed", "closed"])
    job.cancel()
    with pytest.raises(Cancelled):
        await exhaust_on_loop(generated(), stream_of(job))
    assert len(closed) == 3


async def test_a_pause_is_waited_for_and_not_emitted() -> None:
    async def generated() -> AsyncIterator[Any]:
        yield Pause.lasting(0.001)
        yield 3

    job = new()
    await asyncio.to_thread(exhaust, iter([1, Pause(), Pause.lasting(0.001), 2]), stream_of(job))
    await exhaust_on_loop(generated(), stream_of(job))
    assert outputs(job) == [1, 2, 3]


def test_what_fails_at_an_input_of_a_session_is_told_of_it_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    job, error = new(), ValueError("secret")
    first, second = failures(job, [Unread(1, "a"), Unread(3, "b")], error)
    assert [event.json()["input"] for event in (first, second)] == [1, 3]
    assert first.json()["error"]["code"] == "endpoint_failed"
    assert caplog.messages == [f"job {job.id} failed at an input: /app/x"]
    assert not job.is_over
    failures(job, [], StreamAppError("for the caller"))
    assert len(caplog.messages) == 1


def test_an_iterator_that_cannot_be_closed_is_gone_through() -> None:
    job = new()
    assert exhaust(iter([1, 2]), stream_of(job)) is None
    assert outputs(job) == [1, 2]


def test_a_generator_is_closed_when_its_job_is_over() -> None:
    job, closed = new(), list[int]()
    job.cancel()
    with pytest.raises(Cancelled):
        exhaust(counted(closed), stream_of(job))
    assert closed == [threading.get_ident()]


# What is returned


@pytest.mark.parametrize(
    ("returned", "result"), [(1, 1), (None, None), (Output("a", event="token"), "a"), (Preview({"x": 1}), {"x": 1})]
)
def test_what_is_returned_becomes_an_output(returned: Any, result: Any) -> None:
    event = final_event(new(), returned)
    assert event is not None
    assert (event.kind, event.json()) == ("output", result)


def test_without_a_return_value_the_last_output_is_the_result() -> None:
    job = new()
    stream_of(job).output("last")
    assert final_event(job, None) is None


@pytest.mark.parametrize("returned", [None, 1, {"a": File(b"x")}, Output("a", event="token")])
def test_what_is_encoded_at_once_ends_its_job(returned: Any) -> None:
    job = new()
    assert succeed_at_once(job, returned)
    assert (job.status, job.result.json()) == ("succeeded", final_event(new(), returned).json())  # type: ignore[union-attr]


@pytest.mark.parametrize("returned", [[PIL.Image.new("L", (1, 1))], File(bytes(2**20 + 1)), Preview(1), object()])
def test_what_may_take_long_is_left_to_another_thread(returned: Any) -> None:
    job = new()
    assert not succeed_at_once(job, returned)
    assert not job.is_over


# What is raised


def test_an_error_ends_the_job_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    job = new()
    report(job, ValueError("no"))
    assert code(job) == "endpoint_failed"
    assert caplog.messages == [f"job {job.id} failed: /app/x"]


def test_what_sets_signal_handlers_is_told_where_it_may(caplog: pytest.LogCaptureFixture) -> None:
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(signal.signal, signal.SIGTERM, signal.SIG_DFL).exception()
    assert error is not None
    report(new(), error)
    assert "/app/x; signal handlers are set in the main thread only, which this is not: do what" in caplog.messages[0]


async def test_who_runs_a_loop_on_the_loop_is_told_that_it_is_there(caplog: pytest.LogCaptureFixture) -> None:
    async def nothing() -> None: ...

    with pytest.raises(RuntimeError) as caught, contextlib.closing(nothing()) as coroutine:
        asyncio.run(coroutine)
    report(new(), caught.value)
    assert "so the endpoint runs on the event loop: await it there" in caplog.messages[0]


def test_a_file_in_memory_is_no_iterator_of_its_lines() -> None:
    assert exhaust(lines := io.BytesIO(b"a\nb"), Stream(new().channel, "")) is lines


@pytest.fixture
def emptied(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note when the cache of the GPU is emptied."""
    emptied: list[bool] = []
    cuda = SimpleNamespace(is_available=lambda: True, empty_cache=lambda: emptied.append(True))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    return emptied


@pytest.mark.parametrize("error", [OutOfMemory("ask for less"), OutOfMemoryError("2 GiB")])
def test_where_memory_is_short_the_cache_is_emptied(emptied: list[bool], error: Exception) -> None:
    job = new()
    report(job, error)
    assert code(job) == "out_of_memory"
    assert emptied == [True]


def test_a_cache_that_cannot_be_emptied_is_told_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a sticky error of CUDA every call to it raises: https://github.com/pytorch/pytorch/issues/25873."""

    def is_available() -> bool:
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=is_available)))
    job = new()
    report(job, OutOfMemory("ask for less"))
    assert caplog.messages == [f"job {job.id} failed, and its memory could not be given back"]


def test_without_a_gpu_there_is_no_cache_to_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied = threading.Event()
    cuda = SimpleNamespace(is_available=lambda: False, empty_cache=emptied.set)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    empty_gpu_cache()
    monkeypatch.delitem(sys.modules, "torch")
    empty_gpu_cache()
    assert not emptied.is_set()


# Over HTTP


class Custom:
    """What a torch tensor looks like to one who does not import torch."""

    def __init__(self, items: int) -> None:
        self.items = items

    def numel(self) -> int:
        return self.items

    def tolist(self) -> list[int]:
        return [7] * self.items


PICTURE_JSON = {"url": f"data:image/png;base64,{PNG}", "content_type": "image/png", "width": 2, "height": 2}
WAV = b"RIFF\x24\0\0\0WAVEfmt "


@pytest.mark.parametrize("path", ["/value", "/async-value", "/stream"])
@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"a": 1}, {"a": 1}),
        ([1, None, True], [1, None, True]),
        (Prompt(prompt="x"), {"prompt": "x", "steps": 1}),
        ("text\nü", "text\nü"),
        (b"\x00\xff", {"url": "data:application/octet-stream;base64,AP8=", "file_size": 2}),
        ("\ud800", "�"),
        (None, None),
        ({"n": float("nan")}, {"n": None}),
        (numpy.float32(0.5), 0.5),
        (numpy.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ({"tensor": Custom(2)}, {"tensor": [7, 7]}),
        (streamapp.File(b"x", "model/obj"), {"url": "data:model/obj;base64,eA==", "content_type": "model/obj"}),
        ([streamapp.Audio(WAV)], [{"content_type": "audio/wav"}]),
        (PICTURE, PICTURE_JSON),
        ({"image": PICTURE}, {"image": PICTURE_JSON}),
        (streamapp.Output({"a": 1}, event="mesh"), {"a": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_an_endpoint_may_give(results: tuple[Results, TestClient], path: str, value: Any, result: Any) -> None:
    app, client = results
    app.value = value
    answer = client.post(path)
    assert contains(data(answer.text)[-1] if path == "/stream" else answer.json(), result)


def contains(given: Any, expected: Any) -> bool:
    """Compare; of media only what `expected` names."""
    match expected:
        case dict():
            return all(contains(given[key], expected[key]) for key in expected)
        case list():
            return len(given) == len(expected) and all(map(contains, given, expected))
    return bool(given == expected)


@pytest.mark.parametrize("path", ["/value", "/async-value", "/stream"])
@pytest.mark.parametrize("value", [object(), {"a": {1, object()}}, Custom(100_000), threading.Lock()])
def test_what_cannot_be_encoded_is_an_error_that_names_it(
    results: tuple[Results, TestClient], path: str, value: Any
) -> None:
    app, client = results
    app.value = value
    answer = client.post(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_encodable")


def test_an_http_exception_keeps_its_detail_and_headers(failing: tuple[Failing, TestClient]) -> None:
    app, client = failing
    app.error = HTTPException(402, {"credits": 0}, {"X-Left": "0"})
    answer = client.post("/value")
    assert (answer.json()["detail"], answer.headers["x-left"]) == ({"credits": 0}, "0")


def test_debug_shows_what_was_raised() -> None:
    app = Failing()
    app.error = ValueError("the reason")
    with serving(app, debug=True) as client:
        answer = client.post("/value").json()
    assert "the reason" in answer["error"]["message"]
    first, _, rest = answer["error"]["traceback"].partition("\n")
    assert first.startswith("Traceback")
    assert rest.startswith(f'  File "{served.__file__}", line ')  # the frames before are the server's own
    assert answer["detail"] == answer["error"]["traceback"]


def test_a_value_without_a_form_ends_a_stream_that_has_begun(failing: tuple[Failing, TestClient]) -> None:
    text = failing[1].post("/unencodable").text
    assert names(text) == ["output", "error"]
    assert data(text)[-1]["error"]["code"] == "not_encodable"
