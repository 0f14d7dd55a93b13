"""The client beside the handler that enhances images, against a server that answers as Runpod's does."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.enhancing import picture, saved
from tests.scripted_server import THEN, Serve, answer
from tests.waiting import WAIT_S

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.image_chunks.client import redacted

CLIENT = Path(__file__).parent.parent / "apps" / "image_chunks" / "client.py"


def run_client(url: str, folder: Path, *options: str, key: str = "rpa_SECRET") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(CLIENT), "--url", f"{url}/v2", "--out", str(folder), *options]
    variables = {"RUNPOD_API_KEY": key}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=WAIT_S, check=False)


def says(status: str, *items: Any, **more: Any) -> bytes:
    body = {"status": status, "stream": [{"output": item} for item in items], **more}
    return answer(json.dumps(body).encode())


STARTED = answer(b'{"id": "1-u1", "status": "IN_QUEUE"}')
TILE = {"chunk_number": 1, "processed_image": base64.b64encode(saved(picture(8, 8))).decode()}
LAST = {"status": "completed", "processed_image": base64.b64encode(saved(picture(16, 8))).decode()}


def test_the_client_saves_every_tile_also_those_that_come_with_the_end(serve: Serve, tmp_path: Path) -> None:
    """R17, R22."""
    polls = [says("IN_QUEUE"), THEN, says("IN_PROGRESS", TILE), THEN, says("COMPLETED", LAST)]
    server = serve(**{"v2/image-chunks/run": [STARTED], "v2/image-chunks/stream/1-u1": polls})
    done = run_client(server.url, tmp_path)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"1-u1 COMPLETED; the images are in {tmp_path}")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"test_image_input.png", "output_image_1.png", "output_image_final.png"}
    headers, body = server.requests[0]
    assert headers["Authorization"] == "Bearer rpa_SECRET"
    sent = base64.b64decode(json.loads(body)["input"]["base64_image"])
    assert sent == (tmp_path / "test_image_input.png").read_bytes()


def test_the_client_never_prints_the_key(serve: Serve, tmp_path: Path) -> None:
    """R15, R19."""
    server = serve(**{"v2/image-chunks/run": [answer(b'{"detail": "no"}', "401 Unauthorized")]})
    done = run_client(server.url, tmp_path)
    assert "Authorization: Bearer rpa..." in done.stdout
    assert "401; is RUNPOD_API_KEY right?" in done.stderr
    assert (done.returncode, "SECRET" in done.stdout + done.stderr) == (1, False)
    assert redacted("") == "none"


@pytest.mark.parametrize("status", ["FAILED", "CANCELLED", "TIMED_OUT"])
def test_the_client_ends_with_the_job_whatever_its_end(serve: Serve, tmp_path: Path, status: str) -> None:
    ended = [says(status)]
    told = [answer(json.dumps({"status": status, "error": "No base64_image provided"}).encode())]
    paths = {"run": [STARTED], "stream/1-u1": ended, "status/1-u1": told}
    done = run_client(serve(**{f"v2/image-chunks/{path}": steps for path, steps in paths.items()}).url, tmp_path)
    assert (done.returncode, done.stderr) == (1, f"1-u1 {status}: No base64_image provided\n")


def test_the_client_cancels_a_job_that_it_waits_for_no_longer(serve: Serve, tmp_path: Path) -> None:
    paths = {"run": [STARTED], "stream/1-u1": [says("IN_QUEUE")], "cancel/1-u1": [answer(b"{}")]}
    server = serve(**{f"v2/image-chunks/{path}": steps for path, steps in paths.items()})
    done = run_client(server.url, tmp_path, "--timeout", "0")
    assert (done.returncode, done.stderr) == (1, "1-u1 took too long\n")
    server.sees("POST /v2/image-chunks/cancel/1-u1")


def test_the_client_lets_no_server_choose_where_it_writes(serve: Serve, tmp_path: Path) -> None:
    evil = says("COMPLETED", {**TILE, "chunk_number": "../../evil"})
    server = serve(**{"v2/image-chunks/run": [STARTED], "v2/image-chunks/stream/1-u1": [evil]})
    assert run_client(server.url, tmp_path).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["test_image_input.png"]
