"""Files that import the real package, unmodified, served by an interpreter that has it."""

from collections.abc import Iterator

import pytest
from tests.runpod_packages import APPS, PYTHON, TESTS, Caller, call, needs_runpod, serving, with_source
from tests.waiting import until

pytestmark = needs_runpod


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """A caller of a server that has begun, though each file starts the package's loop as its last line."""
    files = [APPS / f"runpod_{name}.py" for name in ("items", "answers")]
    with serving(*files, python=PYTHON) as (url, _):
        caller = Caller(url)
        yield caller
        caller.http.close()


def test_the_package_is_the_real_one(caller: Caller) -> None:
    package = caller.end("runpod_answers", caller.run("runpod_answers", names="package"))["output"]
    assert package.startswith(str(PYTHON.parent.parent))


def test_its_validator_and_its_exceptions_are_as_in_a_worker(caller: Caller) -> None:
    refused = caller.end("runpod_answers", caller.run("runpod_answers", unknown=1))
    assert refused["error"] == "Unexpected input. unknown is not a valid input option."
    assert caller.end("runpod_answers", caller.run("runpod_answers", raises="a plain reason"))["status"] == "FAILED"


def test_what_it_timed_in_one_job_it_times_in_the_next_and_the_form_is_that_of_the_file(caller: Caller) -> None:
    for _ in range(2):
        assert caller.end("runpod_answers", caller.run("runpod_answers", answer=1))["output"] == 1
    document = caller.http.get("/openapi.json").text
    assert '"raises"' in document


def test_a_generator_streams(caller: Caller) -> None:
    items = caller.stream("runpod_items", caller.run("runpod_items", items=2))
    assert [item["number"] for item in items] == [0, 1]


def test_its_progress_reaches_the_job_and_no_host_of_runpods(caller: Caller) -> None:
    job = caller.run("runpod_answers", progress="half", until="/nowhere")
    until(lambda: caller.status("runpod_answers", job).get("output") == "half")
    assert caller.cancel("runpod_answers", job)["status"] == "CANCELLED"


@pytest.fixture(scope="module")
def said() -> list[tuple[str, str]]:
    """What the real validator and ours say to the same inputs."""
    return [(theirs, ours) for theirs, ours in call(TESTS / "runpod_validator.py", "", **with_source())]


def test_our_validator_says_what_the_real_one_does(said: list[tuple[str, str]]) -> None:
    answered = [(theirs, ours) for theirs, ours in said if theirs.startswith("{")]
    assert [ours for _, ours in answered] == [theirs for theirs, _ in answered]


def test_our_validator_answers_what_the_real_one_stumbles_over(said: list[tuple[str, str]]) -> None:
    assert [ours for theirs, ours in said if not theirs.startswith("{") and not ours.startswith("{'errors'")] == []
