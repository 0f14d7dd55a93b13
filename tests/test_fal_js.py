"""The real `@fal-ai/client`, unmodified, in node: by the environment of `streamapp exec`, and by its `proxyUrl`."""

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.fal_packages import ID, JS, environment, needs_fal_js, serving, serving_tls
from tests.waiting import WAIT_S

from streamapp.fal.environment import shim_variables

pytestmark = needs_fal_js

STEPS = [{"step": step} for step in range(1, 6)]
PRELUDE = f"""
import {{ ApiError, ValidationError, fal }} from "@fal-ai/client";
const id = "{ID}";
const url = process.env.TEST_URL;
const openGate = () => fetch(`${{url}}/open`, {{ method: "POST" }});
const told = (error) => ({{
  kind: error instanceof ValidationError ? "ValidationError" : error instanceof ApiError ? "ApiError" : error.name,
  ...error, fields: error.fieldErrors,
}});
"""
PROXY = 'fal.config({ proxyUrl: { url: `${url}/api/fal/proxy`, when: "always" } });'


@dataclass
class Node:
    """Run code against a server, sent there in one of the two ways."""

    url: str
    way: str

    def __call__(self, code: str) -> Any:
        """Run the body of a function; return what it returns."""
        env = environment() | {"TEST_URL": self.url, "FAL_KEY": "any"}
        env |= shim_variables(self.url, env) if self.way == "exec" else {}
        code = f"{PRELUDE}{PROXY if self.way == 'proxyUrl' else ''}\nconst main = async () => {{ {code} }};\n"
        command = ["node", "--input-type=module", "-e", f"{code}console.log(JSON.stringify(await main()) ?? null);"]
        ended = subprocess.run(command, cwd=JS, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (url, _):
        yield url


@pytest.fixture(params=["exec", "proxyUrl"])
def node(url: str, request: pytest.FixtureRequest) -> Node:
    return Node(url, request.param)


# run


def test_run_resolves_with_the_result_and_the_requests_id(node: Node) -> None:
    answer = node("return fal.run(id, { input: { a: 2, b: 3 } });")
    assert answer["data"] == {"sum": 5}
    assert answer["requestId"]


def test_run_tells_what_is_wrong_with_the_input(node: Node) -> None:
    error = node('return fal.run(id, { input: { a: "two", b: 3 } }).catch(told);')
    assert (error["kind"], error["status"]) == ("ValidationError", 422)
    assert [field["loc"] for field in error["fields"]] == [["body", "a"]]


def test_run_tells_that_the_endpoint_raised_but_not_what(node: Node) -> None:
    error = node("return fal.run(`${id}/fails`, { input: {} }).catch(told);")
    assert (error["kind"], error["status"]) == ("ApiError", 500)
    assert error["body"]["error_type"] == "endpoint_failed"
    assert error["requestId"]
    assert "secret" not in json.dumps(error)


def test_a_refused_run_is_tried_again(node: Node) -> None:
    assert node("return fal.run(`${id}/refuses`, { input: { times: 1 } });")["data"] == {"refused": 1}


# stream


def test_stream_iterates_over_the_events_and_is_done_with_the_result(node: Node) -> None:
    answer = node("""
        const events = [], stream = await fal.stream(id, { input: {} });
        for await (const event of stream) events.push(event);
        return { events, result: await stream.done(), requestId: stream.requestId };
    """)
    assert answer["events"] == [*STEPS, {"steps": 5}]
    assert answer["result"] == {"steps": 5}
    assert answer["requestId"]


@pytest.mark.parametrize("path", ["/run/me/fal-calls/stream", "/fal-calls/stream"])
def test_stream_takes_the_url_of_this_server(node: Node, path: str) -> None:
    answer = node(f"""
        const events = [], stream = await fal.stream(id, {{ url: `${{url}}{path}`, input: {{}} }});
        for await (const event of stream) events.push(event);
        return events;
    """)
    assert answer == [*STEPS, {"steps": 5}]


@pytest.mark.parametrize("abort", ["stream.abort()", "controller.abort()"])
def test_an_aborted_stream_is_done_without_an_error_and_stops_its_job(node: Node, abort: str) -> None:
    answer = node(f"""
        const controller = new AbortController();
        const url = "https://fal.run/" + id + "/endless";
        const stream = await fal.stream(id, {{ url, input: {{}}, signal: controller.signal }});
        stream.on("data", () => {abort});
        return {{ last: await stream.done(), sum: (await fal.run(id, {{ input: {{ a: 1, b: 1 }} }})).data.sum }};
    """)
    assert answer["last"]["step"] >= 1
    assert answer["sum"] == 2


def test_a_stream_that_fails_does_not_seem_to_end_well(node: Node) -> None:
    answer = node("""
        const events = [], url = "https://fal.run/" + id + "/stream_fails";
        const stream = await fal.stream(id, { url, input: {} });
        stream.on("data", (event) => events.push(event));
        return { error: await stream.done().then(() => null, told), events };
    """)
    assert answer["events"][0] == {"step": 1}
    assert answer["events"][1]["error_type"] == "endpoint_failed"
    assert (answer["error"]["kind"], answer["error"]["status"]) == ("ApiError", 500)


def test_a_stream_that_is_refused_is_done_with_the_reason(node: Node) -> None:
    error = node('return fal.stream(id, { input: { steps: "five" } }).then((stream) => stream.done()).catch(told);')
    assert (error["kind"], error["status"]) == ("ValidationError", 422)


@pytest.fixture(scope="module")
def counter() -> Iterator[str]:
    with serving(app="Counter") as (url, _):
        yield url


@pytest.mark.parametrize("way", ["exec", "proxyUrl"])
def test_an_app_of_streams_alone_is_called_by_its_name(counter: str, way: str) -> None:
    answer = Node(counter, way)("""
        const input = { steps: 2 }, events = [];
        for await (const event of await fal.stream("me/counter", { input })) events.push(event);
        const called = await Promise.all([fal.run("me/counter", { input }), fal.subscribe("me/counter", { input })]);
        return [events, ...called.map(({ data }) => data)];
    """)
    assert answer == [[{"count": 1}, {"count": 2}], {"count": 2}, {"count": 2}]


# The queue


@pytest.mark.parametrize("mode", ["polling", "streaming"])
def test_subscribe_reports_each_line_of_the_log_and_resolves_with_the_result(node: Node, mode: str) -> None:
    answer = node(f"""
        const updates = [], enqueued = [];
        const result = await fal.subscribe(`${{id}}/slow`, {{
          input: {{}}, logs: true, mode: "{mode}", pollInterval: 20,
          onEnqueue: (id) => enqueued.push(id),
          onQueueUpdate: (update) => {{ updates.push(update); if (update.logs?.length) openGate(); }},
        }});
        return {{ result, enqueued, updates }};
    """)
    assert answer["result"]["data"] == {"status": "done"}
    assert answer["enqueued"] == [answer["result"]["requestId"]]
    last = answer["updates"][-1]
    assert last["status"] == "COMPLETED"
    assert [line["message"] for line in last["logs"]] == ["before the gate", "behind the gate"]


def test_a_submitted_request_is_found_by_its_id(node: Node) -> None:
    answer = node("""
        const { request_id: requestId } = await fal.queue.submit(id, { input: { a: 2, b: 3 }, priority: "low" });
        await fal.queue.subscribeToStatus(id, { requestId, pollInterval: 20 });
        return { status: await fal.queue.status(id, { requestId }), result: await fal.queue.result(id, { requestId }) };
    """)
    assert answer["status"]["status"] == "COMPLETED"
    assert answer["result"]["data"] == {"sum": 5}


def test_a_request_is_cancelled_once(node: Node) -> None:
    answer = node("""
        const { request_id: requestId } = await fal.queue.submit(`${id}/slow`, { input: {} });
        await fal.queue.cancel(id, { requestId });
        return {
          status: await fal.queue.status(id, { requestId }),
          result: await fal.queue.result(id, { requestId }).catch(told),
          again: await fal.queue.cancel(id, { requestId }).catch(told),
        };
    """)
    assert (answer["status"]["status"], answer["status"]["error_type"]) == ("COMPLETED", "cancelled")
    assert answer["result"]["status"] == 499
    assert answer["again"]["status"] == 400


def test_a_subscription_to_a_request_that_fails_rejects(node: Node) -> None:
    error = node("return fal.subscribe(`${id}/fails`, { input: {}, pollInterval: 20 }).catch(told);")
    assert (error["kind"], error["status"]) == ("ApiError", 500)


def test_a_subscription_that_takes_too_long_is_cancelled(node: Node) -> None:
    answer = node("""
        let requestId;
        const options = { input: {}, pollInterval: 20, timeout: 2000, onEnqueue: (id) => (requestId = id) };
        const result = await fal.subscribe(`${id}/slow`, options).catch((error) => error.message);
        const sum = (await fal.run(id, { input: { a: 1, b: 1 } })).data.sum; // the slow one has ended
        return { result, status: await fal.queue.status(id, { requestId }), sum };
    """)
    assert "timed out" in answer["result"]
    assert answer["status"]["error_type"] == "cancelled"
    assert answer["sum"] == 2


# Storage


def test_an_uploaded_blob_can_be_read_at_the_url(node: Node) -> None:
    answer = httpx.get(node('return fal.storage.upload(new Blob(["text"], { type: "text/plain" }));'), timeout=WAIT_S)
    assert answer.text == "text"
    assert answer.headers["content-type"].startswith("text/plain")


def test_an_image_of_a_result_can_be_downloaded(node: Node) -> None:
    urls = node("""
        const draw = `${id}/draw`, urls = [];
        urls.push((await fal.run(draw, { input: {} })).data.images[0].url);
        urls.push((await fal.subscribe(draw, { input: {}, pollInterval: 20 })).data.images[0].url);
        const stream = await fal.stream(draw, { input: {} });
        for await (const event of stream) urls.push(event.images[0].url);
        return urls;
    """)
    assert [url.partition(":")[0] for url in urls] == ["http", "http", "data", "http"]
    for url in (urls[0], urls[1], urls[3]):
        assert httpx.get(url, timeout=WAIT_S).headers["content-type"] == "image/png"


def test_a_blob_in_an_input_is_uploaded(node: Node) -> None:
    with io.BytesIO() as png:
        Image.new("RGB", (30, 20), "red").save(png, "png")
        encoded = base64.b64encode(png.getvalue()).decode()
    answer = node(f"""
        const picture = new Blob([Buffer.from("{encoded}", "base64")], {{ type: "image/png" }});
        return fal.run(`${{id}}/size`, {{ input: {{ image_url: picture }} }});
    """)
    assert answer["data"] == {"width": 30, "height": 20}


def test_a_file_over_90_mb_is_uploaded_in_parts(node: Node) -> None:
    file_url = node("""
        const bytes = new Uint8Array(91 * 1024 * 1024).fill(7);
        return fal.storage.upload(new File([bytes], "big.bin", { type: "application/octet-stream" }));
    """)
    assert httpx.get(file_url, timeout=WAIT_S).content == b"\7" * 91 * 1024 * 1024


# A script that says nothing of us


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.mjs"
    path.write_text(f"""
        import {{ createRequire }} from "node:module";
        const {{ fal }} = createRequire({json.dumps(str(JS) + os.sep)})("@fal-ai/client");
        console.log(JSON.stringify((await fal.subscribe("{ID}", {{ input: {{ a: 2, b: 3 }} }})).data));
    """)
    return path


def run_by_exec(url: str, script: Path, **variables: str) -> tuple[str, str]:
    command = [sys.executable, "-m", "streamapp", "exec", "--url", url, "--", "node", str(script)]
    env = {**environment(), **variables}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    return ended.stdout, ended.stderr


def test_a_script_runs_unchanged_by_exec(url: str, script: Path) -> None:
    assert run_by_exec(url, script) == ('{"sum":5}\n', "")


def test_a_script_runs_unchanged_over_tls(script: Path, tmp_path: Path) -> None:
    with serving_tls(tmp_path / "tls") as (url, variables):
        assert run_by_exec(url, script, **variables) == ('{"sum":5}\n', "")
