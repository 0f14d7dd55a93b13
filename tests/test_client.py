"""The Python client over real loopback sockets: a server of raw bytes plays each answer as it is written down."""

import base64
import io
import json
import socket
import subprocess
import sys
from typing import Any

import httpx
import pytest
from PIL import Image
from tests.scripted_server import END, HOLD, RESET, Serve, answer, block, chunk, head, refusal
from tests.waiting import WAIT_S

import streamapp_client
from streamapp_client import (
    ApiError,
    Cancelled,
    Client,
    ClientError,
    ConnectionFailed,
    DeadlineExceeded,
    EndpointFailed,
    Event,
    InvalidInput,
    MalformedRequest,
    NoImage,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    Stream,
    StreamInterrupted,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from streamapp_client._errors import error_from_event, error_from_response

# Events


def test_events_carry_name_data_and_id(serve: Serve) -> None:
    server = serve(head(), block("preview", {"step": 1}), block("output", [1, "é"], 2), END)

    events = [(event.name, event.data, event.id) for event in Client(server.url, patience_s=0).stream("/stream")]

    assert events == [("preview", {"step": 1}, "j1:1.1"), ("output", [1, "é"], "j1:1.2")]


def test_an_event_without_a_name_is_a_message(serve: Serve) -> None:
    server = serve(head(), chunk("data: 1\n\n"), END)

    assert [event.name for event in Client(server.url, patience_s=0).stream("/stream")] == ["message"]


def test_comments_are_no_events(serve: Serve) -> None:
    server = serve(head(), chunk(": open\n\n"), block("output", 1), chunk(": ping\n\n"), END)

    assert [event.data for event in Client(server.url, patience_s=0).stream("/stream")] == [1]


def test_an_event_is_handed_out_while_the_job_runs_on(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)

    with Client(server.url, patience_s=0).stream("/stream") as stream:
        assert next(stream).data == 1


def test_events_of_20_megabytes_arrive_whole(serve: Serve) -> None:
    server = serve(head(), block("output", "x" * (20 << 20)), END)

    [event] = Client(server.url, patience_s=0).stream("/stream")

    assert len(event.data) == 20 << 20


def test_more_than_a_hundred_streams_can_be_open_at_once(serve: Serve) -> None:
    """By default httpx lets the 101st wait for a connection, and fail."""
    server = serve(head(), block("preview", 1), HOLD)

    with Client(server.url, patience_s=0) as client:
        assert {next(stream).data for stream in [client.stream("/stream") for _ in range(101)]} == {1}


def test_a_stream_knows_its_job_at_once(serve: Serve) -> None:
    server = serve(head(), HOLD)

    with Client(server.url, patience_s=0).stream("/stream") as stream:
        assert stream.job_id == "j1"


def test_the_result_is_the_last_lasting_event_of_a_stream_that_ended_well(serve: Serve) -> None:
    """Previews, progress and log lines may come after it and are never the result."""
    passing = [block(name, 0) for name in ("preview", "progress", "log", "lagged")]
    server = serve(head(), block("output", 1), block("stage", 2), *passing, END)
    stream = Client(server.url, patience_s=0).stream("/stream")

    results = [stream.result for _ in stream]

    assert (results, stream.result) == ([None] * 6, 2)


def test_what_came_before_a_restart_is_no_result(serve: Serve) -> None:
    events = [block("output", 1), block("restarted", {}), block("output", 3)]
    stream = Client(serve(head(), *events, END).url).stream("/stream")
    assert (len(list(stream)), stream.result) == (3, 3)


def test_a_stream_that_broke_off_has_no_result(serve: Serve) -> None:
    stream = Client(serve(head(), block("output", 1)).url, patience_s=0).stream("/stream")

    with pytest.raises(StreamInterrupted):
        list(stream)
    assert stream.result is None


CUT = {
    "empty": [],
    "before any event": [chunk(": open\n\n")],
    "in an event": [block("output", 1), chunk("event: output\ndata: 2")],
    "after progress": [block("progress", {"step": 1}), block("preview", 1), block("log", {})],
    "after a restart": [block("output", 1), block("restarted", {"attempt": 2})],
}


@pytest.mark.parametrize("rest", CUT.values(), ids=CUT)
def test_a_body_that_ends_without_a_result_is_asked_for_again(serve: Serve, rest: list[bytes]) -> None:
    """A proxy that loses its server ends the answer as if it were whole; a result, be it null, is always an event."""
    again = [head(), block("output", 2, 2), block("done", {}, 3), END]
    server = serve(head(), *rest, END, **{"jobs/j1/events?_events=named": again})
    stream = Client(server.url).stream("/stream")

    assert [event.data for event in stream][-1] == 2
    assert (stream.result, stream.reconnects) == (2, 1)


@pytest.mark.parametrize("rest", [CUT["empty"], CUT["after progress"]], ids=["empty", "after progress"])
def test_a_stream_of_no_job_that_ends_without_a_result_is_no_success(serve: Serve, rest: list[bytes]) -> None:
    server = serve(head().replace(b"X-Streamapp-Job-Id: j1\r\n", b""), *rest, END)

    with pytest.raises(StreamInterrupted, match="^The stream broke off: it ended before its job$"):
        list(Client(server.url).stream("/stream"))


def test_null_is_a_result(serve: Serve) -> None:
    stream = Client(serve(head(), block("progress", 1), block("output", None, 2), END).url).stream("/stream")

    assert [event.name for event in stream] == ["progress", "output"]
    assert stream.reconnects == 0


def test_an_end_that_another_server_tells_is_one(serve: Serve) -> None:
    """Many send `done` at the end of a POST's stream; ours only in those that were asked for by GET."""
    server = serve(head().replace(b"X-Streamapp-Job-Id: j1\r\n", b""), block("progress", 1), block("done", {}, 2), END)

    assert [event.name for event in Client(server.url).stream("/stream")] == ["progress", "done"]


def test_a_last_line_needs_no_line_end(serve: Serve) -> None:
    server = serve(head("application/x-ndjson"), chunk("1\n2"), END)

    assert [event.data for event in Client(server.url).stream("/stream", accept="application/x-ndjson")] == [1, 2]


# Requests


def test_the_input_is_posted_as_json_with_the_key(serve: Serve) -> None:
    server = serve(head(), block("output", 1), END)

    list(Client(server.url, patience_s=0, key="secret").stream("/stream", {"prompt": "é"}))

    [(headers, body)] = server.requests
    assert server.saw(1) == ["POST /stream"]
    assert (headers["Authorization"], headers["Accept"]) == ("Key secret", "text/event-stream")
    assert json.loads(body) == {"prompt": "é"}


def test_without_input_an_empty_object_is_posted_and_without_key_no_header(serve: Serve) -> None:
    server = serve(head(), block("output", 1), END)

    list(Client(server.url, patience_s=0).stream("/stream"))

    [(headers, body)] = server.requests
    assert (body, "Authorization" in headers) == (b"{}", False)


def test_a_url_without_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match='Expected a URL like "http://'):
        Client("127.0.0.1:8000")


# Leaving early


def test_break_cancels_the_job_and_then_hangs_up(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)

    for _ in Client(server.url, patience_s=0, key="secret").stream("/stream"):
        break

    assert server.saw(3) == ["POST /stream", "POST /jobs/j1/cancel", "gone /stream"]
    assert server.requests[1][0]["Authorization"] == "Key secret"


def test_leaving_a_with_block_cancels_the_job(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)

    with Client(server.url, patience_s=0) as client, client.stream("/stream") as stream:
        next(stream)

    assert server.saw(3)[1] == "POST /jobs/j1/cancel"


def test_letting_go_of_a_stream_that_was_never_read_cancels_the_job(serve: Serve) -> None:
    server = serve(head(), HOLD)
    stream = Client(server.url, patience_s=0).stream("/stream")

    del stream

    assert server.saw(3)[1] == "POST /jobs/j1/cancel"


def test_an_exception_in_the_reading_thread_cancels_the_job(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does while the client waits for the next event."""
    server = serve(head(), block("preview", 1), HOLD)
    stream = Client(server.url, patience_s=0).stream("/stream")

    def interrupt(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "loads", interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(stream)

    assert "POST /jobs/j1/cancel" in server.saw(3)


def test_the_end_of_the_process_cancels_the_job(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)
    code = f"from streamapp_client import Client; stream = Client({server.url!r}).stream('/stream'); next(stream)"

    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT_S)

    assert server.saw(3)[1] == "POST /jobs/j1/cancel"


def test_close_cancels_once_and_ends_the_iteration(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), block("preview", 2), HOLD)
    stream = Client(server.url, patience_s=0).stream("/stream")

    next(stream)
    stream.close()
    stream.close()

    assert list(stream) == []
    assert server.saw(3) == ["POST /stream", "POST /jobs/j1/cancel", "gone /stream"]


def test_a_cancel_that_gets_no_answer_is_not_an_error(serve: Serve) -> None:
    """The closing connection tells the server too."""
    server = serve(head(), block("preview", 1), HOLD)
    server.answers["/jobs/j1/cancel"] = [RESET]

    Client(server.url, patience_s=0).stream("/stream").close()

    assert server.saw(3)[2] == "gone /stream"


@pytest.mark.parametrize("last", [END, block("error", refusal("endpoint_failed")), b"", RESET])
def test_a_stream_that_has_ended_is_not_cancelled(serve: Serve, last: bytes | str) -> None:
    server = serve(head(), block("output", 1), last, echo=[answer(b"1")])
    client = Client(server.url, patience_s=0)

    with client.stream("/stream") as stream:
        try:
            list(stream)
        except ClientError:
            pass
    client.run("/echo")

    assert server.saw(2) == ["POST /stream", "POST /echo"]


def test_a_stream_of_a_closed_client_breaks_off_without_a_cancel(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)
    client = Client(server.url, patience_s=0)
    stream = client.stream("/stream")

    client.close()
    stream.close()

    assert server.saw(2) == ["POST /stream", "gone /stream"]


def test_a_stream_without_a_job_just_hangs_up(serve: Serve) -> None:
    """Other servers send no X-Streamapp-Job-Id, and have nothing to cancel."""
    server = serve(head().replace(b"X-Streamapp-Job-Id: j1\r\n", b""), block("preview", 1), HOLD)

    Client(server.url, patience_s=0).stream("/stream").close()

    assert server.saw(2) == ["POST /stream", "gone /stream"]


# Streams that fail


def failure(stream: Stream) -> ClientError:
    with pytest.raises(ClientError) as caught:
        list(stream)
    return caught.value


def test_an_error_event_raises_what_the_server_said(serve: Serve) -> None:
    said = refusal("out_of_memory", "The GPU is full.", retryable=True, detail={"free": 0})
    server = serve(head(), block("preview", 1), block("error", said, 2), RESET)
    stream = Client(server.url, patience_s=0).stream("/stream")

    assert next(stream).data == 1
    error = failure(stream)

    assert isinstance(error, Unavailable)
    assert (str(error), error.code, error.retryable) == ("The GPU is full.", "out_of_memory", True)
    assert (error.detail, error.data, error.job_id, error.status_code) == ({"free": 0}, said, "j1", None)


def test_an_error_can_be_the_first_event(serve: Serve) -> None:
    server = serve(head(), block("error", refusal("deadline_exceeded")))

    assert isinstance(failure(Client(server.url, patience_s=0).stream("/stream")), DeadlineExceeded)


def test_a_cancel_by_somebody_else_raises_cancelled(serve: Serve) -> None:
    server = serve(head(), block("cancelled", refusal("cancelled", "The job was cancelled.")))

    error = failure(Client(server.url, patience_s=0).stream("/stream"))

    assert isinstance(error, Cancelled)
    assert not error.retryable


def test_an_error_with_a_code_of_the_apps_own_is_an_api_error(serve: Serve) -> None:
    error = failure(Client(serve(head(), block("error", refusal("nsfw"))).url, patience_s=0).stream("/stream"))

    assert (type(error), error.code) == (ApiError, "nsfw")


def test_an_error_event_of_another_form_is_shown_as_it_came(serve: Serve) -> None:
    error = failure(Client(serve(head(), block("error", ["boom"])).url, patience_s=0).stream("/stream"))

    assert (type(error), str(error)) == (ApiError, "The job ended with the event 'error': ['boom']")


@pytest.mark.parametrize("last", [b"", RESET, b"5\r\nda"])
def test_a_stream_without_its_last_chunk_is_interrupted(serve: Serve, last: bytes | str) -> None:
    """Cut between blocks, by a reset, and inside a chunk; what came before is handed out."""
    server = serve(head(), block("output", 1), chunk(": ping\n\n"), last)
    stream = Client(server.url, patience_s=0).stream("/stream")

    assert next(stream).data == 1
    error = failure(stream)

    assert isinstance(error, StreamInterrupted)
    assert (error.code, error.retryable, error.job_id) == ("stream_interrupted", True, "j1")
    assert list(stream) == []


def test_a_stream_that_falls_silent_is_interrupted(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)

    error = failure(Client(server.url, patience_s=0, silence_s=2).stream("/stream"))

    assert isinstance(error, StreamInterrupted)
    assert "no heartbeat came" in str(error)


def test_an_event_that_is_not_json_cancels_the_job(serve: Serve) -> None:
    server = serve(head(), chunk("data: [DONE]\n\n"), HOLD)

    error = failure(Client(server.url, patience_s=0).stream("/stream"))

    assert isinstance(error, UnexpectedAnswer)
    assert (str(error), error.data) == ("Expected JSON in the event 'message', got '[DONE]'", "[DONE]")
    assert "POST /jobs/j1/cancel" in server.saw(3)


# Answers that are no stream


def test_a_server_that_is_not_there_is_a_failed_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

    with pytest.raises(ConnectionFailed, match=f"No answer from {url}") as caught:
        Client(url).stream("/stream")
    assert caught.value.retryable


def test_a_server_that_hangs_up_at_once_is_a_failed_connection(serve: Serve) -> None:
    with pytest.raises(ConnectionFailed):
        Client(serve(b"").url, patience_s=0).stream("/stream")


def test_a_refusal_raises_before_the_stream(serve: Serve) -> None:
    said = json.dumps(refusal("queue_full", "The queue is full.", retryable=True)).encode()
    server = serve(answer(said, "429 Too Many Requests", headers="Retry-After: 7\r\nX-Streamapp-Job-Id: j1\r\n"))

    with pytest.raises(QueueFull, match="The queue is full") as caught:
        Client(server.url, patience_s=0).stream("/stream")

    error = caught.value
    assert (error.retry_after, error.retryable, error.status_code, error.job_id) == (7, True, 429, "j1")


@pytest.mark.parametrize(
    ("told", "trace"), [("Traceback ...", "Traceback ..."), (None, None), ([1], None), ("x" * 70_000, "x" * 70_000)]
)
def test_an_error_has_the_traceback_that_the_server_tells(told: Any, trace: str | None) -> None:
    said = {"error": {"code": "endpoint_failed", "message": "no", "retryable": False, "traceback": told}}
    assert error_from_event("error", said, "j1").traceback == trace


@pytest.mark.parametrize("body", [b"", b"[]", b'{"error": "no"}', b'{"error": null}'])
def test_an_error_of_another_server_has_no_traceback(body: bytes) -> None:
    assert error_from_response(httpx.Response(500, content=body)).traceback is None


@pytest.mark.parametrize("content_type", ["x bogus", "text/x-bogus", "text/event-streams"])
def test_another_media_type_is_no_stream(serve: Serve, content_type: str) -> None:
    """WPT eventsource/format-mime-bogus and format-mime-valid-bogus."""
    with pytest.raises(UnexpectedAnswer, match=f"Expected text/event-stream from .*, got HTTP 200 with {content_type}"):
        Client(serve(head(content_type), HOLD).url, patience_s=0).stream("/stream")


@pytest.mark.parametrize("parameter", [";", "; charset=windows-1252", " ;x=y"])
def test_parameters_of_the_media_type_change_nothing(serve: Serve, parameter: str) -> None:
    """WPT eventsource/format-mime-trailing-semicolon and format-utf-8: always UTF-8."""
    server = serve(head("Text/Event-Stream" + parameter), chunk('data: "ok…"\n\n'), END)

    assert [event.data for event in Client(server.url, patience_s=0).stream("/stream")] == ["ok…"]


def test_streaming_a_unary_endpoint_says_what_to_write(serve: Serve) -> None:
    with pytest.raises(UnexpectedAnswer, match=r"write client\.run\("):
        Client(serve(answer(b"1")).url, patience_s=0).stream("/stream")


# Unary calls


def test_run_returns_the_value(serve: Serve) -> None:
    server = serve(echo=[answer(b'{"seed": 7}')])

    assert Client(server.url, patience_s=0).run("/echo", {"a": 1}) == {"seed": 7}
    assert (server.requests[0][0]["Accept"], server.requests[0][1]) == ("application/json", b'{"a":1}')


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content"])
def test_an_empty_answer_is_none_and_a_stream_without_events(serve: Serve, status: str) -> None:
    server = serve(answer(b"", status))

    assert Client(server.url).run("/stream") is None
    assert list(Client(server.url).stream("/stream")) == []


def test_run_raises_what_the_server_said(serve: Serve) -> None:
    fields = [{"loc": ["body", "steps"], "msg": "Input should be less than 50"}]
    said = json.dumps(refusal("invalid_input", "steps is wrong", detail=fields)).encode()
    server = serve(echo=[answer(said, "422 Unprocessable Entity")])

    with pytest.raises(InvalidInput) as caught:
        Client(server.url, patience_s=0).run("/echo")
    assert caught.value.detail == fields


def test_running_a_streaming_endpoint_says_what_to_write_and_does_not_wait_for_its_end(serve: Serve) -> None:
    server = serve(head(), block("preview", 1), HOLD)

    with pytest.raises(UnexpectedAnswer, match=r"write client\.stream\("):
        Client(server.url, patience_s=0).run("/stream")
    assert server.saw(2) == ["POST /stream", "gone /stream"]


def test_run_refuses_an_answer_that_only_says_that_it_is_json(serve: Serve) -> None:
    with pytest.raises(UnexpectedAnswer, match="Expected JSON in the answer of /echo"):
        Client(serve(echo=[answer(b"<html>")]).url, patience_s=0).run("/echo")


def test_run_waits_no_longer_than_it_is_told(serve: Serve) -> None:
    with pytest.raises(DeadlineExceeded, match="/echo did not end within timeout_s=0.2"):
        Client(serve(echo=[HOLD]).url, patience_s=0).run("/echo", timeout_s=0.2)


# What errors mean


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed_request", MalformedRequest),
        (401, "unauthorized", Unauthorized),
        (404, "not_found", NotFound),
        (404, "job_not_found", NotFound),
        (413, "payload_too_large", PayloadTooLarge),
        (422, "invalid_input", InvalidInput),
        (429, "queue_full", QueueFull),
        (499, "cancelled", Cancelled),
        (500, "internal_error", EndpointFailed),
        (500, "endpoint_failed", EndpointFailed),
        (500, "not_encodable", EndpointFailed),
        (503, "unavailable", Unavailable),
        (503, "draining", Unavailable),
        (503, "setup_failed", Unavailable),
        (503, "out_of_memory", Unavailable),
        (503, "worker_stuck", Unavailable),
        (504, "deadline_exceeded", DeadlineExceeded),
        (504, "queue_timeout", DeadlineExceeded),
        (405, "method_not_allowed", ApiError),
        (418, "of_the_apps_own", ApiError),
    ],
)
def test_a_code_means_an_error(status: int, code: str, kind: type[ApiError]) -> None:
    error = error_from_response(httpx.Response(status, json=refusal(code)))

    assert (type(error), error.code, error.status_code, str(error)) == (kind, code, status, "No.")


def test_the_code_decides_before_the_status() -> None:
    assert type(error_from_response(httpx.Response(500, json=refusal("draining")))) is Unavailable


def test_the_server_decides_what_is_retryable() -> None:
    """`setup_failed` is a 503 that no second try mends."""
    assert not error_from_response(httpx.Response(503, json=refusal("setup_failed", retryable=False))).retryable


@pytest.mark.parametrize(
    ("body", "kind", "code", "message"),
    [
        ({"detail": "Not Found"}, NotFound, "not_found", "Not Found"),
        ({"detail": "Busy", "error_type": "queue_full"}, QueueFull, "queue_full", "Busy"),
        ({"error": "gone"}, NotFound, "not_found", "gone"),
        ({"error": {"message": "no model", "code": None}}, NotFound, "not_found", "no model"),
        ({"detail": [{"msg": "x"}]}, NotFound, "not_found", 'HTTP 404 Not Found: {"detail":[{"msg":"x"}]}'),
        ("no", NotFound, "not_found", 'HTTP 404 Not Found: "no"'),
    ],
)
def test_errors_of_other_forms_are_understood(body: Any, kind: type[ApiError], code: str, message: str) -> None:
    """FastAPI's, fal's, Runpod's and the OpenAI form, and none that is known."""
    error = error_from_response(httpx.Response(404, json=body))

    assert (type(error), error.code, str(error), error.data) == (kind, code, message, body)


def test_the_page_of_a_proxy_is_an_unavailable_server() -> None:
    page = "<html><h1>502 Bad Gateway</h1></html>"
    error = error_from_response(httpx.Response(502, html=page))

    assert (type(error), error.code, error.retryable) == (Unavailable, "unavailable", True)
    assert (str(error), error.data) == (f"HTTP 502 Bad Gateway: {page}", page)


def test_a_body_that_is_no_text_still_makes_an_error() -> None:
    assert type(error_from_response(httpx.Response(500, content=b"\xff\xfe"))) is EndpointFailed


def test_a_retry_after_that_is_a_date_is_not_guessed() -> None:
    headers = {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}

    assert error_from_response(httpx.Response(503, headers=headers)).retry_after is None


# Images


def png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 3), color).save(buffer, "PNG")
    return buffer.getvalue()


def data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


RED = data_uri(png("red"))
BLUE = data_uri(png("blue"))


def colors(images: list[Image.Image]) -> list[Any]:
    return [image.getpixel((0, 0)) for image in images]


@pytest.mark.parametrize(
    "data",
    [
        {"image": {"url": RED, "content_type": "image/png"}, "seed": 7},
        {"image": RED},
        {"images": [{"url": RED}, {"url": BLUE}]},
        {"images": [RED]},
        {"url": RED},
        RED,
        {"image": {"url": "data:image/png," + "".join(f"%{byte:02x}" for byte in png("red"))}},
        {"image": RED.rstrip("=").replace(";", "; ").replace("/", "_").replace("_", "/", 1) + "\n#x"},
        {"image": "data:image/png;base64," + base64.encodebytes(png("red")).decode().replace("\n", "%0A")},
    ],
)
def test_an_event_opens_its_first_image(serve: Serve, data: Any) -> None:
    [event] = Client(serve(head(), block("output", data), END).url, patience_s=0).stream("/stream")

    assert (event.image().size, colors([event.image()])) == ((2, 3), [(255, 0, 0)])


def test_an_event_opens_all_of_its_images(serve: Serve) -> None:
    server = serve(head(), block("output", {"images": [{"url": RED}, {"url": BLUE}]}), END)

    [event] = Client(server.url, patience_s=0).stream("/stream")

    assert colors(event.images()) == [(255, 0, 0), (0, 0, 255)]


@pytest.mark.parametrize("url", ["/file", "{server}/file"])
def test_an_image_on_the_same_server_is_downloaded_with_the_key(serve: Serve, url: str) -> None:
    server = serve(file=[answer(png("red"), content_type="image/png")])
    data = {"image": {"url": url.format(server=server.url)}}
    server.answers["/stream"] = [head(), block("output", data), END]

    [event] = Client(server.url, patience_s=0, key="secret").stream("/stream")

    assert colors([event.image()]) == [(255, 0, 0)]
    assert server.requests[1][0]["Authorization"] == "Key secret"


def test_an_image_on_another_server_is_not_downloaded(serve: Serve) -> None:
    """That server would see the key."""
    other = serve(file=[answer(png("red"))])
    server = serve(head(), block("output", {"image": {"url": f"{other.url}/file"}}), END)

    [event] = Client(server.url, patience_s=0, key="secret").stream("/stream")

    with pytest.raises(NoImage, match="download it yourself"):
        event.image()
    assert other.requests == []


def test_an_image_that_is_gone_raises_what_the_server_said(serve: Serve) -> None:
    server = serve(head(), block("output", {"image": "/file"}), END, file=[answer(b"", "404 Not Found")])

    [event] = Client(server.url, patience_s=0).stream("/stream")

    with pytest.raises(NotFound):
        event.image()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"seed": 7}, r"""Expected data\["image"\] or .* in the event 'output', got \['seed'\]"""),
        ({"images": []}, "got .'images'"),
        ({"image": None}, "got .'image'"),
        ("a token", "got str"),
        (None, "got NoneType"),
        ({"image": data_uri(b"no image")}, "Expected a PNG, .* at .*, got 8 bytes$"),
        ({"image": data_uri(png("red")[:40])}, "Expected a PNG, .* at .*, got 40 bytes"),
        ({"image": "data:image/png;base64,A"}, "Expected base64 in the data URI"),
    ],
)
def test_an_event_without_an_image_says_what_it_has(serve: Serve, data: Any, message: str) -> None:
    [event] = Client(serve(head(), block("output", data), END).url, patience_s=0).stream("/stream")

    with pytest.raises(NoImage, match=message):
        event.image()


def drawn(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 3), "red").save(buffer, format)
    return buffer.getvalue()


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_event_opens_what_browsers_send(format: str) -> None:
    assert Event("output", {"image": data_uri(drawn(format))}, "", str.encode).image().format == format


@pytest.mark.parametrize("format", ["EPS", "PDF", "BMP", "TIFF", "PPM", "TGA", "ICO"])
@pytest.mark.parametrize("media_type", ["image/png", "application/postscript"])
def test_an_event_opens_no_other_format(format: str, media_type: str) -> None:
    """An EPS would start ghostscript."""
    url = data_uri(drawn(format)).replace("image/png", media_type)
    with pytest.raises(NoImage, match="Expected a PNG, JPEG, WebP or GIF image"):
        Event("output", {"image": url}, "", str.encode).image()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [5, 1])  # Pillow warns above the limit, and raises above twice the limit
def test_an_image_of_more_pixels_than_pillow_allows_is_not_decoded(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(NoImage, match="pixels"):
        Event("output", {"image": RED}, "", str.encode).image()


@pytest.mark.parametrize(
    "data",
    [{"images": 5}, {"images": "data:"}, {"image": {"url": 5}}, {"image": "data:\ud800,x"}, {"image": "http://["}],
)
def test_an_event_with_nonsense_for_an_image_has_none(data: Any) -> None:
    with pytest.raises(NoImage):
        Event("output", data, "", Client("http://127.0.0.1:9").download).image()


# The package


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT_S, capture_output=True, text=True)
    return done.stdout


def test_without_pillow_all_but_images_works() -> None:
    code = f"""
import sys
sys.modules["PIL"] = None
from streamapp_client import Event, NoImage
try:
    Event("output", {{"image": {RED!r}}}, "", print).image()
except NoImage as error:
    sys.stdout.write(str(error))
"""
    assert 'pip install "streamapp-client[images]"' in run_python(code)


def test_the_client_does_not_import_the_server() -> None:
    assert run_python("import sys, streamapp_client; sys.stdout.write(str('streamapp' in sys.modules))") == "False"


def test_every_public_name_is_exported() -> None:
    public = {name for name, value in vars(streamapp_client).items() if isinstance(value, type)}

    assert public == set(streamapp_client.__all__)
