"""Endpoints run for jobs: with what the request was validated to, or, from elsewhere, with its plain data."""

import asyncio
import contextvars
import gc
import inspect
import itertools
import json
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import PIL.Image
import pytest
from fastapi import Body, Cookie, Depends, Header, Request, Response, UploadFile
from fastapi.testclient import TestClient
from pydantic import AfterValidator, BaseModel, PlainValidator, SecretStr
from starlette.responses import PlainTextResponse
from tests.served import finished, serving, submit
from tests.waiting import WAIT_S

import streamapp
from streamapp.errors import Cancelled, InvalidInput, StreamAppError
from streamapp.fetch import MediaLimits, limits_here
from streamapp.http.answer import Answer
from streamapp.http.call import Call
from streamapp.inputs import InputReader
from streamapp.jobs.events import to_event
from streamapp.jobs.job import Job, JobRequest, Origin, new_job_id
from streamapp.jobs.stream import Stream
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles
from streamapp.workers.binding import Binding, url_of

SETTINGS = Settings(drain_s=0)
SERVER = ("127.0.0.1", 8000)
PIXEL = streamapp.Image.from_pil(PIL.Image.new("RGB", (1, 1))).data_uri()


class Wanted(BaseModel):
    prompt: str
    image: streamapp.Image | None = None


def anything() -> str:
    return "from a dependency"


class Asked(streamapp.App):
    """Endpoints that answer with what they were given."""

    @cached_property
    def ran_in(self) -> list[str]:
        return []

    @streamapp.endpoint("/whole")
    def whole(self, wanted: Wanted) -> Any:
        return [wanted.prompt, wanted.image and [wanted.image.width, wanted.image.file_name]]

    @streamapp.endpoint("/parts/{name}")
    def parts(self, name: int, prompt: str, x_tenant: Annotated[str, Header()] = "none", n: int = 3) -> Any:
        return [name, prompt, x_tenant, n]

    @streamapp.endpoint("/async")
    async def asynchronous(self, prompt: str = "default") -> str:
        return prompt

    @streamapp.endpoint("/generator")
    def generator(self, n: int, stream: streamapp.Stream) -> Iterator[int]:
        self.ran_in.append(threading.current_thread().name)
        stream.emit("first")
        yield from range(n)

    @streamapp.endpoint("/own")
    def own(self) -> PlainTextResponse:
        return PlainTextResponse("own")

    @streamapp.endpoint("/async-own")
    async def async_own(self) -> PlainTextResponse:
        return PlainTextResponse("own")

    @streamapp.endpoint("/async-generator")
    async def async_generator(self, n: int) -> AsyncIterator[int]:
        for i in range(n):
            yield i

    @streamapp.endpoint("/context")
    def context(self) -> Any:
        asked = self.current_request
        assert asked is not None
        return [asked.headers["a"], asked.endpoint, limits_here().max_pixels]

    @streamapp.endpoint("/large")
    def large(self) -> Any:
        return {"file": streamapp.File(bytes(2_000_000), "application/pdf", "a.pdf")}

    @streamapp.endpoint("/small")
    def small(self) -> Any:
        return streamapp.File(b"x")

    @streamapp.endpoint("/path")
    def path(self, path: Path) -> Any:
        return path

    @streamapp.endpoint("/dependency")
    def dependency(self, told: Annotated[str, Depends(anything)]) -> str:
        return told

    @streamapp.endpoint("/request")
    def request(self, request: Request) -> str:
        return request.method

    @streamapp.endpoint("/response")
    def response(self, response: Response) -> str:
        return "set"

    @streamapp.endpoint("/upload")
    def upload(self, file: UploadFile) -> str:
        return str(file.filename)


def elsewhere(request: JobRequest) -> list[Any]:
    """Run a job of which nothing but its plain data is here; return its outputs."""
    app, job = Asked(), Job(request, SETTINGS, is_live=False)
    endpoints = {spec.path: spec for spec in Asked.endpoints()}
    limits = MediaLimits.of(SETTINGS.model_copy(update={"max_image_pixels": 77}))
    spec = endpoints[request.endpoint]
    stream = Stream(job.channel, job.id)
    files = LocalFiles(SETTINGS)

    async def to_the_end(given: Any) -> Any:
        given = await given
        return [item async for item in given] if hasattr(given, "__aiter__") else given

    def run() -> Any:
        given = Binding(app, spec, InputReader(spec, limits), files).run(job, stream)
        if inspect.iscoroutine(given):
            given = asyncio.run(to_the_end(given))
        given = list(given) if isinstance(given, Iterator) else given
        return [*(event.json() for event in job.channel.events()), to_event(given, job.channel.publisher).json()]

    try:
        outputs: list[Any] = job.context.run(run)
        return outputs
    finally:
        files.close()


def request(path: str, **asked: Any) -> JobRequest:
    return JobRequest(id=new_job_id(), app="asked", endpoint=path, **asked)


def asked_over_http(method: str, path: str, **options: Any) -> tuple[Any, JobRequest]:
    """Ask for a job; return its answer, and what was asked for as plain data."""
    api = streamapp.compile_app(Asked, settings=SETTINGS)
    ended: list[Job] = []
    with TestClient(api) as client:
        api.state.runtime.observers.append(ended.append)
        answer = client.request(method, path, **options)
        assert answer.status_code == 200, answer.text
    return answer.json(), ended[0].request


def binding_of(app: Asked, path: str, *, is_beside: bool = False) -> Binding:
    spec = next(spec for spec in Asked.endpoints() if spec.path == path)
    return Binding(app, spec, InputReader(spec, MediaLimits.of(SETTINGS)), LocalFiles(SETTINGS), is_beside=is_beside)


# What a request gives can be run again elsewhere


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/whole", {"json": {"prompt": "ä"}}),
        ("/whole", {"content": b' {"prompt": "x"} '}),
        ("/whole", {"data": {"prompt": "form"}}),
        ("/parts/7", {"json": {"prompt": "p"}, "headers": {"X-Tenant": "ann"}}),
        ("/async", {"content": b""}),
        ("/async", {"json": {"prompt": "given"}}),
    ],
)
def test_the_same_arguments_are_read_again_from_plain_data(path: str, options: dict[str, Any]) -> None:
    answer, asked = asked_over_http("POST", path, **options)
    assert elsewhere(replace(asked, id=new_job_id())) == [answer]


def test_an_image_that_stands_in_the_input_stays_there() -> None:
    answer, asked = asked_over_http("POST", "/whole", json={"prompt": "p", "image": PIXEL})
    assert answer == ["p", [1, None]]
    assert elsewhere(asked) == [answer]


def test_an_upload_is_put_into_the_input() -> None:
    pixels = streamapp.Image.from_data_uri(PIXEL).data
    answer, asked = asked_over_http(
        "POST", "/whole", data={"prompt": "p"}, files={"image": ("dot.png", pixels, "image/png")}
    )
    assert answer == ["p", [1, "dot.png"]]
    assert elsewhere(asked) == [answer]


def test_what_is_fetched_is_put_into_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    async def download(url: str, max_bytes: int, allow_private: bool) -> tuple[bytes, str]:
        return streamapp.Image.from_data_uri(PIXEL).data, "image/png"

    monkeypatch.setattr("streamapp.fetch._download", download)
    body = {"prompt": "p", "image": {"url": "https://a.example/b.png", "file_name": "b.png"}}
    answer, asked = asked_over_http("POST", "/whole", json=body)
    assert asked.input is not None
    assert b"a.example" not in asked.input
    assert answer == ["p", [1, "b.png"]]
    assert elsewhere(asked) == [answer]


@pytest.mark.parametrize("path", ["/generator", "/async-generator"])
def test_input_of_the_query_is_plain_data_too(path: str) -> None:
    api = streamapp.compile_app(Asked, settings=SETTINGS)
    asked: list[JobRequest] = []
    with TestClient(api) as client:
        api.state.runtime.observers.append(lambda job: asked.append(job.request))
        client.get(path, params={"n": "2"})
    assert elsewhere(asked[0])[-1] == [0, 1]


@pytest.mark.parametrize(
    ("path", "options"),
    [("/dependency", {}), ("/request", {}), ("/response", {}), ("/upload", {"files": {"file": ("a", b"b")}})],
)
def test_what_cannot_leave_the_process_is_said_to_be_bound_to_it(path: str, options: dict[str, Any]) -> None:
    _, asked = asked_over_http("POST", path, **options)
    assert asked.input is None
    with pytest.raises(StreamAppError, match=f"/asked{path} asked for what does not leave the process"):
        elsewhere(asked)


# How it is run


def test_a_stream_parameter_gets_the_stream_of_the_job() -> None:
    assert elsewhere(request("/generator", input=b'{"n": 1}')) == ["first", [0]]


def test_the_endpoint_sees_the_request_and_the_limits_of_its_deployment() -> None:
    assert elsewhere(request("/context", headers=b"a:b")) == [["b", "/context", 77]]


def test_large_files_are_kept_under_the_address_that_the_client_knows() -> None:
    origin = Origin("https", "a.example", None, "/sub")
    (answer,) = elsewhere(request("/large", origin=origin))
    assert answer["file"]["url"].startswith("https://a.example/sub/files/")


@pytest.mark.parametrize(
    ("media", "starts"),
    [("url", ["/files/", "/files/"]), ("inline", ["data:ap", "data:ap"]), (None, ["data:ap", "/files/"])],
)
def test_files_are_where_the_job_wants_them(media: Any, starts: list[str]) -> None:
    (small,), (large,) = elsewhere(request("/small", media=media)), elsewhere(request("/large", media=media))
    assert [small["url"][:7], large["file"]["url"][:7]] == starts


def test_a_file_of_the_apps_own_folder_may_be_given_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    (told,) = elsewhere(request("/path", input=json.dumps({"path": __file__}).encode()))
    assert (told["file_name"], told["file_size"]) == ("test_binding.py", Path(__file__).stat().st_size)


def test_an_app_that_no_file_defines_has_no_folder() -> None:
    made = type("Made", (Asked,), {"__module__": "nowhere"})
    assert binding_of(made(), "/small")._folder is None


def large_file(path: Path) -> bytes:
    content = bytes(range(256)) * 10_000
    path.write_bytes(content)
    return content


def published(path: Path, files: LocalFiles) -> str | None:
    job = Job(request("/path"), SETTINGS, arguments={"path": path})
    spec = next(spec for spec in Asked.endpoints() if spec.path == "/path")
    job.context.run(Binding(Asked(), spec, InputReader(spec, MediaLimits.of(SETTINGS)), files).enter, job)
    assert job.channel.publisher is not None
    return job.channel.publisher.publish_path(path, "video/mp4")


def test_a_large_file_is_copied_into_the_store(tmp_path: Path) -> None:
    content, files = large_file(tmp_path / "a.mp4"), LocalFiles(SETTINGS)
    url = published(tmp_path / "a.mp4", files)
    stored = files.find(f"http://x.test{url}")
    assert stored is not None
    assert (stored.path.read_bytes(), stored.content_type, stored.name) == (content, "video/mp4", "a.mp4")
    files.close()


def test_what_cannot_be_copied_leaves_nothing_behind(tmp_path: Path) -> None:
    large_file(tmp_path / "a.mp4")
    files = LocalFiles(SETTINGS.model_copy(update={"max_files_bytes": 2_000_000}))
    assert published(tmp_path / "a.mp4", files) is None
    with pytest.raises(FileNotFoundError):
        published(tmp_path / "gone.mp4", files)
    assert files.size == 0
    files.close()


async def test_a_job_that_is_over_keeps_no_publisher() -> None:
    job = Job(request("/small"), SETTINGS, arguments={})
    assert job.context.run(binding_of(Asked(), "/small").run, job, Stream(job.channel, job.id)).data == b"x"
    assert job.channel.publisher is not None
    job.cancel()
    assert job.channel.publisher is None


@pytest.mark.parametrize("path", ["/whole", "/async"])
def test_a_job_that_has_just_ended_is_not_read_again(path: str) -> None:
    job = Job(request(path), SETTINGS, arguments={"prompt": "gone"})
    job.cancel()
    with pytest.raises(Cancelled):
        asyncio.run(job.context.run(binding_of(Asked(), path).run, job, Stream(job.channel, job.id)))


async def test_beside_the_inference_thread_a_sync_endpoint_runs_to_its_end_in_a_thread_of_its_own() -> None:
    job = Job(request("/generator"), SETTINGS, arguments={"n": 2})
    binding = binding_of(app := Asked(), "/generator", is_beside=True)
    assert await binding.run(job, Stream(job.channel, job.id)) is None
    assert [event.json() for event in job.channel.events()] == ["first", 0, 1]
    assert app.ran_in == [f"beside-{job.id}"]


@pytest.mark.parametrize("path", ["/own", "/async-own"])
async def test_what_an_endpoint_answers_itself_goes_to_who_waits_for_it(path: str) -> None:
    answer = Answer()
    job = Job(request(path), SETTINGS, arguments={}, answer=answer)
    given = asyncio.to_thread(binding_of(Asked(), path).run, job, Stream(job.channel, job.id))
    running = asyncio.ensure_future(given if path == "/own" else await given)
    response = await asyncio.wrap_future(answer.outcome)
    assert response is not None
    assert response.body == b"own"
    job.cancel()
    await asyncio.wait([running])


@pytest.mark.parametrize(
    ("headers", "others", "url"),
    [
        ([], {"server": SERVER}, "http://127.0.0.1:8000"),
        ([], {"server": ("::1", 80)}, "http://[::1]"),
        ([], {"server": ("/run/socket", None)}, "http:///run/socket:None"),
        ([], {}, ""),
        ([("Host", "example.org")], {"scheme": "https", "server": SERVER}, "https://example.org"),
        ([("Host", "example.org:99"), ("Host", "other")], {"server": SERVER}, "http://example.org:99"),
        ([("Host", "not a host")], {"server": SERVER}, "http://127.0.0.1:8000"),
        ([("Host", "a.b")], {"root_path": "/proxy"}, "http://a.b/proxy"),
        ([("Host", "a.b")], {"root_path": "/proxy/"}, "http://a.b/proxy"),
        ([("Host", "a.b")], {"root_path": "/outer/mount", "app_root_path": "/outer"}, "http://a.b/outer"),
        ([("Host", "a.b")], {"root_path": "/a b?"}, "http://a.b/a b%3F"),
    ],
)
def test_the_base_url_is_starlettes(headers: list[tuple[str, str]], others: dict[str, Any], url: str) -> None:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    asked = {"type": "http", "method": "POST", "path": "/x", "query_string": b"", "headers": raw, **others}
    assert url_of(Call.of(asked).origin) == str(Request(asked).base_url).rstrip("/") == url


# Over HTTP


def test_context_variables_reach_the_endpoint() -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")

    async def enter(x_tenant: str = Header()) -> None:
        tenant.set(x_tenant)

    class Tenants(streamapp.App):
        @streamapp.endpoint("/sync")
        def sync(self, entered: None = Depends(enter)) -> str:
            return tenant.get()

        @streamapp.endpoint("/async")
        async def asynchronous(self, entered: None = Depends(enter)) -> str:
            return tenant.get()

    with serving(Tenants) as client:
        for path in ("/sync", "/async"):
            assert client.post(path, headers={"X-Tenant": "a"}).json() == "a"


@pytest.mark.parametrize(
    ("path", "asked", "message"),
    [
        ("/whole", {"input": b"{}"}, "prompt: Field required"),
    ],
)
def test_an_input_that_the_endpoint_does_not_take_is_said_to_be_invalid(
    path: str, asked: dict[str, bytes], message: str
) -> None:
    """The request was taken in by another version of the app."""
    with pytest.raises(InvalidInput, match=message):
        elsewhere(request(path, **asked))


class Injected(streamapp.App):
    """Endpoints whose parameters FastAPI fills with what JSON does not give back, or with secrets."""

    @streamapp.endpoint("/default")
    def default(self, x: str = Header(None)) -> Any:
        return x

    @streamapp.endpoint("/validated")
    def validated(self, x: Annotated[str, AfterValidator(lambda text: text + "!"), Header()] = "a") -> Any:
        return x

    @streamapp.endpoint("/key")
    def key(self, authorization: Annotated[str, Header()] = "") -> Any:
        return authorization

    @streamapp.endpoint("/aliased-key")
    def aliased_key(self, x: Annotated[str, Header(alias="Authorization")] = "") -> Any:
        return x

    @streamapp.endpoint("/cookie")
    def cookie(self, session: Annotated[str, Cookie()] = "") -> Any:
        return session

    @streamapp.endpoint("/secret")
    def secret(self, x: Annotated[SecretStr, Header()]) -> Any:
        return x.get_secret_value()

    @streamapp.endpoint("/object")
    def object(self, x: Annotated[Any, PlainValidator(lambda text: {1, 2}), Header()]) -> Any:
        return len(x)

    @streamapp.endpoint("/surrogate")
    def surrogate(self, x: Annotated[str, PlainValidator(lambda text: "\ud800"), Header()]) -> Any:
        return len(x)

    @streamapp.endpoint("/infinite")
    def infinite(self, x: Annotated[list[float], Header()]) -> Any:
        return len(x)

    @streamapp.endpoint("/body")
    def body(self, x: Annotated[dict[str, list[float]], Body()]) -> Any:
        return x


def injected(path: str, **options: Any) -> tuple[Any, JobRequest]:
    api = streamapp.compile_app(Injected, settings=SETTINGS)
    ended: list[Job] = []
    with TestClient(api) as client:
        api.state.runtime.observers.append(ended.append)
        answer = client.post(path, **options)
        assert answer.status_code == 200, answer.text
    return answer.json(), ended[0].request


@pytest.mark.parametrize(
    ("path", "options", "answer"),
    [
        ("/default", {}, None),
        ("/validated", {"headers": {"x": "b"}}, "b!"),
        ("/body", {"json": {"a": [1.5]}}, {"a": [1.5]}),
    ],
)
def test_what_fastapi_has_filled_is_given_as_it_was(path: str, options: dict[str, Any], answer: Any) -> None:
    """A second validation could refuse it, or make something else of it."""
    given, asked = injected(path, **options)
    assert given == answer
    spec = next(spec for spec in Injected.endpoints() if spec.path == path)
    again = asyncio.run(InputReader(spec, MediaLimits.of(SETTINGS)).read_again(asked))
    assert again == {"x": answer}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/key", {"Authorization": "Key topsecret"}),
        ("/aliased-key", {"Authorization": "Key topsecret"}),
        ("/cookie", {"Cookie": "session=topsecret"}),
        ("/secret", {"x": "topsecret"}),
        ("/object", {"x": "a"}),
        ("/surrogate", {"x": "a"}),
        ("/infinite", {"x": "inf"}),
    ],
)
def test_secrets_and_what_json_does_not_give_back_stay_here(path: str, headers: dict[str, str]) -> None:
    _, asked = injected(path, headers=headers)
    assert (asked.input, asked.parameters) == (None, b"")
    spec = next(spec for spec in Injected.endpoints() if spec.path == path)
    with pytest.raises(StreamAppError, match="a secret, or a value that is no JSON"):
        asyncio.run(InputReader(spec, MediaLimits.of(SETTINGS)).read_again(asked))


def test_a_parameter_that_did_not_come_is_named() -> None:
    with pytest.raises(InvalidInput, match="no value came for name, x_tenant"):
        elsewhere(request("/parts/{name}", input=b'{"prompt": "p"}'))


def test_reading_again_leaves_the_threads_event_loop_in_place() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert elsewhere(request("/whole", input=b'{"prompt": "p"}')) == [["p", None]]
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


# What comes back of an endpoint


def generated(n: int) -> Iterator[int]:
    yield from range(n)


async def asynchronously_generated(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


def returning(n: int) -> Generator[int, None, str]:
    yield n
    return "end"


async def awaited(value: Any) -> Any:
    return value


def tripped(call: Any) -> Any:
    async def fail() -> None:
        call()

    return fail()


def leave() -> None:
    raise SystemExit(1)


async def give_up() -> None:
    raise asyncio.CancelledError


GIVEN: dict[str, Any] = {
    "coroutine": lambda: awaited(1),
    "coroutine of a coroutine": lambda: awaited(awaited(1)),
    "async generator": lambda: asynchronously_generated(2),
    "coroutine of an async generator": lambda: awaited(asynchronously_generated(2)),
    "generator": lambda: returning(1),
    "coroutine of a generator": lambda: awaited(returning(1)),
    "response": lambda: PlainTextResponse("own"),
    "coroutine of a response": lambda: awaited(PlainTextResponse("own")),
    "exit": lambda: tripped(leave),
    "cancelled": lambda: give_up(),
}


class Giving(streamapp.App):
    """Endpoints that are not declared to give what they give."""

    @streamapp.endpoint("/def")
    def sync(self, what: str) -> Any:
        return GIVEN[what]()

    @streamapp.endpoint("/async-def")
    async def asynchronous(self, what: str) -> Any:
        return GIVEN[what]()


class InTurns(Giving, max_running=2):
    """The same, of which several run at a time."""


WAYS = [(Giving, "/def"), (Giving, "/async-def"), (InTurns, "/def")]


@pytest.mark.parametrize(("app", "path"), WAYS)
@pytest.mark.parametrize(
    ("what", "outputs"),
    [
        ("coroutine", [1]),
        ("coroutine of a coroutine", [1]),
        ("async generator", [0, 1]),
        ("coroutine of an async generator", [0, 1]),
        ("generator", [1, "end"]),
        ("coroutine of a generator", [1, "end"]),
        ("response", ["own"]),
        ("coroutine of a response", ["own"]),
    ],
)
def test_what_comes_back_is_awaited_and_gone_through_wherever_the_endpoint_runs(
    app: type[Giving], path: str, what: str, outputs: list[Any]
) -> None:
    with serving(app) as client:
        answer = client.post(path, json={"what": what})
        assert (answer.text if "response" in what else answer.json()) == outputs[-1]
        job_id = submit(client, path, what=what)
        finished(client, job_id)
        assert client.get(f"/jobs/{job_id}/result?aggregate=1").json() == outputs


async def test_what_is_awaited_for_the_inference_thread_sees_its_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def read() -> str:
        return variable.get()

    def give() -> Any:
        variable.set("the job's")
        return read()

    GIVEN["context"] = give
    job = Job(request("/def"), SETTINGS, arguments={"what": "context"})
    assert await asyncio.to_thread(run_here, job, asyncio.get_running_loop()) == "the job's"


def run_here(job: Job, loop: asyncio.AbstractEventLoop) -> Any:
    """Run the endpoint at `/def` as the inference thread does."""
    spec = next(spec for spec in Giving.endpoints() if spec.path == "/def")
    binding = Binding(Giving(), spec, InputReader(spec, MediaLimits.of(SETTINGS)), LocalFiles(SETTINGS))
    binding.loop = loop
    return job.context.run(binding.run, job, Stream(job.channel, job.id))


@pytest.mark.parametrize("what", ["endless", "coroutine of an endless iterator"])
@pytest.mark.parametrize(("app", "path"), WAYS)
def test_a_cancel_reaches_what_came_back_and_closes_it(app: type[Giving], path: str, what: str) -> None:
    closed = threading.Event()

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    def endless_iterator() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.set()

    GIVEN.update({"endless": endless, "coroutine of an endless iterator": lambda: awaited(endless_iterator())})
    with serving(app) as client:
        job_id = submit(client, path, what=what)
        with client.stream("GET", f"/jobs/{job_id}/events?_events=named") as events:
            next(line for line in events.iter_lines() if line == "event: output")
        client.post(f"/jobs/{job_id}/cancel")
        assert closed.wait(WAIT_S)
        assert client.post(path, json={"what": "coroutine"}).json() == 1


def test_of_an_iterator_whose_job_was_cancelled_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    has_begun, goes_on = threading.Event(), threading.Event()

    def two() -> Iterator[int]:
        has_begun.set()
        goes_on.wait(WAIT_S)
        yield 1

    GIVEN["two"] = lambda: awaited(two())
    with serving(Giving) as client:
        job_id = submit(client, "/async-def", what="two")
        assert has_begun.wait(WAIT_S)
        client.post(f"/jobs/{job_id}/cancel")
        client.post("/async-def", json={"what": "coroutine"})  # the loop has cancelled its task by then
        goes_on.set()
    gc.collect()  # tasks say so when they go
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_job_that_has_ended_is_not_awaited() -> None:
    async def forever() -> None:
        await asyncio.Event().wait()

    job = Job(request("/def"), SETTINGS, arguments={"what": "forever"})
    GIVEN["forever"] = lambda: job.cancel() and forever()
    with pytest.raises(Cancelled):
        await asyncio.to_thread(run_here, job, asyncio.get_running_loop())


@pytest.mark.parametrize(("app", "path"), WAYS)
@pytest.mark.parametrize(("what", "shape"), [("exit", (500, "endpoint_failed")), ("cancelled", (499, "cancelled"))])
def test_what_a_coroutine_raises_ends_its_job_and_no_other(
    app: type[Giving], path: str, what: str, shape: tuple[int, str]
) -> None:
    with serving(app) as client:
        answer = client.post(path, json={"what": what})
        assert (answer.status_code, answer.json()["error"]["code"]) == shape
        assert client.post(path, json={"what": "coroutine"}).json() == 1
