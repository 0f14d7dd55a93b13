"""What a server may send the Python client: what has no end, or is made to hurt, is a typed error."""

import asyncio
import gzip
import json
import tracemalloc
from typing import Any

import httpx
import pytest
from tests.scripted_server import END, HOLD, Serve, answer, block, chunk, head

from streamapp_client import ApiError, AsyncClient, Client, SSEDecoder, UnexpectedAnswer, _decoder
from streamapp_client._decoder import MAX_BYTES
from streamapp_client._errors import error_from_response

MIB = chunk("x" * (1 << 20))
ENDLESS = [MIB] * (MAX_BYTES // (1 << 20) + 2)
NDJSON = "application/x-ndjson"
DEEP = "[" * 100_000


def part_of(content_type: str, status: str = "200 OK", headers: str = "") -> bytes:
    return head(content_type).replace(b"200 OK", status.encode()).replace(b"X-Str", f"{headers}X-Str".encode())


@pytest.mark.parametrize(
    ("steps", "accept"),
    [
        ([head(), chunk("data: "), *ENDLESS, HOLD], "text/event-stream"),
        ([head(), *ENDLESS, HOLD], "text/event-stream"),
        ([head(), *[chunk("data: " + "x" * (1 << 20) + "\n")] * 130, HOLD], "text/event-stream"),
        ([head(), *[chunk(":" + "x" * (1 << 20))] * 130, HOLD], "text/event-stream"),
        ([head(NDJSON), *ENDLESS, HOLD], NDJSON),
    ],
    ids=["an event", "a line", "lines of an event", "a comment", "a line of JSON"],
)
def test_a_stream_that_goes_on_without_an_event_is_left(serve: Serve, steps: list[bytes], accept: str) -> None:
    server = serve(*steps)

    with pytest.raises(UnexpectedAnswer, match=r"^Expected an? (event|line) of 128 MiB at most, got more$"):
        list(Client(server.url).stream("/stream", accept=accept))
    server.sees("gone /stream")


@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
def test_an_answer_without_an_end_is_left(serve: Serve, status: str) -> None:
    server = serve(part_of("application/json", status), *ENDLESS, HOLD)

    with pytest.raises(UnexpectedAnswer, match="Expected an answer of /stream of 128 MiB at most"):
        Client(server.url).run("/stream")


def test_an_asynchronous_client_has_the_same_limits(serve: Serve) -> None:
    server = serve(head(), *ENDLESS, HOLD, run=[part_of("application/json", "503 Busy"), *ENDLESS, HOLD])

    async def ask() -> None:
        async with AsyncClient(server.url) as client:
            with pytest.raises(UnexpectedAnswer, match="an event of 128 MiB"):
                [event async for event in await client.stream("/stream")]
            with pytest.raises(UnexpectedAnswer, match="an answer of /run of 128 MiB"):
                await client.run("/run")

    asyncio.run(ask())


def test_an_image_without_an_end_is_left(serve: Serve) -> None:
    server = serve(head(), block("output", {"image": "/file"}), END, file=[part_of("image/png"), *ENDLESS, HOLD])
    [event] = Client(server.url).stream("/stream")

    with pytest.raises(UnexpectedAnswer, match="128 MiB"):
        event.image()


def test_what_grows_a_thousandfold_is_left_like_what_is_long(serve: Serve) -> None:
    bomb = gzip.compress(b"\0" * (MAX_BYTES + (1 << 20)))
    headers = "Content-Encoding: gzip\r\n"
    server = serve(answer(bomb, content_type="text/event-stream", headers=headers), run=[answer(bomb, headers=headers)])

    for call in (Client(server.url).stream("/stream"), iter(lambda: Client(server.url).run("/run"), 0)):
        with pytest.raises(UnexpectedAnswer, match="of 128 MiB at most"):
            list(call)


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "zstd", "bogus", "gzip\t,deflate"])
def test_no_other_coding_is_decoded(serve: Serve, coding: str) -> None:
    server = serve(run=[answer(b"x", headers=f"Content-Encoding: {coding}\r\n")])

    with pytest.raises(UnexpectedAnswer, match="the Content-Encoding .* was not asked for"):
        Client(server.url).run("/run")
    assert server.requests[0][0]["Accept-Encoding"] == "gzip, deflate"


def test_a_gzipped_answer_is_read(serve: Serve) -> None:
    headers = "Content-Encoding: gzip\r\n"
    events = gzip.compress(b"data: 1\n\n")
    server = serve(
        answer(events, content_type="text/event-stream", headers=headers),
        run=[answer(gzip.compress(b"7"), headers=headers)],
    )

    assert Client(server.url).run("/run") == 7
    assert [event.data for event in Client(server.url).stream("/stream")] == [1]


def test_a_gzipped_refusal_is_read(serve: Serve) -> None:
    said = gzip.compress(b'{"detail": "No."}')
    server = serve(run=[answer(said, "404 Not Found", headers="Content-Encoding: gzip\r\n")])

    with pytest.raises(ApiError, match=r"^No\.$"):
        Client(server.url).run("/run")


def test_comments_may_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_decoder, "MAX_BYTES", 1 << 20)
    decoder = SSEDecoder()
    comments = b": ping\n" * 10_000 + b": ping\n\n"
    assert [event for _ in range(30) for event in decoder.feed(comments)] == []


def test_pieces_cost_no_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two bytes each, Python keeps forty."""
    monkeypatch.setattr(_decoder, "MAX_BYTES", 1 << 20)
    decoder = SSEDecoder()
    tracemalloc.start()
    with pytest.raises(UnexpectedAnswer):
        while True:
            decoder.feed(bytes([120, 121]))
    assert tracemalloc.get_traced_memory()[0] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("text", [DEEP, '{"a":' * 100_000, "9" * 5000, "nope", "", "\udcff", '"\\ud800"'[:5]])
def test_json_that_cannot_be_read_is_an_unexpected_answer(serve: Serve, text: str) -> None:
    body = text.encode("utf-8", "surrogateescape")
    event = b"data: " + body + b"\n\n"
    server = serve(answer(event, content_type="text/event-stream"), run=[answer(body)])

    with pytest.raises(UnexpectedAnswer, match="Expected JSON in the answer of /run"):
        Client(server.url).run("/run")
    with pytest.raises(UnexpectedAnswer, match="Expected JSON in the event 'message'"):
        list(Client(server.url).stream("/stream"))


@pytest.mark.parametrize("text", [DEEP, "[1]", "5", "null", '{"job_id": "j1"}', '{"error": 5}', '{"status": []}'])
def test_a_state_that_is_none_is_an_unexpected_answer(serve: Serve, text: str) -> None:
    server = serve(run=[answer(text.encode(), "202 Accepted")])

    with pytest.raises(UnexpectedAnswer):
        Client(server.url).submit("/run")


@pytest.mark.parametrize("data", [5, None, [], {}, "x"])
def test_a_state_in_a_stream_that_is_none_is_not_heard(serve: Serve, data: Any) -> None:
    state = {"job_id": "j1", "status": "queued", "position": 0, "created_at": 1, "started_at": 1, "finished_at": None}
    followed = [head(), block("job", data), block("output", 7), block("done", {}, 2), END]
    server = serve(
        run=[answer(json.dumps(state).encode())],
        **{
            "jobs/j1/events?_events=all&_events=named": followed,
            "jobs/j1": [answer(json.dumps({**state, "status": "succeeded"}).encode())],
        },
    )

    assert Client(server.url).subscribe("/run") == 7


@pytest.mark.parametrize("body", [DEEP.encode(), b"\xff", b'{"error": ' * 50_000])
def test_a_refusal_that_cannot_be_read_is_still_one(body: bytes) -> None:
    assert type(error_from_response(httpx.Response(400, content=body))).__name__ == "MalformedRequest"


@pytest.mark.parametrize("charset", ["zlib", "base64", "bogus", "utf-16", "idna"])
def test_a_refusal_is_utf_8_whatever_it_says(charset: str) -> None:
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    assert "é" in str(error_from_response(httpx.Response(500, content="é".encode(), headers=headers)))


@pytest.mark.parametrize("said", ["1000000000", "9" * 400, "3600"])
def test_no_retry_after_is_longer_than_an_hour(said: str) -> None:
    error = error_from_response(httpx.Response(429, headers={"Retry-After": said}))
    assert error.retry_after == 3600
