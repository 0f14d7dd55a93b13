"""Bodies of responses taken apart into outputs of a job, however their bytes were cut."""

from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from streamapp.errors import NotEncodable
from streamapp.http import outputs
from streamapp.http.outputs import reader_of
from streamapp.jobs.events import Output
from streamapp.media import File

SSE = "text/event-stream; charset=utf-8"
STREAM = (
    b"\xef\xbb\xbf: hello\r\n"
    b"retry: 1000\n"
    b'event: token\ndata: {"n": 1}\nid: 7\n\n'
    b"data: first\rdata: second\r\r"
    b"data\ndata:  \xe2\x82\xac\r\n\r\n"
    b"event: done\ndata: 2\nunknown: x\n\n"
    b"event: only a name\n\n"
    b": ping\n\n"
    b"data:\n\n"
    b"data: [DONE]\n\n"
    b"data: null"
)
LAST = Output(None)
EVENTS = [Output({"n": 1}, "token"), Output("first\nsecond"), Output("\n \u20ac"), Output(2)]


def read(
    chunks: list[bytes], content_type: str | None = SSE, status: int = 200, **headers: str
) -> tuple[list[Any], Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = Headers(named if content_type is None else {**named, "content-type": content_type})
    reader = reader_of(status, head, url="https://host/app/x")
    return [output for chunk in chunks for output in reader.feed(chunk)], reader.end()


@pytest.mark.parametrize("at", range(len(STREAM)))
def test_events_are_outputs_wherever_they_are_cut(at: int) -> None:
    assert read([STREAM[:at], STREAM[at:]]) == (EVENTS, LAST)


def test_a_compressed_body_is_refused_and_what_to_write_is_said() -> None:
    assert read([b"data: 1\n\n"], content_encoding="identity") == ([Output(1)], None)
    with pytest.raises(NotEncodable, match=r"response is compressed \(gzip\).*leave compression to a middleware"):
        read([b"\x1f\x8b"], content_encoding="gzip")


def test_events_may_come_byte_by_byte() -> None:
    assert read([STREAM[n : n + 1] for n in range(len(STREAM))]) == (EVENTS, LAST)


def test_an_event_is_told_as_soon_as_its_blank_line_has_begun() -> None:
    reader = reader_of(200, Headers({"content-type": SSE}), url="")
    assert list(reader.feed(b"data: 1\r\r")) == [Output(1)]
    assert list(reader.feed(b"\ndata: 2\n\n")) == [Output(2)]
    assert reader.end() is None


@pytest.mark.parametrize("name", ["error", "done", "job", "preview", "progress", "with space", "9", "x" * 65])
def test_a_name_that_no_output_may_have_is_left_out(name: str) -> None:
    assert read([f"event: {name}\ndata: 1\n\n".encode()]) == ([Output(1)], None)


def test_what_is_no_json_is_text() -> None:
    assert read([b"data: {broken\n\n", b"data: \xff\n\n"]) == ([Output("{broken"), Output("\ufffd")], None)


@pytest.mark.parametrize("content_type", ["application/x-ndjson", "application/jsonl; charset=utf-8"])
def test_lines_of_json_are_outputs(content_type: str) -> None:
    assert read([b'{"n": 1}\n\n{"n"', b": 2}\r\nno json\n3"], content_type) == (
        [Output({"n": 1}), Output({"n": 2}), Output("no json")],
        Output(3),
    )
    assert read([b"1\n"], content_type) == ([Output(1)], None)


def test_text_that_comes_in_pieces_is_outputs_and_their_whole_the_result() -> None:
    assert read([b"a\xe2", b"\x82\xac", b"", b"b"], "text/plain") == (
        [Output("a"), Output("\u20ac"), Output("b")],
        "a\u20acb",
    )
    assert read([b"all"], "text/plain") == ([Output("all")], None)
    assert read([], "text/plain") == ([], None)
    assert read([b"a\xe2"], "text/plain") == ([Output("a")], "a\ufffd")


def test_text_of_known_length_is_the_result() -> None:
    assert read([b"<p>", b"\xe9"], "text/html; charset=latin-1", content_length="4") == ([], "<p>\u00e9")


@pytest.mark.parametrize("charset", ["none such", "base64", "utf-8"])
def test_text_in_a_charset_that_is_none_is_read_as_utf_8(charset: str) -> None:
    assert read(["\u20ac".encode()], f"text/plain; charset={charset}", content_length="3") == ([], "\u20ac")


@pytest.mark.parametrize("content_type", ["application/json", "Application/Problem+JSON; charset=utf-8"])
def test_a_json_document_is_the_result(content_type: str) -> None:
    assert read([b'{"n"', b": [1]}"], content_type) == ([], {"n": [1]})
    assert read([b"{broken"], content_type) == ([], "{broken")
    assert read([b""], content_type) == ([], None)


def test_another_body_is_a_file() -> None:
    named = "attachment; filename*=utf-8''b%C3%A4r.wav"
    assert read([b"RI", b"FF"], "audio/wav", content_disposition=named) == (
        [],
        File(b"RIFF", "audio/wav", "b\u00e4r.wav"),
    )
    assert read([b"\x89PNG\r\n\x1a\n"], None) == ([], File(b"\x89PNG\r\n\x1a\n", "image/png"))
    assert read([b"x"], "no type", content_disposition='inline; filename="x.bin"')[1].file_name == "x.bin"


@pytest.mark.parametrize(
    ("location", "url"),
    [("https://cdn/x.png", "https://cdn/x.png"), ("/files/1", "https://host/files/1"), ("y", "https://host/app/y")],
)
def test_a_redirect_tells_its_url(location: str, url: str) -> None:
    assert read([b"See other"], "text/html", 307, location=location) == ([], {"url": url})


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body_has_no_result(status: int) -> None:
    assert read([b""], None, status) == ([], None)


@pytest.mark.parametrize(
    ("body", "content_type", "detail"),
    [
        (b'{"detail": [{"loc": ["body"]}]}', "application/json", [{"loc": ["body"]}]),
        (b'{"error": "no"}', "application/json", {"error": "no"}),
        (b"no such prompt", "text/plain", "no such prompt"),
        (b"data: 1\n\n", "text/event-stream", "data: 1\n\n"),
        (b"\x00", "application/octet-stream", "I'm a Teapot"),
        (b"", "text/plain", "I'm a Teapot"),
    ],
)
def test_a_response_of_an_error_raises_it(body: bytes, content_type: str, detail: Any) -> None:
    with pytest.raises(HTTPException) as raised:
        read([body], content_type, 418)
    assert (raised.value.status_code, raised.value.detail) == (418, detail)


def test_an_error_of_a_status_without_a_name_says_the_number() -> None:
    with pytest.raises(HTTPException) as raised:
        read([b""], None, 599)
    assert raised.value.detail == "HTTP 599"


@pytest.mark.parametrize(
    ("content_type", "chunk"),
    [
        ("text/event-stream", b"data: 56789"),
        ("text/event-stream", b"data: 5\n"),
        ("application/jsonl", b"12345"),
        ("text/plain", b"12345"),
        ("video/mp4", b"12345"),
    ],
)
def test_what_never_ends_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch, content_type: str, chunk: bytes) -> None:
    monkeypatch.setattr(outputs, "_MOST_BYTES", 12)
    with pytest.raises(NotEncodable, match="return a streamapp.File, or call the endpoint directly"):
        read([chunk] * 20, content_type)
