"""The test client shows what a real client sees: events, failures, disconnects and resumes."""

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import Header
from PIL import Image
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import Cancelled, DefinitionError, JobNotFound, SetupFailed
from streamapp.settings import Settings
from streamapp.testing import FakePipeline, TestClient
from streamapp.testing.pipeline import FakeScheduler
from streamapp_client import EndpointFailed, InvalidInput, NotFound, StreamInterrupted, Unauthorized, UnexpectedAnswer


class Silent(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Close the connection without an answer."""


class Counter(streamapp.App):
    """Count; `gated` counts on when the test opens the gate."""

    def setup(self) -> None:
        self.gate = threading.Semaphore(0)
        self.ended: list[str] = []
        self.has_ended = threading.Event()

    def teardown(self) -> None:
        self.ended.append("teardown")

    @streamapp.endpoint("/count")
    def count(self, to: int, fail_at: int = 0) -> Iterator[dict[str, int]]:
        for n in range(1, to + 1):
            if n == fail_at:
                raise ValueError("the counter is worn out")
            yield {"n": n}

    @streamapp.endpoint("/gated")
    def gated(self, to: int, stream: streamapp.Stream) -> str:
        try:
            for n in range(1, to + 1):
                while not self.gate.acquire(timeout=0.01):
                    stream.check()
                stream.emit({"n": n})
        except Cancelled:
            self.ended.append("cancelled")
            raise
        finally:
            self.has_ended.set()
        return "counted"

    @streamapp.endpoint("/double")
    def double(self, n: int) -> dict[str, int]:
        return {"double": 2 * n}

    @streamapp.endpoint("/greet")
    def greet(self, x_name: str = Header()) -> str:
        return f"hello {x_name}"

    @streamapp.endpoint("/picture")
    def picture(self, url: str) -> Iterator[dict[str, Any]]:
        yield {"image": {"url": url}}

    @streamapp.endpoint("/own")
    def own(self) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            yield 'data: {"n": 1}\n\n'
            raise ValueError("the stream broke")

        return StreamingResponse(events(), media_type="text/event-stream")

    @streamapp.endpoint("/silent")
    def silent(self) -> Response:
        return Silent()


@pytest.fixture
def app() -> Counter:
    return Counter()


@pytest.fixture
def client(app: Counter) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def test_a_stream_gives_events_with_name_data_and_rising_ids(client: TestClient) -> None:
    with client.stream("/count", {"to": 2}) as stream:
        events = list(stream)
        assert [(event.name, event.data) for event in events] == [("output", {"n": 1}), ("output", {"n": 2})]
        assert [event.id for event in events] == [f"{stream.job_id}:1.2", f"{stream.job_id}:1.3"]


def test_events_arrive_while_the_endpoint_runs(app: Counter, client: TestClient) -> None:
    with client.stream("/gated", {"to": 2}) as stream:
        app.gate.release()
        assert next(stream).data == {"n": 1}
        assert client.job(stream.job_id).status == "running"


def test_the_result_is_there_when_the_job_has_succeeded(app: Counter, client: TestClient) -> None:
    with client.stream("/gated", {"to": 1}) as stream:
        assert stream.result is None
        app.gate.release()
        assert [event.data for event in stream] == [{"n": 1}, "counted"]
        assert stream.result == "counted"


def test_invalid_input_raises_with_the_fields(client: TestClient) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.stream("/count", {"to": "many"})
    assert caught.value.detail[0]["loc"] == ["body", "to"]


def test_an_endpoint_that_does_not_stream_is_named(client: TestClient) -> None:
    with pytest.raises(UnexpectedAnswer, match=r"client\.run"):
        client.stream("/double", {"n": 1})


def test_a_job_that_fails_raises_after_its_events(client: TestClient) -> None:
    stream = client.stream("/count", {"to": 3, "fail_at": 2})
    assert next(stream).data == {"n": 1}
    with pytest.raises(EndpointFailed):
        next(stream)
    assert client.job(stream.job_id).status == "failed"
    assert stream.result is None


def test_closing_early_is_a_client_that_leaves(app: Counter, client: TestClient) -> None:
    with client.stream("/gated", {"to": 100}) as stream:
        app.gate.release()
        next(stream)
    assert client.job(stream.job_id).status == "cancelled"
    assert app.has_ended.wait(WAIT_S)
    assert app.ended == ["cancelled"]


def test_letting_go_of_a_stream_is_a_client_that_leaves(app: Counter, client: TestClient) -> None:
    app.gate.release()
    for event in client.stream("/gated", {"to": 100}):
        job = client.job(event.id.partition(":")[0])
        break
    assert job.status == "cancelled"


def test_limit_leaves_after_so_many_events(app: Counter, client: TestClient) -> None:
    app.gate.release(2)
    stream = client.stream("/gated", {"to": 100}, limit=2)
    assert [event.data for event in stream] == [{"n": 1}, {"n": 2}]
    assert client.job(stream.job_id).status == "cancelled"


def test_a_stream_in_its_resume_window_goes_on_for_the_client_that_comes_back(app: Counter, client: TestClient) -> None:
    app.gate.release(2)
    with client.stream("/gated", {"to": 2}, headers={"Streamapp-Resume": "10"}) as stream:
        first = next(stream)
    with client.resume(first.id) as rest:
        assert [(event.name, event.data) for event in rest][:2] == [("output", {"n": 2}), ("output", "counted")]
        assert rest.job_id == stream.job_id


def test_a_resumed_stream_ends_with_done(client: TestClient) -> None:
    events = list(client.stream("/count", {"to": 2}))
    assert [event.name for event in client.resume(events[0].id)] == ["output", "done"]


def test_resuming_a_job_that_was_read_to_its_end_gives_nothing(client: TestClient) -> None:
    events = list(client.stream("/count", {"to": 1}))
    done = list(client.resume(events[-1].id))[-1]
    assert list(client.resume(done.id)) == []


def test_resuming_an_unknown_job_raises_not_found(client: TestClient) -> None:
    with pytest.raises(NotFound):
        client.resume(f"{'0' * 32}:1.1")
    with pytest.raises(JobNotFound):
        client.job("0" * 32)


def test_get_streams_as_an_event_source_reads_them(client: TestClient) -> None:
    events = list(client.stream("/count", method="GET", params={"to": 2}))
    assert [event.name for event in events] == ["job", "message", "message", "done"]
    rest = client.stream("/count", method="GET", last_event_id=events[1].id)
    assert [event.data for event in rest][:1] == [{"n": 2}]


def test_run_returns_the_value_as_json(client: TestClient) -> None:
    assert client.run("/double", {"n": "4"}) == {"double": 8}


def test_run_raises_what_the_app_said(client: TestClient) -> None:
    with pytest.raises(NotFound):
        client.run("/nowhere")


def test_plain_requests_pass_through(client: TestClient) -> None:
    assert client.get("/health").json()["status"] == "ok"
    assert client.post("/greet", headers={"X-Name": "ann"}).json() == "hello ann"


def test_an_image_that_the_app_serves_is_downloaded(client: TestClient) -> None:
    event = next(client.stream("/picture", {"url": "/health"}))
    assert event.download("/health").startswith(b"{")
    with pytest.raises(NotFound):
        next(client.stream("/picture", {"url": "/nowhere.png"})).image()


def test_a_stream_that_breaks_is_cut_and_shows_why(client: TestClient) -> None:
    stream = client.stream("/own")
    assert next(stream).data == {"n": 1}
    with pytest.raises(StreamInterrupted) as caught:
        next(stream)
    assert caught.value.__cause__ is not None
    assert repr(caught.value.__cause__.__cause__) == "ValueError('the stream broke')"


def test_an_app_that_closes_the_connection_gives_no_answer(client: TestClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        client.post("/silent")


def test_a_wrong_app_is_refused_at_once() -> None:
    with pytest.raises(DefinitionError, match="no endpoint"):
        TestClient(type("Empty", (streamapp.App,), {}))


def test_a_setup_that_raises_raises_at_the_start() -> None:
    class Broken(Counter):
        def setup(self) -> None:
            raise OSError("no model here")

    with pytest.raises(SetupFailed), TestClient(Broken):
        pass


def test_leaving_the_client_ends_open_streams_and_runs_teardown(app: Counter) -> None:
    with TestClient(app) as client:
        stream = client.stream("/gated", {"to": 100})
        app.gate.release()
        next(stream)
        job = client.job(stream.job_id)
    assert job.status == "cancelled"
    assert app.ended == ["cancelled", "teardown"]


def test_several_apps_are_served_under_their_names() -> None:
    class Second(streamapp.App):
        @streamapp.endpoint("/name")
        def tell(self) -> str:
            return "second"

    with TestClient(Counter, Second) as client:
        assert client.run("/counter/double", {"n": 1}) == {"double": 2}
        assert client.run("/second/name") == "second"


def test_the_environment_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_API_KEY", "secret")
    with TestClient(Counter) as client:
        assert client.run("/double", {"n": 1}) == {"double": 2}


def test_given_settings_count() -> None:
    with TestClient(Counter, settings=Settings(api_key="secret")) as client:
        with pytest.raises(Unauthorized):
            client.run("/double", {"n": 1})
        events = client.stream("/count", {"to": 1}, headers={"Authorization": "Key secret"})
        assert [event.data for event in events] == [{"n": 1}]


def test_importing_it_needs_no_pytest() -> None:
    code = "import sys, streamapp.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=WAIT_S, check=False).returncode == 0


def test_the_fake_pipeline_draws_the_same_picture_for_the_same_prompt_and_seed() -> None:
    pipe = FakePipeline()
    seeded = SimpleNamespace(initial_seed=lambda: 7)  # as a torch.Generator is
    image = pipe("a red circle", generator=seeded, guidance_scale=5.0).images[0]
    assert image.size == (64, 64)
    assert image == pipe("a red circle", generator=7).images[0]
    assert image != pipe("a red circle", generator=8).images[0]
    assert image != pipe("a blue circle", generator=7).images[0]


def test_the_fake_pipeline_draws_several_pictures_of_the_size_asked_for() -> None:
    images = FakePipeline()(["a", "b"], width=32, height=16, num_images_per_prompt=2).images
    assert [image.size for image in images] == [(32, 16)] * 4
    assert len({image.tobytes() for image in images}) == 4


def test_the_fake_pipeline_calls_back_after_every_step() -> None:
    steps: list[tuple[int, int]] = []
    seen: list[Image.Image] = []

    def note(pipe: FakePipeline, index: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:
        steps.append((index, timestep))
        seen.append(values["latents"])
        return values

    image = FakePipeline(steps=4)("a", callback_on_step_end=note).images[0]
    assert steps == [(0, 1000), (1, 750), (2, 500), (3, 250)]
    assert seen[-1] == image != seen[0]


def test_the_fake_pipeline_steps_its_scheduler_once_for_each_step() -> None:
    class Noting(FakeScheduler):
        def step(self, model_output: Any, timestep: int, sample: Any) -> SimpleNamespace:
            timesteps.append(timestep)
            return super().step(model_output, timestep, sample)

    pipe, timesteps = FakePipeline(), list[int]()
    pipe.scheduler = Noting()
    pipe("a", num_inference_steps=4)
    assert timesteps == [1000, 750, 500, 250]


def test_interrupting_the_fake_pipeline_stops_it_after_the_step() -> None:
    steps: list[int] = []

    def interrupt(pipe: FakePipeline, index: int, timestep: int, values: dict[str, Any]) -> dict[str, Any]:
        steps.append(index)
        pipe._interrupt = index == 1
        return values

    FakePipeline()("a", num_inference_steps=5, callback_on_step_end=interrupt)
    assert steps == [0, 1]
