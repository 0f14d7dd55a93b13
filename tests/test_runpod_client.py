"""Runpod's own clients, unmodified: Python's two and JavaScript's, which know a base URL of ours and nothing else."""

import base64
import io
import json
import shlex
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.fal_packages import JS
from tests.processes import read_until
from tests.runpod_packages import ANYTHING, APPS, KEY, TESTS, call, call_js, needs_runpod, needs_runpod_js, serving
from tests.waiting import WAIT_S, until

Outcomes = dict[str, Any]

HEALTH = """
import asyncio, aiohttp, json, os, runpod
runpod.api_key = os.environ["RUNPOD_KEY"]

async def health():
    async with aiohttp.ClientSession() as session:
        return await runpod.AsyncioEndpoint("runpod_items", session).health()

print(json.dumps([runpod.Endpoint("runpod_items").health(), asyncio.run(health())]))
"""
ITEMS = [{"number": number, "data": ""} for number in range(4)]
FILES = [APPS / f"runpod_{name}.py" for name in ("items", "tokens", "answers")]
CALLS = f"{APPS / 'fal_calls.py'}:FalCalls"
PREVIEWS = APPS / "runpod_previews.py"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(CALLS, PREVIEWS, *FILES) as (url, _):
        yield url


@pytest.fixture(scope="module")
def called(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Outcomes]]]:
    """Run the clients' scripts side by side, as they mostly sleep."""
    folder = tmp_path_factory.mktemp("called")
    with io.BytesIO() as png:
        Image.new("RGB", (30, 20), "red").save(png, "png")
        picture = base64.b64encode(png.getvalue()).decode()
    told = {
        "CANCELLED": str(folder / "cancelled"),
        "GATE": str(folder / "gate"),
        "PICTURE": picture,
        "ANYTHING": json.dumps(ANYTHING),
    }
    with ThreadPoolExecutor() as pool:
        yield {
            "sync": pool.submit(lambda: {**call(TESTS / "runpod_sync.py", url, **told), "told": told["CANCELLED"]}),
            "asyncio": pool.submit(call, TESTS / "runpod_asyncio.py", url),
            "js": pool.submit(call_js, JS / "runpod_calls.js", url),
        }


@pytest.fixture(scope="module")
def sync(called: dict[str, Future[Outcomes]]) -> Outcomes:
    """What came of each call in the script."""
    return called["sync"].result()


@pytest.fixture(scope="module")
def asynced(called: dict[str, Future[Outcomes]]) -> Outcomes:
    return called["asyncio"].result()


@pytest.fixture(scope="module")
def js(called: dict[str, Future[Outcomes]]) -> Outcomes:
    return called["js"].result()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    """A client that knows nothing of Runpod."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=WAIT_S) as client:
        yield client


def reason(state: Any) -> Any:
    """Return what Runpod's workers tell of an exception: JSON in a string."""
    return json.loads(state["error"])["error_message"]


def width_of(data_uri: str) -> int:
    with Image.open(io.BytesIO(base64.b64decode(data_uri.partition(",")[2]))) as image:
        return image.width


# The sync client, and a job that succeeds


@needs_runpod
def test_stream_yields_each_item_and_output_has_them_all(sync: Outcomes) -> None:
    assert sync["stream"] == [ITEMS, "COMPLETED", ITEMS]


@needs_runpod
def test_an_input_that_is_not_wrapped_arrives(sync: Outcomes) -> None:
    assert sync["output"] == [ITEMS[:2], "COMPLETED"]


@needs_runpod
def test_without_an_aggregate_the_items_are_streamed_and_output_is_empty(sync: Outcomes) -> None:
    assert sync["stream_without_aggregate"] == [[0, 1], "COMPLETED", []]


@needs_runpod
def test_whatever_is_yielded_is_an_item(sync: Outcomes) -> None:
    assert sync["anything"] == [ANYTHING, ANYTHING]


@needs_runpod
def test_what_a_handler_returns_is_its_streams_only_item(sync: Outcomes) -> None:
    assert sync["returns"] == [[{"a": 1}], "COMPLETED", {"a": 1}]


@needs_runpod
def test_run_sync_returns_the_output_whatever_the_handler_is(sync: Outcomes) -> None:
    assert sync["run_sync"] == [ITEMS[:2], [1, "two"], []]


@needs_runpod
def test_an_empty_input_is_answered(sync: Outcomes) -> None:
    """The client wraps it twice, and the handler's validator has its say."""
    assert sync["empty_input"] is None


@needs_runpod
@pytest.mark.parametrize("name", ["megabytes", "megabytes_in_items"])
def test_megabytes_of_base64_pass_both_ways(sync: Outcomes, name: str) -> None:
    assert sync[name] in (True, [3_000_000] * 4)


@needs_runpod
def test_over_ten_megabytes_are_refused(sync: Outcomes) -> None:
    assert "413" in sync["too_many_megabytes"]["text"]


# ... and one that does not


@needs_runpod
def test_what_a_generator_raises_ends_its_stream_with_what_it_had_and_is_told_by_status(sync: Outcomes) -> None:
    items, status, output, state = sync["raises"]
    assert (items, status, output) == (ITEMS[:2], "FAILED", None)
    assert reason(state) == "a plain reason"


@needs_runpod
def test_an_error_that_is_yielded_is_the_jobs(sync: Outcomes) -> None:
    items, status, _, state = sync["yields_an_error"]
    assert (items, status) == (ITEMS[:2], "FAILED")
    assert state["error"] == "No base64_image provided in input"


@needs_runpod
def test_an_error_that_is_returned_is_the_jobs(sync: Outcomes) -> None:
    output, status, state = sync["answers_with_an_error"]
    assert (output, status) == (None, "FAILED")
    assert state["error"] == "raises should be <class 'str'> type, not <class 'int'>."


@needs_runpod
def test_what_a_coroutine_raises_is_told_by_status(sync: Outcomes) -> None:
    output, status, state = sync["answer_raises"]
    assert (output, status, reason(state)) == (None, "FAILED", "a plain reason")


@needs_runpod
def test_the_stream_of_a_cancelled_job_ends_and_its_status_is_cancelled(sync: Outcomes) -> None:
    """The client takes CANCELLED for a status like any other, and would poll for ever."""
    assert sync["cancelled"] == [0, "CANCELLED", True, "CANCELLED"]
    until(Path(sync["told"]).exists)  # the handler has seen it


@needs_runpod
def test_a_job_is_cancelled_while_it_waits_and_while_it_blocks(sync: Outcomes) -> None:
    assert sync["cancelled_in_the_queue"] == [["CANCELLED", "CANCELLED"], [], "CANCELLED"]


@needs_runpod
@pytest.mark.parametrize("name", ["unknown_endpoint", "unknown_job", "job_of_another_endpoint"])
def test_what_is_not_there_is_404(sync: Outcomes, name: str) -> None:
    assert sync[name]["raised"] == "HTTPError"
    assert "404" in sync[name]["text"]


@needs_runpod
def test_a_wrong_key_is_401(sync: Outcomes) -> None:
    assert sync["wrong_key"]["raised"] == "RuntimeError"
    assert "401" in sync["wrong_key"]["text"]


# Endpoints of apps


@needs_runpod
def test_an_app_is_run_by_its_name(sync: Outcomes) -> None:
    items, status, output = sync["app_streams"]
    assert items == [{"step": 1}, {"step": 2}, {"step": 3}, {"steps": 3}]
    assert (status, output) == ("COMPLETED", {"steps": 3})


@needs_runpod
def test_an_apps_other_endpoints_have_ids_of_their_own(sync: Outcomes) -> None:
    assert sync["app_answers"] == {"width": 30, "height": 20}
    assert sync["app_draws"]["images"][0]["content_type"] == "image/png"


@needs_runpod
def test_previews_are_items_of_the_stream(sync: Outcomes) -> None:
    preview, *_, result = sync["app_shows_previews"]
    assert [width_of(item["image"]["url"]) for item in (preview, result)] == [3, 30]


@needs_runpod
def test_what_an_app_raises_is_not_told(sync: Outcomes) -> None:
    items, status, state = sync["app_fails"]
    assert (items, status) == ([], "FAILED")
    assert "secret" not in state["error"]


@needs_runpod
def test_an_input_that_an_app_does_not_take_is_refused(sync: Outcomes) -> None:
    assert sync["app_is_given_what_it_does_not_take"]["raised"] == "HTTPError"


# Health and the queue


@needs_runpod
@pytest.mark.parametrize("client", ["sync", "asynced"])
def test_health_counts_jobs_and_workers(client: str, request: pytest.FixtureRequest) -> None:
    health = request.getfixturevalue(client)["health"]
    assert {"completed", "failed", "inProgress", "inQueue", "retried"} <= health["jobs"].keys()
    assert {"idle", "running", "initializing", "ready", "throttled"} <= health["workers"].keys()


def test_a_queue_is_purged_of_what_waits(client: httpx.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    started = {"input": {"items": 1, "until": str(gate)}}
    jobs = [client.post("/v2/runpod_items/run", json=started).json()["id"] for _ in range(3)]
    client.get(f"/v2/runpod_items/stream/{jobs[0]}")
    purged = client.post("/v2/runpod_items/purge-queue").json()
    gate.touch()
    assert purged == {"removed": 2, "status": "completed"}
    assert client.get(f"/v2/runpod_items/status-sync/{jobs[0]}").json()["status"] == "COMPLETED"


# The asyncio client


@needs_runpod
def test_the_asyncio_client_streams_and_gets_the_output(asynced: Outcomes) -> None:
    assert asynced["stream"] == [ITEMS, "COMPLETED", ITEMS]
    assert asynced["output"] == {"a": 1}


@needs_runpod
def test_the_asyncio_client_sees_that_a_job_failed(asynced: Outcomes) -> None:
    assert asynced["raises"] == [1, "FAILED", None]


@needs_runpod
def test_the_asyncio_client_cancels_and_its_stream_ends(asynced: Outcomes) -> None:
    assert asynced["cancelled"] == ["CANCELLED", 0]


@needs_runpod
def test_the_asyncio_client_purges_a_queue(asynced: Outcomes) -> None:
    assert asynced["purge_queue"]["status"] == "completed"


@needs_runpod
@pytest.mark.parametrize(("name", "missing"), [("wrong_key", "'id'"), ("unknown_job", "'status'")])
def test_the_asyncio_client_stumbles_over_a_refusal_as_it_does_at_runpod(
    asynced: Outcomes, name: str, missing: str
) -> None:
    assert asynced[name] == {"raised": "KeyError", "text": missing}


# The JavaScript client


@needs_runpod_js
def test_the_javascript_client_runs_a_job_and_asks_for_it(js: Outcomes) -> None:
    ran, waited, status = (js["runs"][name] for name in ("ran", "waited", "status"))
    assert ran["status"] == "IN_QUEUE"
    assert waited["completed"] and waited["succeeded"]
    assert [waited["output"], status["output"]] == [ITEMS[:2], ITEMS[:2]]
    assert isinstance(status["delayTime"], int) and isinstance(status["executionTime"], int)


@needs_runpod_js
def test_the_javascript_client_streams_all_items_and_is_kept_waiting_for_them(js: Outcomes) -> None:
    """It does not sleep between its polls."""
    assert js["streams"]["seen"] == ITEMS
    assert js["streams"]["polls"] <= len(ITEMS) + 2  # each item in an answer of its own, and the end


@needs_runpod_js
def test_the_javascript_clients_run_sync_resolves_with_the_output_or_the_error(js: Outcomes) -> None:
    answered, failed = js["runsSync"]
    assert (answered["status"], answered["output"], answered["succeeded"]) == ("COMPLETED", [1, "two"], True)
    assert (failed["status"], reason(failed), failed["succeeded"]) == ("FAILED", "a plain reason", False)


@needs_runpod_js
def test_the_javascript_client_cancels_and_its_stream_ends(js: Outcomes) -> None:
    assert (js["cancels"]["cancelled"]["status"], js["cancels"]["status"]["status"]) == ("CANCELLED", "CANCELLED")
    assert js["cancels"]["first"]["token"] == 0


@needs_runpod_js
def test_the_javascript_client_passes_a_policy(js: Outcomes) -> None:
    assert (js["policy"]["status"], js["policy"]["output"]) == ("COMPLETED", 1)


@needs_runpod_js
def test_the_javascript_client_asks_for_health_and_purges(js: Outcomes) -> None:
    assert js["health"]["workers"]["idle"] + js["health"]["workers"]["running"] >= 1
    assert js["purges"] == {"removed": 0, "status": "completed"}


@needs_runpod_js
@pytest.mark.parametrize(("name", "status"), [("wrongKey", 401), ("unknown", 404), ("webhook", 400)])
def test_the_javascript_client_is_told_what_is_wrong(js: Outcomes, name: str, status: int) -> None:
    assert js[name]["status"] == status


@needs_runpod
def test_pythons_clients_trust_a_server_with_tls_by_what_it_prints(tmp_path: Path) -> None:
    script = tmp_path / "health.py"
    script.write_text(HEALTH)
    with serving(FILES[0], "--tls", "--tls-dir", str(tmp_path)) as (url, process):
        lines = [shlex.split(read_until(process.stdout, name))[1] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")]
        healths = call(script, url, **dict(line.split("=", 1) for line in lines))
    assert [health["workers"]["ready"] for health in healths] == [1, 1]


# The same jobs, seen by others


def test_a_run_is_a_job_like_any_other(client: httpx.Client) -> None:
    ran = client.post("/v2/runpod_items/run", json={"input": {"items": 3}}).json()
    job_id = uuid.UUID(ran["id"].removesuffix("-u1")).hex
    events = client.get(f"/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}).text
    assert [json.loads(line[6:]) for line in events.splitlines() if line.startswith('data: {"number"')] == ITEMS[:3]
    queue = client.get(f"/queue/me/runpod_items/requests/{job_id}/status").json()
    assert queue["status"] == "COMPLETED"


def test_a_job_like_any_other_is_polled_as_a_run(client: httpx.Client) -> None:
    job = client.post("/runpod_items/stream", json={"items": 3}, headers={"Prefer": "respond-async"}).json()
    items: list[Any] = []
    while (answer := client.get(f"/v2/runpod_items/stream/{job['job_id']}").json())["status"] != "COMPLETED":
        items += [item["output"] for item in answer["stream"]]
    assert (items, answer["stream"]) == (ITEMS[:3], [])
