"""Ask a server what is asked of every version, note what it answers, and say whether another answer has all of it.

What differs from run to run is noted as something else: ids are numbered, times stand still, the port is 8000. An
answer has all of a noted one if each field is there with the same value; it may have others, and say what people read
in other words.
"""

import http.client
import json
import re
import time
from typing import Any

from websockets.sync.client import connect

KEY = "k"
TYPED = {"Content-Type": "application/json"}
ASYNC = {**TYPED, "Prefer": "respond-async"}
_PATIENCE_S = 60.0
_UNSAID = {"date", "server", "content-length", "connection", "transfer-encoding"}  # the connection's, and the moment's
_PROSE = {"message", "detail", "msg"}  # for people: held to be there, and text
# Times; and how far a job is whose beginning is answered.
_LUCK = {
    r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00": "2026-01-01T00:00:00.000000+00:00",
    r'(_at\\":)\d+(\.\d+)?': r"\g<1>1767225600.0",
    r'("status": 202.*status\\":\\")(queued|running)\b': r"\1queued",
    r'("status": 202.*status\\":\\"queued.*started_at\\":)[\d.]+': r"\1null",
    r'("status": 202.*status\\":\\"queued.*:1\.)[012]\b': r"\g<1>0",
    r'(status\\":\\")(queued|running)(\\",\\"position)': r"\1queued\3",
}


def request(name: str, method: str, path: str, body: str = "", **more: Any) -> dict[str, Any]:
    """Return what is asked, again `until` that is in the answer; `{job}` is what the request `job` has begun."""
    headers = {"Authorization": f"Key {KEY}", **more.pop("headers", TYPED if body else {})}
    return {"name": name, "method": method, "path": path, "headers": headers, "body": body, **more}


REQUESTS = [
    request("stream", "POST", "/stream", '{"steps":2}', headers={**TYPED, "Accept": "text/event-stream"}),
    request("stream-named", "GET", "/stream?steps=2&_events=named"),
    request("stream-eventsource", "GET", "/stream?steps=2"),
    request("stream-resumed", "GET", "/stream?_events=named", headers={"Last-Event-ID": "{stream-named}:1.5"}),
    request("stream-resumed-post", "POST", "/stream", headers={"Last-Event-ID": "{stream-named}:1.5"}),
    request("stream-resumed-over", "GET", "/stream", headers={"Last-Event-ID": "{stream-named}:1.8"}),
    request("stream-fails", "POST", "/stream", '{"steps":1,"fails":true}'),
    request("lines", "POST", "/stream", '{"steps":2}', headers={**TYPED, "Accept": "application/x-ndjson"}),
    request("text", "POST", "/text", "{}", headers={**TYPED, "Accept": "text/plain"}),
    request("value", "POST", "/value", '{"x":2}'),
    request("value-fails", "POST", "/value", '{"x":13}'),
    request("invalid", "POST", "/value", '{"x":"no"}'),
    request("not-found", "POST", "/nothing", "{}"),
    request("unauthorized", "POST", "/value", '{"x":2}', headers={**TYPED, "Authorization": "Key no"}),
    request("job", "POST", "/stream", '{"steps":2}', headers=ASYNC),
    request("job-status", "GET", "/jobs/{job}", until='"succeeded"'),
    request("job-events", "GET", "/jobs/{job}/events?_events=all"),
    request("job-result", "GET", "/jobs/{job}/result"),
    request("job-not-found", "GET", "/jobs/ffffffffffffffffffffffffffffffff"),
    request("endless", "POST", "/endless", "{}", headers=ASYNC),
    request("endless-status", "GET", "/jobs/{endless}", until=':1.2"'),
    request("endless-result", "GET", "/jobs/{endless}/result"),
    request("waiting", "POST", "/endless", "{}", headers=ASYNC),
    request("refused", "POST", "/endless", "{}", headers=ASYNC),
    request("waiting-cancel", "POST", "/jobs/{waiting}/cancel"),
    request("endless-cancel", "POST", "/jobs/{endless}/cancel"),
    request("endless-events", "GET", "/jobs/{endless}/events?_events=named"),
    request("endless-cancelled", "GET", "/jobs/{endless}/result"),
    request("upload", "POST", "/rest/files/upload", "a,b\n", headers={"Content-Type": "text/csv"}),
    request("ready", "GET", "/ready"),
]
FRAMES: list[dict[str, Any]] = [
    {"type": "open", "resume_s": 10, "key": "f" * 32},
    {"type": "input", "n": 1, "data": {"x": 1}},
    {"type": "input", "n": 2, "data": {"x": 13}},
    {"type": "finish"},
]
"""What the client of a session says, one when the other side has answered the one before."""


def record(port: int, requests: list[dict[str, Any]], frames: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask a server that has a place for one waiting job, and return all that was asked and answered."""
    steady = _Steady(port)
    exchanges = []
    for asked in requests:
        answer = _ask(port, steady.fill(asked))
        steady.jobs[asked["name"]] = answer["headers"].get("x-streamapp-job-id", "")
        exchanges.append({"request": asked, "answer": answer})
    noted = {"exchanges": exchanges, "session": _talk(port, frames)}
    for exchange in exchanges:
        exchange["answer"] = steady.note(exchange["answer"])
    return {"exchanges": exchanges, "session": steady.note(noted["session"])}


def _ask(port: int, asked: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        answer = _ask_once(port, asked)
        if asked.get("until", "") in answer["body"]:
            return answer
        assert time.monotonic() < deadline, f"{asked['name']}: no {asked['until']} came"


def _ask_once(port: int, asked: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    headers = {**asked["headers"], "Connection": "close"}
    connection.request(asked["method"], asked["path"], asked["body"].encode(), headers)
    answer = connection.getresponse()
    try:
        body, is_whole = answer.read(), True
    except http.client.IncompleteRead as cut:
        body, is_whole = cut.partial, False
    told = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in _UNSAID}
    return {"status": answer.status, "headers": told, "body": body.decode(), "is_whole": is_whole}


def _talk(port: int, frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Hold a session: each input is said when the last one was answered, so that the order is always the same."""
    url = f"ws://127.0.0.1:{port}/doubled?_token={KEY}"
    said: list[dict[str, Any]] = []
    with connect(url, subprotocols=["streamapp.v1"], open_timeout=_PATIENCE_S, proxy=None) as socket:  # type: ignore[list-item]
        for frame in frames:
            socket.send(json.dumps(frame))
            said.append({"from": "client", "frame": frame})
            while not _answers(frame, said[-1]["frame"]):
                said.append({"from": "server", "frame": json.loads(socket.recv(_PATIENCE_S))})
    return [turn for turn in said if turn["frame"]["type"] not in ("received", "ping")]  # sent by the clock


def _answers(asked: dict[str, Any], heard: dict[str, Any]) -> bool:
    match asked["type"], heard["type"]:
        case "open", kind:
            return bool(kind == "session")
        case "finish", "event":
            return bool(heard["event"] == "done")
        case "input", "event":
            return heard["event"] in ("output", "input_error")
        case _:
            return False


class _Steady:
    """Put what is the same in every run into the place of what is not."""

    def __init__(self, port: int) -> None:
        self.jobs: dict[str, str] = {}
        self._port = port
        self._ids: dict[str, str] = {}

    def fill(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Name the jobs that this run has begun."""
        text = json.dumps(asked)
        return dict(json.loads(re.sub(r"\{([a-z-]+)\}", lambda match: self.jobs[match[1]], text)))

    def note(self, answer: Any) -> Any:
        text = json.dumps(answer, ensure_ascii=False).replace(f"127.0.0.1:{self._port}", "127.0.0.1:8000")
        text = re.sub(r"\b(?!f{32})[0-9a-f]{32}\b", lambda match: self._number(match[0]), text)
        for pattern, always in _LUCK.items():
            text = re.sub(pattern, always, text)
        return json.loads(text)

    def _number(self, found: str) -> str:
        return self._ids.setdefault(found, f"{len(self._ids) + 1:032x}")


def read(answer: dict[str, Any]) -> Any:
    """Return what an answer says: the blocks of a stream, the values of lines, a value, or text."""
    kind = answer["headers"].get("content-type", "").partition(";")[0]
    if kind == "text/event-stream":
        return [_block(block) for block in answer["body"].split("\n\n") if _is_block(block)]
    if kind == "application/x-ndjson":
        return [json.loads(line) for line in answer["body"].splitlines()]
    return json.loads(answer["body"]) if kind == "application/json" else answer["body"]


def _is_block(block: str) -> bool:
    return any(not line.startswith(":") for line in block.splitlines() if line)


def _block(block: str) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
    return {**fields, "data": json.loads(fields["data"])}


def lacks(noted: Any, new: Any, place: str = "") -> list[str]:
    """Return where a new answer lacks what a noted one has."""
    if place.rpartition(".")[2] in _PROSE and isinstance(noted, str):
        return [] if isinstance(new, str) and new else [f"{place}: no text, but {new!r}"]
    if isinstance(noted, dict) and isinstance(new, dict):
        gone = [f"{place}.{name} is gone" for name in noted if name not in new]
        return gone + _lacks_of([(noted[name], new[name], f"{place}.{name}") for name in noted if name in new])
    if isinstance(noted, list) and isinstance(new, list) and len(noted) == len(new):
        return _lacks_of([(*pair, f"{place}[{n}]") for n, pair in enumerate(zip(noted, new, strict=True))])
    return [] if noted == new else [f"{place}: {noted!r} has become {new!r}"]


def _lacks_of(places: list[tuple[Any, Any, str]]) -> list[str]:
    return [lack for noted, new, place in places for lack in lacks(noted, new, place)]


def differences(noted: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return what a new recording lacks of a noted one; events of kinds that are new to it may have come."""
    known = {block.get("event") for block in _blocks(noted)}
    found = []
    for before, now in zip(noted["exchanges"], new["exchanges"], strict=True):
        name, was, has = before["request"]["name"], before["answer"], now["answer"]
        found += lacks({**was, "body": read(was)}, {**has, "body": _known(read(has), known)}, name)
    kinds = {turn["frame"]["type"] for turn in noted["session"]}
    said = [turn for turn in new["session"] if turn["frame"]["type"] in kinds]
    return found + lacks(noted["session"], said, "session")


def _blocks(recording: dict[str, Any]) -> list[dict[str, Any]]:
    told = [read(exchange["answer"]) for exchange in recording["exchanges"]]
    return [block for blocks in told if isinstance(blocks, list) for block in blocks if "data" in block]


def _known(told: Any, known: set[Any]) -> Any:
    if not isinstance(told, list):
        return told
    return [block for block in told if "data" not in block or block.get("event") in known]
