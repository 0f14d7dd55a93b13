"""Running an endpoint once without a server: events, errors, and cancelling."""

import asyncio
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import Request
from starlette.responses import PlainTextResponse, Response
from tests.waiting import WAIT_S

import streamapp
from streamapp.cli.run_once import run_once
from streamapp.errors import InvalidInput, MalformedRequest, NotFound
from streamapp.jobs.job import Job
from streamapp.runpod.handlers import handler_app
from streamapp.settings import Settings


class Worked(streamapp.App):
    """Work in steps; `ended` tells how."""

    capture_logs = True

    at_step = threading.Event()
    go_on = threading.Event()
    ended: list[str] = []

    def setup(self) -> None:
        self.ended.clear()
        self.at_step.clear()
        self.go_on.clear()

    def teardown(self) -> None:
        self.ended.append("teardown")

    @streamapp.endpoint("/steps")
    def steps(self, total: int, stream: streamapp.Stream) -> dict[str, int]:
        for step in range(1, total + 1):
            stream.progress(step, total)
            stream.output({"step": step})
        return {"steps": total}

    @streamapp.endpoint("/demand")
    def demand(self, stream: streamapp.Stream) -> bool:
        return stream.wants_preview()

    @streamapp.endpoint("/wait")
    def wait(self, stream: streamapp.Stream) -> None:
        self.at_step.set()
        try:
            assert self.go_on.wait(WAIT_S)
            stream.check()
        except streamapp.Cancelled:
            self.ended.append("cancelled")
            raise

    @streamapp.endpoint("/flood")
    def flood(self, total: int) -> Iterator[int]:
        yield from range(total)

    @streamapp.endpoint("/lines")
    def lines(self, source: str, stream: streamapp.Stream) -> None:
        stream.log("own")
        sys.stdout.write("printed\n")
        logging.getLogger(source).warning("warned")
        logging.getLogger(source).info("info")

    @streamapp.endpoint("/fail")
    def fail(self) -> None:
        raise ValueError("no")

    @streamapp.endpoint("/request")
    def request(self, request: Request) -> None: ...

    @streamapp.endpoint("/pages/{page}")
    def page(self, page: int) -> None: ...

    @streamapp.endpoint("/image")
    def image(self, image: streamapp.Image) -> None: ...

    @streamapp.endpoint("/response")
    def response(self) -> Response:
        return PlainTextResponse("own")

    @streamapp.endpoint("/unannounced")
    def unannounced(self):  # type: ignore[no-untyped-def]
        return PlainTextResponse("own")


async def run(path: str, *, shows_previews: bool = True, **data: Any) -> tuple[Job, list[tuple[str, Any]]]:
    events: list[tuple[str, Any]] = []

    def show(name: str, value: Any) -> None:
        events.append((name, value))

    job = await run_once(Worked, path, data, Settings(), show=show, shows_previews=shows_previews)
    return job, events


async def test_events_are_shown_and_the_job_is_returned() -> None:
    job, events = await run("/steps", total="2")
    assert job.status == "succeeded"
    assert [data for name, data in events if name == "output"] == [{"step": 1}, {"step": 2}, {"steps": 2}]
    assert ("progress", {"step": 2, "total": 2}) in events
    assert job.result is not None
    assert job.result.json() == {"steps": 2}


@pytest.mark.parametrize(("has_handler", "shown"), [(True, ["own"]), (False, ["own", "info"])])
async def test_what_is_on_the_screen_already_is_not_shown_again(
    has_handler: bool, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the app prints, and records that a handler writes, or logging's last resort."""
    monkeypatch.setattr(logger := logging.getLogger("test.lines"), "propagate", has_handler)  # pytest has handlers
    logger.setLevel(logging.INFO)
    _, events = await run("/lines", source=logger.name)
    assert [data["message"] for name, data in events if name == "log"] == shown


async def test_a_job_may_be_given_its_id() -> None:
    job = await run_once(
        Worked, "/steps", {"total": 1}, Settings(), show=lambda *_: None, shows_previews=False, job_id="local_test"
    )
    assert job.id == "local_test"


async def test_teardown_runs() -> None:
    await run("/steps", total=1)
    assert Worked.ended == ["teardown"]


async def test_more_outputs_than_are_kept_all_arrive() -> None:
    _, events = await run("/flood", total=20_000)
    assert [data for _, data in events] == list(range(20_000))


async def test_previews_are_wanted_when_they_are_shown() -> None:
    for shows_previews in (True, False):
        _, events = await run("/demand", shows_previews=shows_previews)
        assert events == [("output", shows_previews)]


async def test_a_job_that_fails_says_so() -> None:
    job, events = await run("/fail")
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.code == "endpoint_failed"
    assert events == []


@pytest.mark.parametrize("path", ["/steps/", "steps"])
async def test_a_slash_at_either_end_of_a_path_makes_no_difference(path: str) -> None:
    with pytest.raises(InvalidInput, match="total: Input should be a valid integer"):
        await run(path, total="many")


async def test_an_unknown_endpoint_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(NotFound, match=r"Worked has no endpoint '/nowhere'; it has /steps, /demand"):
        await run("/nowhere")


async def test_a_session_is_not_run_once() -> None:
    class Sums(streamapp.App):
        @streamapp.realtime("/realtime")
        def add(self, x: int, y: int) -> int:
            return x + y

    for path, message in (
        ("realtime", "has a session at 'realtime', .*; serve the app"),
        ("/x", "it has sessions only"),
    ):
        with pytest.raises(NotFound, match=message):
            await run_once(Sums, path, {}, Settings(), show=print, shows_previews=False)


async def test_invalid_input_is_refused_before_setup() -> None:
    with pytest.raises(InvalidInput, match="total: Input should be a valid integer"):
        await run("/steps", total="many")


async def test_media_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(InvalidInput, match="input: image: expected a PNG"):
        await run("/image", image="data:image/png;base64,AAAA")


@pytest.mark.parametrize("path", ["/request", "/pages/{page}"])
async def test_an_endpoint_that_needs_http_is_refused(path: str) -> None:
    with pytest.raises(MalformedRequest, match="streamapp serve"):
        await run(path)


@pytest.mark.parametrize("path", ["/response", "/unannounced"])
async def test_a_response_of_the_endpoints_own_is_read_for_its_outputs(path: str) -> None:
    assert (await run(path))[1] == [("output", "own")]


async def test_cancelling_ends_the_job_within_its_step() -> None:
    running = asyncio.create_task(run("/wait"))
    assert await asyncio.to_thread(Worked.at_step.wait, WAIT_S)
    running.cancel()
    await asyncio.sleep(0)
    Worked.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert Worked.ended == ["cancelled", "teardown"]


async def test_a_handler_of_runpods_has_its_worker_here_as_well() -> None:
    async def handler(job: dict[str, Any]) -> AsyncIterator[Any]:
        yield job["input"]
        yield {"last": True}

    shown: list[Any] = []
    app = handler_app({"handler": handler}, name="handled")
    job = await run_once(
        app, "/stream", {"a": 1}, Settings(), show=lambda *event: shown.append(event), shows_previews=False
    )
    assert (shown[0], job.result and job.result.json()) == (("output", {"a": 1}), {"last": True})
