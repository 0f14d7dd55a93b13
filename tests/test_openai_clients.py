"""Clients of OpenAI's API, unmodified, besides its own in Python: its own in JavaScript, vercel's `ai`, litellm."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from tests.fal_packages import JS, environment, needs
from tests.runpod_packages import APPS, KEY, TESTS, serving
from tests.waiting import WAIT_S

LITELLM = TESTS / ".venvs" / "litellm" / "bin" / "python"

needs_js = needs((JS / "node_modules" / "openai").is_dir(), "the npm packages are missing; run `make test`")
needs_litellm = needs(LITELLM.exists(), "the package litellm is missing; run `make test`")

pytestmark = pytest.mark.long
Outcomes = dict[str, Any]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(APPS / "openai_clients.py") as (url, _):
        yield url


@pytest.fixture(scope="module")
def called(url: str) -> Iterator[dict[str, Future[Outcomes]]]:
    """Run the scripts of the clients side by side."""
    with ThreadPoolExecutor() as pool:
        yield {
            "js": pool.submit(printed, url, "node", str(JS / "openai_calls.js")),
            "litellm": pool.submit(printed, url, str(LITELLM), str(TESTS / "litellm_calls.py")),
        }


@pytest.fixture(scope="module")
def js(called: dict[str, Future[Outcomes]]) -> Outcomes:
    """What came of each call in the script."""
    return called["js"].result()


@pytest.fixture(scope="module")
def lite(called: dict[str, Future[Outcomes]]) -> Outcomes:
    return called["litellm"].result()


def printed(url: str, *command: str) -> Outcomes:
    """Run a command that calls the server; return what it prints as JSON."""
    told = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ended = subprocess.run(
        command, env={**environment(), **told}, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    outcomes: Outcomes = json.loads(ended.stdout)
    return outcomes


@needs_js
def test_openai_in_javascript_chats(js: Outcomes) -> None:
    assert js["chats"]["texts"] == ["three one two"] * 2
    assert js["chats"]["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
    assert js["streams"]["text"] == "one two three"
    assert (js["streams"]["finish"], js["streams"]["usage"]["total_tokens"]) == ("stop", 6)
    assert js["stops"] == ["one ", "length"]
    assert js["logprobs"] == [["one", -0.5, 1], [" two", -0.5, 1]]
    assert js["calls"] == ["tool_calls", {"name": "weather", "arguments": '{"city": "Bern"}'}]
    assert js["completes"] == "one two"


@needs_js
def test_openai_in_javascript_finds_the_models_and_has_them_draw_and_speak(js: Outcomes) -> None:
    assert js["models"] == [["echo"], "echo"]
    assert [type_ for type_, _ in js["pictures"]][-1] == "image_generation.completed"
    assert js["speaks"] == "ababcdcd"


@needs_js
def test_openai_in_javascript_leaves_and_the_model_stops_within_a_token(js: Outcomes) -> None:
    assert 1 <= js["leaves"] <= 2


@needs_js
def test_openai_in_javascript_raises_its_own_errors(js: Outcomes) -> None:
    assert js["errors"] == [
        ["NotFoundError", 404, "model_not_found", "model"],
        ["BadRequestError", 400, "invalid_input", "temperature"],
        ["InternalServerError", 500, "endpoint_failed", None],
        ["RateLimitError", 429, "rate_limit_exceeded", None],
        ["BadRequestError", 400, "invalid_input", "prompt"],
        ["AuthenticationError", 401, "invalid_api_key", None],
    ]


@needs_js
def test_vercel_s_ai_works(js: Outcomes) -> None:
    assert js["aiGenerates"] == ["one two", "stop", 3, 2]
    assert js["aiStreams"] == ["one two ", "stop", 3]
    assert js["aiCalls"] == [["weather", {"city": "Bern"}]]
    assert js["aiDraws"] == ["image/png"] * 2
    assert [status for _, status, *_ in js["aiErrors"]] == [404, 500, 429]
    assert 1 <= js["aiLeaves"] <= 2


@needs_litellm
def test_litellm_works(lite: Outcomes) -> None:
    assert lite["chats"] == [["three one two"] * 2, 6]
    assert lite["streams"] == ["one two three", ["stop"], [3]]
    assert lite["stops"] == ["one ", "length"]
    assert lite["logprobs"] == [["one", -0.5], [" two", -0.5]]
    assert lite["calls"] == ["weather", '{"city": "Bern"}']
    assert lite["completes"] == "one two"
    assert lite["pictures"] == [True, True]
    assert lite["speaks"] == "ababcdcd"
    assert "echo" in " ".join(lite["models"])
    assert 1 <= lite["leaves"] <= 2


@needs_litellm
def test_litellm_raises_its_own_errors(lite: Outcomes) -> None:
    assert lite["errors"] == [
        ["NotFoundError", 404],
        ["BadRequestError", 400],
        ["InternalServerError", 500],
        ["RateLimitError", 429],
        ["AuthenticationError", 401],
    ]
