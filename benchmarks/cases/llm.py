"""Case 14: one language model and its readers: tokens of all of them, and how long the last one waits for its first.

All make the same greedy texts of the same prompts; a text that is not whole is a failure. The peers that are "alone"
run in one process without a network, and measure themselves.
"""

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress

from ..client import WAIT_S, Connection, NotOffered, read_all
from ..figures import Figure
from ..servers import Served

TITLE = "14. a language model, 48 tokens for each reader"
NEEDS_FRESH_SERVER = True  # it is another one than that of the other cases
_USERS = (1, 4, 16)
FIGURES = {
    **{f"tokens_per_s_{users}": Figure(f"tokens/s, {users} at a time") for users in _USERS},
    **{f"first_ms_{users}": Figure(f"last one's first of {users}, ms") for users in _USERS},
}
_TOKENS = 48


def measure(served: Served, *, is_quick: bool) -> dict[str, float]:
    """Return the medians of several times that so many ask at once; the first is to get warm."""
    times, tokens = (1, 8) if is_quick else (3, _TOKENS)
    of_users = _alone if served.peer.texts == "/alone" else _over_http
    figures = {}
    for users in _USERS:
        rates, firsts = zip(*(of_users(served, users, tokens) for _ in range(1 + times)), strict=True)
        figures[f"tokens_per_s_{users}"] = statistics.median(rates[1:])
        figures[f"first_ms_{users}"] = statistics.median(firsts[1:])
    return figures


def _alone(served: Served, users: int, tokens: int) -> tuple[float, float]:
    connection = served.ask("text", user=users - 1, n=tokens)
    connection.receive_until(b"}")
    _, _, body = b"".join(piece for _, piece in connection.pieces).partition(b"\r\n\r\n")
    connection.leave()
    measured = json.loads(body)
    return measured["tokens_per_s"], measured["first_ms"]


def _over_http(served: Served, users: int, tokens: int) -> tuple[float, float]:
    connections = [Connection.open(served.port) for _ in range(users)]
    requests = [served.request("text", user=user, n=tokens) for user in range(users)]
    for connection, request in zip(connections, requests, strict=True):
        connection.send(request)
    read_all(connections, until=time.monotonic() + WAIT_S)
    started = connections[0].sent_at
    texts = [[*_text(connection)] for connection in connections]
    for connection, parts in zip(connections, texts, strict=True):
        connection.socket.close()
        if (got := len("".join(text for _, text in parts).split())) != tokens:
            raise NotOffered(f"{got} of {tokens} tokens came")
    took_s = max(parts[-1][0] for parts in texts) - started
    return users * tokens / took_s, (max(parts[0][0] for parts in texts) - started) * 1000


def _text(connection: Connection) -> Iterator[tuple[float, str]]:
    """Yield each piece of the text that came, with its time."""
    for event in connection.events():
        if event.name in ("", "output", "token"):
            with suppress(ValueError, LookupError, TypeError):  # `[DONE]`, a chunk without text
                payload = event.payload
                text = payload["choices"][0]["delta"]["content"] if "choices" in payload else payload["text"]
                if text and "finish_reason" not in payload:
                    yield event.at, text
