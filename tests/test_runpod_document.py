"""Runpod's tutorial works here as it is written: its handler word for word, and the requests that its client makes.

What it asks of files, container and client is in `test_image_chunks_handler.py` and `test_image_chunks_client.py`.
"""

import base64
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import PIL.Image
import pytest
from tests.enhancing import noise, picture, saved
from tests.processes import read_until
from tests.waiting import WAIT_S, until

FOLDER = Path(__file__).parent.parent / "apps" / "image_chunks"
KEY = "rpa_SECRET0123456789"
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")
RED = saved(PIL.Image.new("RGB", (100, 100), "red"))  # what the tutorial's client sends


class Endpoint:
    """Ask a server as the tutorial does."""

    def __init__(self, url: str, endpoint_id: str) -> None:
        self.url = url
        headers = {"Authorization": f"Bearer {KEY}"}
        self.http = httpx.Client(base_url=f"{url}/v2/{endpoint_id}", headers=headers, timeout=WAIT_S)

    def run(self, input: Any, operation: str = "run") -> dict[str, Any]:
        answer = self.http.post(operation, json={"input": input})
        assert answer.status_code == 200, answer.text
        answered: dict[str, Any] = answer.json()
        return answered

    def polls(self, job_id: str) -> list[dict[str, Any]]:
        """Return all answers of /stream, up to the one with the end."""
        answers = [self.http.get(f"stream/{job_id}").json()]
        while answers[-1]["status"] not in FINAL:
            answers.append(self.http.get(f"stream/{job_id}").json())
        return answers

    def status(self, job_id: str) -> dict[str, Any]:
        answered: dict[str, Any] = self.http.get(f"status/{job_id}").json()
        return answered


@contextmanager
def serving(folder: Path, *apps: str, log: Path) -> Iterator[str]:
    """Run `streamapp serve` in a folder; gives the URL."""
    command = [sys.executable, "-u", "-m", "streamapp", "serve", *apps, "--port", "0", "--log-level", "debug"]
    variables = {**os.environ, "STREAMAPP_API_KEY": KEY}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as server,
    ):
        try:
            yield read_until(server.stdout, "docs:").split()[1].removesuffix("/docs")
        finally:
            server.kill()


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def tutorial(logs: Path) -> Iterator[Endpoint]:
    """Serve the tutorial's handler, as it is."""
    with serving(FOLDER / "tutorial", "handler.py", log=logs / "tutorial.log") as url:
        endpoint = Endpoint(url, "tutorial")
        with endpoint.http:
            yield endpoint


@pytest.fixture(scope="module")
def ours(logs: Path) -> Iterator[Endpoint]:
    """Serve ours, as its pyproject.toml says."""
    with serving(FOLDER, log=logs / "ours.log") as url:
        endpoint = Endpoint(url, "image-chunks")
        with endpoint.http:
            yield endpoint


class Job(NamedTuple):
    """What the one job of the tutorial was answered: when it was sent, and at each poll."""

    started: dict[str, Any]
    polls: list[dict[str, Any]]
    outputs: list[Any]


@pytest.fixture(scope="module")
def job(tutorial: Endpoint) -> Job:
    """Send the job that the tutorial sends, and follow it for its four seconds."""
    started = tutorial.run({"base64_image": base64.b64encode(RED).decode()})
    polls = tutorial.polls(started["id"])
    return Job(started, polls, [item["output"] for poll in polls for item in poll["stream"]])


def test_a_job_is_started_by_its_input_and_named_by_an_id(job: Job) -> None:
    """R14."""
    assert job.started.keys() == {"id", "status"}
    assert (job.started["status"], bool(re.fullmatch(r"[\w-]+", job.started["id"]))) == ("IN_QUEUE", True)


def test_each_yield_is_seen_before_the_next_one_is_made(job: Job) -> None:
    """R1, R7. It yields seven times in four seconds."""
    first = next(poll["stream"] for poll in job.polls if poll["stream"])
    assert 0 < len(first) < len(job.outputs)


def test_every_chunk_is_an_item_and_the_end_comes_alone(job: Job) -> None:
    """R16. The tutorial's client reads no item of the answer that says COMPLETED."""
    assert job.polls[-1]["status"] == "COMPLETED" and job.polls[-1]["stream"] == []
    assert {poll["status"] for poll in job.polls[:-1]} <= {"IN_QUEUE", "IN_PROGRESS"}
    assert [output.get("chunk_number", output.get("status")) for output in job.outputs] == [
        "started",
        *range(1, len(job.outputs) - 1),
        "completed",
    ]


def test_the_first_item_tells_what_the_image_is_with_tuples_as_lists(job: Job) -> None:
    """R3, R4."""
    info = {"format": "PNG", "size": [100, 100], "mode": "RGB"}
    assert job.outputs[0] == {"status": "started", "image_info": info}


def test_each_chunk_tells_its_number_its_size_and_how_far_it_is(job: Job) -> None:
    """R5, R6."""
    chunks = job.outputs[1:-1]
    total = len(chunks)
    assert sum(chunk["chunk_size"] for chunk in chunks) == len(RED)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d", chunk["processed_at"]) for chunk in chunks)
    assert [chunk["progress"] for chunk in chunks] == [f"{number}/{total}" for number in range(1, total + 1)]
    assert [chunk["percent_complete"] for chunk in chunks] == [n / total * 100 for n in range(1, total + 1)]


def test_the_last_item_has_the_totals(job: Job) -> None:
    """R8."""
    assert job.outputs[-1].keys() == {"status", "total_chunks_processed", "final_timestamp"}
    assert job.outputs[-1]["total_chunks_processed"] == len(job.outputs) - 2


def test_the_status_has_all_that_was_yielded(tutorial: Endpoint, job: Job) -> None:
    """R10, R20. It says `return_aggregate_stream`."""
    status = tutorial.status(job.started["id"])
    assert (status["status"], status["output"]) == ("COMPLETED", job.outputs)
    assert isinstance(status["delayTime"], int) and isinstance(status["executionTime"], int)


@pytest.mark.parametrize(
    ("input", "words"),
    [({}, "No base64_image provided in input"), ({"base64_image": "AAAA"}, "cannot identify image file")],
    ids=["R2", "R9"],
)
def test_an_error_that_is_yielded_fails_the_job_with_its_words(tutorial: Endpoint, input: Any, words: str) -> None:
    """R2, R9. The first is told before anything is read, the second caught by the handler."""
    job_id = tutorial.run(input)["id"]
    end = tutorial.polls(job_id)[-1]
    assert (end["status"], end["stream"]) == ("FAILED", [])
    assert words in tutorial.status(job_id)["error"]


@pytest.mark.parametrize("operation", ["run", "runsync"])
def test_a_wrong_key_is_refused(tutorial: Endpoint, operation: str) -> None:
    """R15."""
    wrong = {"Authorization": "Bearer YOUR_RUNPOD_API_KEY"}
    assert tutorial.http.post(operation, json={"input": {}}, headers=wrong).status_code == 401


def test_reads_go_on_while_the_handler_sleeps(tutorial: Endpoint) -> None:
    """R7. It blocks its thread for a second after each chunk, is asked about meanwhile, and ends at the next one."""
    job_id = tutorial.run({"base64_image": base64.b64encode(RED).decode()})["id"]
    until(lambda: tutorial.status(job_id)["status"] == "IN_PROGRESS")
    assert tutorial.http.get("health").json()["jobs"]["inProgress"] == 1
    assert tutorial.http.post(f"cancel/{job_id}").json()["status"] == "CANCELLED"


# Our handler, by its table in pyproject.toml


def test_the_endpoint_is_served_by_its_id_and_shown_with_its_gpu_and_image(ours: Endpoint) -> None:
    """R13."""
    assert ours.http.get("health").json()["jobs"]["inQueue"] == 0
    document = httpx.get(f"{ours.url}/openapi.json", headers=ours.http.headers).text
    assert "16 GB" in document and "docker.io/YOUR_NAME/runpod-base64-stream:latest" in document


def test_a_whole_job_is_answered_at_once(ours: Endpoint) -> None:
    """R20. The list is what the stream would have brought."""
    asked = {"base64_image": base64.b64encode(saved(picture())).decode(), "tile_size": 64}
    answer = ours.run(asked, "runsync")
    assert (answer["status"], answer["output"][0]["status"]) == ("COMPLETED", "started")
    assert [item.get("chunk_number") for item in answer["output"][1:]] == [1, 2, 3, 4, 5, 6, None]


def test_an_input_of_several_megabytes_is_taken_and_one_of_more_than_ten_refused(ours: Endpoint) -> None:
    """R18."""
    large = saved(PIL.Image.merge("RGB", [noise(1500, 1300, 60)] * 3), compress_level=0)
    text = base64.b64encode(large).decode()
    assert 7_000_000 < len(text) < 10_000_000
    answer = ours.run({"base64_image": text, "tile_size": 1024, "radius": 1}, "runsync")
    assert (answer["status"], len(answer["output"])) == ("COMPLETED", 6)
    assert ours.http.post("run", json={"input": {"base64_image": "A" * 10_500_000}}).status_code == 413


def test_the_clients_script_saves_the_tiles(ours: Endpoint, tmp_path: Path) -> None:
    """R17, R19, R22. The script is the tutorial's, corrected."""
    command = [sys.executable, str(FOLDER / "client.py"), "--url", f"{ours.url}/v2", "--out", str(tmp_path)]
    variables = {**os.environ, "RUNPOD_API_KEY": KEY}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    tiles = {f"output_image_{name}.png" for name in (*range(1, 13), "final")}
    assert {path.name for path in tmp_path.iterdir()} == {"test_image_input.png", *tiles}
    with PIL.Image.open(tmp_path / "output_image_final.png") as whole:
        assert whole.size == (900, 600)
    assert KEY not in done.stdout


def test_what_is_wrong_with_an_input_is_told(ours: Endpoint) -> None:
    job_id = ours.run({"base64_image": "no base64!"})["id"]
    assert ours.polls(job_id)[-1]["status"] == "FAILED"
    assert "base64_image is no base64" in ours.status(job_id)["error"]


def test_several_jobs_are_followed_at_a_time(ours: Endpoint) -> None:
    """R21. The tutorial goes on to concurrent handlers; ours is sync, and its jobs run one after another."""
    asked = {"base64_image": base64.b64encode(saved(picture())).decode(), "tile_size": 64}
    ids = [ours.run(asked)["id"] for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        ends = [polls[-1]["status"] for polls in pool.map(ours.polls, ids)]
    assert ends == ["COMPLETED"] * 4


def test_a_job_is_cancelled_within_a_tile(ours: Endpoint) -> None:
    text = base64.b64encode(saved(picture(1000, 1000))).decode()
    job_id = ours.run({"base64_image": text, "tile_size": 64, "radius": 32})["id"]
    until(lambda: ours.status(job_id)["status"] == "IN_PROGRESS")
    assert ours.http.post(f"cancel/{job_id}").json()["status"] == "CANCELLED"
    assert ours.status(job_id)["status"] == "CANCELLED"
    until(lambda: ours.http.get("health").json()["jobs"]["inProgress"] == 0)


def test_no_line_of_the_logs_has_the_key(tutorial: Endpoint, ours: Endpoint, logs: Path) -> None:
    """R19. All that was asked above was asked with it."""
    httpx.get(f"{ours.url}/v2/image-chunks/health", params={"_token": KEY})
    until(lambda: (logs / "ours.log").read_text().count("\n") > 5)
    assert [path.name for path in logs.iterdir() if KEY[4:] in path.read_text()] == []
