"""The real `fal-client`, unmodified, and `fal api` of the package `fal`, against a server of ours."""

import gc
import io
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import fal_client
import httpx
import pytest
from fal_client.client import FalClientHTTPError, FalClientTimeoutError
from httpx_sse import SSEError
from PIL import Image
from tests.fal_packages import FAL, ID, environment, needs_fal, open_gate, serving, serving_tls
from tests.leading_proxy import leading
from tests.waiting import WAIT_S

from streamapp_client.compat import fal

PICTURE = Image.new("RGB", (30, 20), "red")
STEPS = [{"step": step} for step in range(1, 6)]
RESULT = {"steps": 5}


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # uploads of fal_client leave sockets open


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (url, _):
        fal.use(url)
        yield url
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # or tests of other modules would be blamed


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    with serving_tls(tmp_path_factory.mktemp("tls")) as served:
        yield served


@pytest.fixture
def client(url: str) -> Iterator[fal_client.SyncClient]:
    client = fal_client.SyncClient()
    yield client
    client._client.close()


@pytest.fixture
async def async_client(url: str) -> AsyncIterator[fal_client.AsyncClient]:
    client = fal_client.AsyncClient()
    yield client
    await (await client._client).aclose()


@pytest.fixture
def held(client: fal_client.SyncClient, url: str) -> Iterator[fal_client.SyncRequestHandle]:
    """Submit a request that has begun to run, and goes on when the gate is opened."""
    handle = client.submit(ID, {}, path="/slow")
    deadline = time.monotonic() + WAIT_S
    while not getattr(handle.status(with_logs=True), "logs", None):
        assert time.monotonic() < deadline, "it did not begin to run"
    yield handle
    open_gate(url)


class Updates:
    """Take what a subscription reports, and open the gate as soon as it says that the job waits there."""

    def __init__(self, url: str) -> None:
        self.seen: list[Any] = []
        self._url = url

    def __call__(self, status: Any) -> None:
        self.seen.append(status)
        if isinstance(status, fal_client.InProgress) and status.logs:
            open_gate(self._url)


def messages(status: Any) -> list[str]:
    return [line["message"] for line in status.logs]


# run


def test_run_returns_the_result(client: fal_client.SyncClient) -> None:
    assert client.run(ID, {"a": 2, "b": 3}) == {"sum": 5}


def test_run_reaches_an_endpoint_by_its_path(client: fal_client.SyncClient) -> None:
    image_url = fal_client.encode_image(PICTURE)
    assert client.run(ID, {"image_url": image_url}, path="/size") == {"width": 30, "height": 20}
    assert client.run(f"{ID}/size", {"image_url": image_url}) == {"width": 30, "height": 20}


def test_run_tells_what_is_wrong_with_the_input(client: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        client.run(ID, {"a": "two", "b": 3})
    assert caught.value.status_code == 422
    detail: Any = caught.value.message
    assert detail[0]["loc"] == ["body", "a"]


def test_run_tells_that_the_endpoint_raised_but_not_what(client: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        client.run(ID, {}, path="/fails")
    assert (caught.value.status_code, caught.value.error_type) == (500, "endpoint_failed")
    assert "secret" not in caught.value.response.text
    assert caught.value.response_headers["x-fal-request-id"]


@pytest.mark.parametrize("application", ["me/other-app", f"{ID}/nowhere"])
def test_run_tells_that_there_is_no_such_endpoint(client: fal_client.SyncClient, application: str) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        client.run(application, {})
    assert caught.value.status_code == 404


def test_a_refused_run_is_tried_again(client: fal_client.SyncClient) -> None:
    assert client.run(ID, {"times": 2}, path="/refuses") == {"refused": 2}


def test_a_run_that_the_client_gives_up_ends_on_the_server_too(client: fal_client.SyncClient) -> None:
    with pytest.raises(httpx.ReadTimeout):
        client.run(ID, {}, path="/slow", timeout=0.2, start_timeout=10)  # with a start_timeout it is not repeated
    assert client.run(ID, {"a": 1, "b": 1}, timeout=WAIT_S) == {"sum": 2}


def test_a_run_that_does_not_start_in_time_is_refused_and_not_tried_again(
    client: fal_client.SyncClient, held: fal_client.SyncRequestHandle
) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        client.run(ID, {"a": 1, "b": 1}, start_timeout=1.1)
    assert caught.value.status_code == 504
    assert caught.value.response_headers["x-fal-request-timeout-type"] == "user"


# stream


def test_stream_yields_the_events_and_the_result_last(client: fal_client.SyncClient) -> None:
    assert list(client.stream(ID, {})) == [*STEPS, RESULT]


def test_a_stream_that_is_left_stops_its_job(client: fal_client.SyncClient) -> None:
    events = client.stream(ID, {}, path="/endless")
    assert next(events) == {"step": 1}
    events.close()  # type: ignore[attr-defined]
    assert client.run(ID, {"a": 1, "b": 1}, timeout=WAIT_S) == {"sum": 2}


def test_a_stream_that_fails_does_not_seem_to_end_well(client: fal_client.SyncClient) -> None:
    events = client.stream(ID, {}, path="/stream_fails")
    assert next(events) == {"step": 1}
    assert next(events)["error_type"] == "endpoint_failed"
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        next(events)


def test_a_stream_that_is_refused_raises(client: fal_client.SyncClient) -> None:
    with pytest.raises(SSEError, match="application/json"):
        list(client.stream(ID, {"steps": "five"}))


# The queue


def test_submit_returns_a_handle_that_waits_for_the_result(client: fal_client.SyncClient) -> None:
    handle = client.submit(ID, {"a": 2, "b": 3}, hint="warm", priority="low")
    assert handle.get() == {"sum": 5}
    assert isinstance(handle.status(), fal_client.Completed)


def test_the_result_of_a_queued_stream_is_its_last_event(client: fal_client.SyncClient) -> None:
    assert client.submit(ID, {}, path="/stream").get() == RESULT


def test_a_request_waits_in_the_queue_then_runs_then_is_completed(
    client: fal_client.SyncClient, held: fal_client.SyncRequestHandle, url: str
) -> None:
    waiting = client.submit(ID, {"a": 1, "b": 1})
    assert waiting.status() == fal_client.Queued(position=0)
    assert held.status() == fal_client.InProgress(logs=None)
    open_gate(url)
    assert held.get() == {"status": "done"}
    assert waiting.get() == {"sum": 2}
    completed = held.status(with_logs=True)
    assert isinstance(completed, fal_client.Completed)
    assert completed.metrics["inference_time"] > 0
    assert messages(completed) == ["before the gate", "behind the gate"]


def test_subscribe_reports_the_logs_and_returns_the_result(client: fal_client.SyncClient, url: str) -> None:
    updates, enqueued = Updates(url), list[str]()
    result = client.subscribe(ID, {}, path="/slow", with_logs=True, on_enqueue=enqueued.append, on_queue_update=updates)
    assert result == {"status": "done"}
    assert len(enqueued) == 1
    assert messages(updates.seen[-1]) == ["before the gate", "behind the gate"]


def test_a_request_is_found_by_its_id(client: fal_client.SyncClient) -> None:
    request_id = client.submit(ID, {"a": 2, "b": 3}).request_id
    assert client.result(ID, request_id) == {"sum": 5}
    assert isinstance(client.status(ID, request_id), fal_client.Completed)


def test_a_running_request_is_cancelled(client: fal_client.SyncClient, held: fal_client.SyncRequestHandle) -> None:
    held.cancel()
    completed = held.status()
    assert isinstance(completed, fal_client.Completed)
    assert completed.error_type == "cancelled"
    with pytest.raises(FalClientHTTPError) as caught:
        held.get()
    assert caught.value.status_code == 499


def test_a_waiting_request_is_cancelled_by_its_id(
    client: fal_client.SyncClient, held: fal_client.SyncRequestHandle
) -> None:
    waiting = client.submit(ID, {"a": 1, "b": 1})
    client.cancel(ID, waiting.request_id)
    assert isinstance(waiting.status(), fal_client.Completed)


def test_a_request_that_is_over_cannot_be_cancelled(client: fal_client.SyncClient) -> None:
    handle = client.submit(ID, {"a": 1, "b": 1})
    handle.get()
    with pytest.raises(FalClientHTTPError, match="ALREADY_COMPLETED") as caught:
        handle.cancel()
    assert caught.value.status_code == 400


def test_a_failed_request_is_completed_and_its_result_raises(client: fal_client.SyncClient) -> None:
    handle = client.submit(ID, {}, path="/fails")
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert caught.value.status_code == 500
    completed = handle.status()
    assert isinstance(completed, fal_client.Completed)
    assert completed.error_type == "endpoint_failed"
    assert completed.error


def test_an_input_that_is_wrong_is_refused_when_it_is_submitted(client: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        client.submit(ID, {"a": 1})
    assert caught.value.status_code == 422


def test_an_id_that_nobody_gave_is_not_found(client: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        client.status(ID, "00000000-0000-0000-0000-000000000000")
    assert caught.value.status_code == 404


def test_a_subscription_that_takes_too_long_is_cancelled(client: fal_client.SyncClient) -> None:
    with pytest.raises(FalClientTimeoutError) as caught:
        client.subscribe(ID, {}, path="/slow", client_timeout=5.1)
    assert caught.value.request_id is not None
    completed = client.status(ID, caught.value.request_id)
    assert isinstance(completed, fal_client.Completed)
    assert completed.error_type == "cancelled"


# Uploads


def test_uploaded_bytes_can_be_read_at_the_url(client: fal_client.SyncClient) -> None:
    answer = httpx.get(client.upload(b"\0 bytes", "application/x-own", file_name="ö.bin"), timeout=WAIT_S)
    assert answer.content == b"\0 bytes"
    assert answer.headers["content-type"] == "application/x-own"


def test_an_uploaded_file_is_an_input(client: fal_client.SyncClient, tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "red.png")
    image_url = client.upload_file(tmp_path / "red.png")
    assert client.run(ID, {"image_url": image_url}, path="/size") == {"width": 30, "height": 20}


@pytest.mark.parametrize("repository", ["fal_v3", "fal"])
def test_an_uploaded_image_is_an_input(client: fal_client.SyncClient, repository: Any) -> None:
    image_url = client.upload_image(PICTURE, repository=repository)
    assert client.run(ID, {"image_url": image_url}, path="/size") == {"width": 30, "height": 20}


def is_picture(url: str) -> bool:
    answer = httpx.get(url, timeout=WAIT_S).raise_for_status()
    return answer.headers["content-type"] == "image/png" and Image.open(io.BytesIO(answer.content)).size == PICTURE.size


def test_an_image_of_a_result_can_be_downloaded(client: fal_client.SyncClient) -> None:
    for result in (client.run(f"{ID}/draw", {}), client.subscribe(f"{ID}/draw", {})):
        assert is_picture(result["images"][0]["url"])
    preview, drawn = client.stream(f"{ID}/draw", {})
    assert preview["images"][0]["url"].startswith("data:image/jpeg;")
    assert is_picture(drawn["images"][0]["url"])
    inline = client.run(f"{ID}/draw", {"sync_mode": True})
    assert inline["images"][0]["url"].startswith("data:image/png;")


def test_an_image_of_a_result_is_an_input_of_the_next(client: fal_client.SyncClient) -> None:
    image_url = client.run(f"{ID}/draw", {})["images"][0]["url"]
    assert client.run(ID, {"image_url": image_url}, path="/size") == {"width": 30, "height": 20}


def test_a_file_over_100_mb_is_uploaded_in_parts(client: fal_client.SyncClient) -> None:
    data = bytes(range(256)) * 4096 * 101
    with httpx.stream("GET", client.upload(data, "application/octet-stream"), timeout=WAIT_S) as answer:
        assert b"".join(answer.iter_bytes()) == data


# Asynchronously


async def test_async_run(async_client: fal_client.AsyncClient) -> None:
    assert await async_client.run(ID, {"a": 2, "b": 3}) == {"sum": 5}


async def test_async_stream(async_client: fal_client.AsyncClient) -> None:
    assert [event async for event in async_client.stream(ID, {})] == [*STEPS, RESULT]


async def test_async_submit(async_client: fal_client.AsyncClient) -> None:
    handle = await async_client.submit(ID, {"a": 2, "b": 3})
    assert await handle.get() == {"sum": 5}
    assert isinstance(await async_client.status(ID, handle.request_id), fal_client.Completed)
    assert await async_client.result(ID, handle.request_id) == {"sum": 5}


async def test_async_subscribe(async_client: fal_client.AsyncClient, url: str) -> None:
    updates = Updates(url)
    result = await async_client.subscribe(ID, {}, path="/slow", with_logs=True, on_queue_update=updates)
    assert result == {"status": "done"}
    assert messages(updates.seen[-1]) == ["before the gate", "behind the gate"]


async def test_async_cancel(async_client: fal_client.AsyncClient) -> None:
    handle = await async_client.submit(ID, {}, path="/slow")
    await async_client.cancel(ID, handle.request_id)
    with pytest.raises(FalClientHTTPError) as caught:
        await handle.get()
    assert caught.value.status_code == 499


async def test_async_timeout(async_client: fal_client.AsyncClient) -> None:
    with pytest.raises(FalClientTimeoutError):
        await async_client.subscribe(ID, {}, path="/slow", client_timeout=1.1)
    assert await async_client.run(ID, {"a": 1, "b": 1}, timeout=WAIT_S) == {"sum": 2}


async def test_async_errors_and_retries(async_client: fal_client.AsyncClient) -> None:
    with pytest.raises(FalClientHTTPError) as caught:
        await async_client.run(ID, {"a": "two", "b": 3})
    assert caught.value.status_code == 422
    assert await async_client.run(ID, {"times": 2}, path="/refuses") == {"refused": 2}


async def test_async_uploads(async_client: fal_client.AsyncClient, tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "red.png")
    for image_url in (
        await async_client.upload((tmp_path / "red.png").read_bytes(), "image/png"),
        await async_client.upload_file(tmp_path / "red.png"),
        await async_client.upload_image(PICTURE),
    ):
        assert await async_client.run(ID, {"image_url": image_url}, path="/size") == {"width": 30, "height": 20}


# Scripts that say nothing of us, and `fal api`

SCRIPT = f"""
import asyncio
import fal_client

print(fal_client.run("{ID}", {{"a": 2, "b": 3}}))
print(*fal_client.stream("{ID}", {{"steps": 1}}))
print(fal_client.subscribe("{ID}", {{"a": 2, "b": 4}}))
print(asyncio.run(fal_client.run_async("{ID}", {{"a": 2, "b": 5}})))
"""
UPLOAD = """
print(fal_client.upload(b"bytes", "text/plain"))
"""
BACK = """
import httpx

print(httpx.get(fal_client.upload(b"bytes", "text/plain")).content)
"""
SHOWN = "{'sum': 5}\n{'step': 1} {'steps': 1}\n{'sum': 6}\n{'sum': 7}\n"


def run(*command: str, variables: dict[str, str], exit_code: int = 0) -> str:
    env = {**environment(), **variables}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == exit_code, ended.stderr
    return ended.stdout


def run_by_exec(url: str, *command: str, variables: dict[str, str] | None = None, exit_code: int = 0) -> str:
    by_exec = (sys.executable, "-m", "streamapp", "exec", "--url", url, "--", *command)
    return run(*by_exec, variables=variables or {}, exit_code=exit_code)


COUNTER = """
import fal_client

steps = {"steps": 2}
print(fal_client.subscribe("me/counter", steps), fal_client.run("me/counter", steps))
print(fal_client.run("me/counter", steps, path="/stream"), *fal_client.stream("me/counter", steps))
"""


def test_an_app_of_streams_alone_is_called_by_its_name() -> None:
    with serving(app="Counter") as (url, _):
        shown = run_by_exec(url, sys.executable, "-c", COUNTER)
    assert shown == "{'count': 2} {'count': 2}\n{'count': 2} {'count': 1} {'count': 2}\n"


def test_a_script_runs_unchanged_by_exec(url: str) -> None:
    shown = run_by_exec(url, sys.executable, "-c", SCRIPT + UPLOAD)
    assert shown.startswith(SHOWN)
    assert httpx.get(shown.splitlines()[-1], timeout=WAIT_S).content == b"bytes"


def test_exec_sends_the_servers_key() -> None:
    with serving(STREAMAPP_API_KEY="secret") as (url, _):
        variables = {"STREAMAPP_API_KEY": "secret", "FAL_KEY": "of-fal"}
        assert run_by_exec(url, sys.executable, "-c", SCRIPT + UPLOAD, variables=variables).startswith(SHOWN)


def test_over_tls_the_printed_variables_suffice_for_an_unchanged_script_but_for_uploads(
    tls: tuple[str, dict[str, str]],
) -> None:
    assert run(sys.executable, "-c", SCRIPT, variables={"FAL_KEY": "any", **tls[1]}) == SHOWN


def test_over_tls_exec_takes_uploads_too(tls: tuple[str, dict[str, str]]) -> None:
    url, variables = tls
    shown = run_by_exec(url, sys.executable, "-c", SCRIPT + UPLOAD, variables=variables)
    assert shown.startswith(SHOWN)
    assert shown.splitlines()[-1].startswith(f"{url}/files/")


def test_over_tls_a_proxy_may_lead_an_untouched_script_here(tls: tuple[str, dict[str, str]]) -> None:
    """By fal's own names: uploads too, to whose host fal_client has no variable."""
    url, variables = tls
    with leading() as start:
        proxy = start(url)
        trusting = {"SSL_CERT_FILE": variables["SSL_CERT_FILE"], "HTTPS_PROXY": proxy.url, "FAL_KEY": "any"}
        shown = run(sys.executable, "-c", SCRIPT + UPLOAD + BACK, variables=trusting)
    assert shown.startswith(SHOWN)
    assert shown.splitlines()[-1] == "b'bytes'"
    assert {"fal.run:443", "queue.fal.run:443", "rest.fal.ai:443", "v3.fal.media:443"} == {
        asked.removeprefix("CONNECT ") for asked in proxy.asked
    }


def test_over_tls_a_key_is_asked_for_under_fals_names(tmp_path: Path) -> None:
    """An upload's path is one of a file here, which is open."""
    with serving("--tls", "--tls-dir", str(tmp_path), STREAMAPP_API_KEY="secret") as (url, _):
        trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        for host, path in [("fal.run", f"/{ID}"), ("queue.fal.run", f"/{ID}"), ("v3.fal.media", "/files/upload")]:
            answer = httpx.post(url + path, headers={"Host": host}, content=b"{}", verify=trusting, timeout=WAIT_S)
            assert answer.status_code == 401, host


def test_two_lines_reach_a_server_on_this_machine_past_a_proxy(url: str) -> None:
    lines = f"from streamapp_client.compat import fal\nfal.use({url!r})\n"
    with leading() as start:
        proxy = start(url, b"HTTP/1.1 403 Forbidden\r\n\r\n")
        assert run(sys.executable, "-c", lines + SCRIPT, variables={"ALL_PROXY": proxy.url}) == SHOWN
    assert proxy.asked == []


def test_exec_reaches_a_server_on_this_machine_past_a_proxy(url: str) -> None:
    with leading() as start:
        proxy = start(url, b"HTTP/1.1 403 Forbidden\r\n\r\n")
        variables = {"HTTP_PROXY": proxy.url, "all_proxy": proxy.url, "NO_PROXY": "example.org"}
        assert run_by_exec(url, sys.executable, "-c", SCRIPT + UPLOAD, variables=variables).startswith(SHOWN)
    assert proxy.asked == []


@needs_fal
def test_fal_api_prints_the_result(url: str) -> None:
    assert "{'sum': 5}" in run_by_exec(url, str(FAL), "api", ID, "a:=2", "b:=3")


@needs_fal
def test_fal_api_prints_a_stream_as_it_comes(url: str) -> None:
    shown = run_by_exec(url, str(FAL), "api", f"{ID}/stream", "steps:=2")
    lines = [line for line in shown.splitlines() if line.startswith("data: ")]
    assert lines == ['data: {"step":1}', 'data: {"step":2}', 'data: {"steps":2}']


@needs_fal
def test_fal_api_tells_that_a_request_failed(url: str) -> None:
    assert "failed with HTTP 500" in run_by_exec(url, str(FAL), "api", f"{ID}/fails", exit_code=1)
