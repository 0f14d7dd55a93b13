"""Case 11: one handler, written for Runpod, behind streamapp and behind the development server of Runpod's package.

`/run`, then `/stream/{id}` until the job is over, as Runpod's clients ask, but without the second that its Python
client sleeps before each; one connection for a whole job. The development server runs a job when its stream is asked
for, by POST, and answers at its end; it has no server-sent events.
"""

import json
import statistics
import time
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from ..client import WAIT_S, Connection, NotOffered, read_all, request
from ..figures import Figure
from ..servers import EVENT, Queue, Served

TITLE = "11. a handler of Runpod's"
NEEDS_FRESH_SERVER = True  # it is another one than that of the other cases
FIGURES = {
    "first_ms": Figure("first of 20 chunks, one in 10 ms, ms", "{:.1f}"),
    "chunks_per_s": Figure("chunks/s, 10,000 of a job"),
    "jobs_per_s": Figure("jobs/s of 5 ms, 20 at a time"),
    "empty_jobs_per_s": Figure("jobs/s of no work, 20 at a time"),
    "sse_first_ms": Figure("first chunk by SSE, ms", "{:.1f}"),
    "sse_chunks_per_s": Figure("chunks/s by SSE"),
}
_PACED = {"n": 20, "step_s": 0.01}
_AT_A_TIME = 20


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Return the medians of several jobs of each kind, and how many short ones are done in a second."""
    jobs, chunks, rounds = (2, 500, 1) if is_quick else (10, 10_000, 25)
    queue = served.peer.queue
    assert queue
    _job(served.port, queue, {"n": chunks})
    paced = [_job(served.port, queue, _PACED) for _ in range(jobs)]
    fast = [_job(served.port, queue, {"n": chunks}) for _ in range(jobs)]
    figures = {
        "first_ms": statistics.median(first_s for first_s, _ in paced) * 1000,
        "chunks_per_s": chunks / statistics.median(took_s for _, took_s in fast),
        "jobs_per_s": _jobs_per_s(served, rounds, step_s=0.005),
        "empty_jobs_per_s": _jobs_per_s(served, 2 * rounds, step_s=0),
    }
    if queue.events_path is None:
        return figures
    _events(served, queue.events_path, {"n": chunks})
    paced = [_events(served, queue.events_path, _PACED) for _ in range(jobs)]
    fast = [_events(served, queue.events_path, {"n": chunks}) for _ in range(jobs)]
    return figures | {
        "sse_first_ms": statistics.median(first_s for first_s, _ in paced) * 1000,
        "sse_chunks_per_s": chunks / statistics.median(took_s for _, took_s in fast),
    }


def _job(port: int, queue: Queue, input: dict[str, Any]) -> tuple[float, float]:
    """Return the seconds until the first chunk was there, and until the job was over."""
    chunks: list[int] = []
    first_s, answer = 0.0, {"status": "IN_QUEUE"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as connection:
        connection.connect()
        started = time.perf_counter()
        job = _ask(connection, "POST", f"{queue.path}/run", {"input": input})["id"]
        while answer["status"] in ("IN_QUEUE", "IN_PROGRESS"):
            answer = _ask(connection, queue.method, f"{queue.path}/stream/{job}")
            chunks += [item["output"]["i"] for item in answer["stream"]]
            first_s = first_s or bool(chunks) * (time.perf_counter() - started)
        took_s = time.perf_counter() - started
    if chunks != list(range(input["n"])):
        raise NotOffered(f"{len(chunks)} of {input['n']} chunks came, then {answer['status']}")
    return first_s, took_s


def _ask(connection: HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    if response.status != 200:
        raise NotOffered(f"answered {response.status}")
    return json.loads(text)


def _jobs_per_s(served: Served, rounds: int, *, step_s: float) -> float:
    started = time.monotonic()
    for _ in range(rounds):
        connections = [served.ask("count", n=1, step_s=step_s) for _ in range(_AT_A_TIME)]
        read_all(connections, until=time.monotonic() + WAIT_S)
        for connection in connections:
            if EVENT not in b"".join(piece for _, piece in connection.pieces):
                raise NotOffered("a job was not done")
            connection.socket.close()
    return rounds * _AT_A_TIME / (time.monotonic() - started)


def _events(served: Served, path: str, input: dict[str, Any]) -> tuple[float, float]:
    """Return the seconds until the first chunk, and until the last byte of all."""
    connection = Connection.open(served.port)
    connection.send(request(path, input))
    first_at = connection.receive_until(EVENT)
    connection.receive_all()
    got = [event.payload["i"] for event in connection.events() if event.name == "output"]
    if got != list(range(input["n"])):
        raise NotOffered(f"{len(got)} of {input['n']} events came")
    connection.socket.close()
    return first_at - connection.sent_at, connection.pieces[-1][0] - connection.sent_at
