"""Middleware: each class alone, around the smallest ASGI application that shows what it does; then all of a server."""

import logging
import re
import sys
import uuid
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected
from tests.asking import Answer, ask, ok
from tests.served import Kinds, serving, shape

import streamapp
from streamapp.budget import Budget
from streamapp.errors import describe
from streamapp.http.call import CALLER
from streamapp.http.middleware import (
    REQUEST_ID,
    ApiKey,
    BodyLimit,
    HeadLimit,
    RequestId,
    UnhandledErrors,
    UnloggedToken,
)
from streamapp.http.tokens import ShownTokens, Tokens

FALS: Any = {"x_fal_queue_priority": "low"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body; as FastAPI does, turn an `HTTPException` into its status."""
    try:
        body = await Request(scope, receive).body()
    except HTTPException as error:
        body = error.detail.encode()
        await Response(body, error.status_code, error.headers)(scope, receive, send)
        return
    await Response(body)(scope, receive, send)


@pytest.mark.parametrize(
    "app",
    [
        RequestId(ok),
        ApiKey(ok, "secret"),
        HeadLimit(ok),
        UnloggedToken(ok),
        BodyLimit(ok, 1, Budget(1000)),
        UnhandledErrors(ok),
    ],
)
async def test_the_lifespan_passes(app: ASGIApp) -> None:
    assert (await ask(app, kind="lifespan")).sent == [{"type": "lifespan.passed"}]


# The limits of heads


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/" + "a" * 16 * 1024, {}, 414),
        ("/" * 17_000, {}, 414),
        ("/x?a=" + "a" * 256 * 1024, {}, 414),
        ("/x?" + "&" * 1000, {}, 400),
        ("/x?" + "%41=%41&" * 1000, {}, 400),
        ("/x", {f"h{n}": "" for n in range(201)}, 431),
        ("/x", {"accept": "a/b," * 9000}, 431),
        ("/x", {"cookie": "a" * 33_000}, 431),
        ("/x", {"cookie": ";" * 1001}, 431),
        ("/x", {"x_forwarded_for": "," * 600, "accept": ", " * 600}, 431),
        ("/x", {"a" * 33_000: "1"}, 431),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_a_head_that_takes_the_loop_is_refused(path: str, headers: Any, status: int, kind: str) -> None:
    answer = await ask(HeadLimit(ok), path, kind=kind, **headers)
    if kind == "websocket":
        assert answer.sent[0]["type"] == "websocket.close"
    else:
        assert (answer.status, answer.error["code"]) == (status, "malformed_request")


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/x?" + "&".join(f"a={n}" for n in range(1000)), {}),
        ("/x?_input=" + "a" * 255 * 1024, {}),
        ("/x", {"cookie": "a=b; " * 500, "accept": "a/b;q=1," * 250}),
        ("/x", {"cookie": "a" * 30_000}),
        ("/" + "a" * 16_000, {}),
    ],
)
async def test_a_large_head_passes(path: str, headers: Any) -> None:
    assert (await ask(HeadLimit(ok), path, method="GET", **headers)).status == 200


# What is logged of a key


@pytest.mark.parametrize(
    ("query", "logged"),
    [
        ("_token=k", ""),
        ("_token=k&a=1", "a=1"),
        ("a=1&_token=k", "a=1"),
        ("a=1&_token=k&b=2&_token=l", "a=1&b=2"),
        ("a=1&%5Ftoken=k&b", "a=1&b"),
        ("%5f%74%6F%6b%65%6e=k", ""),
        ("a_token=k", "a_token=k"),
        ("pass=k&a=1&p%61ss=l", "a=1"),
        ("apass=k&pas=k", "apass=k&pas=k"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_the_key_is_taken_out_of_what_the_server_logs_and_left_to_the_app(
    query: str, logged: str, kind: str
) -> None:
    seen: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["query_string"])

    scope: Scope = {"type": kind, "query_string": query.encode()}
    await UnloggedToken(app, ["pass"])(scope, None, None)  # type: ignore[arg-type]
    assert (seen, scope["query_string"]) == ([query.encode()], logged.encode())


async def test_nothing_is_logged_of_a_query_that_is_refused_unread() -> None:
    scope: Scope = {"type": "websocket", "path": "/", "query_string": b"_token=k" + b"&" * 1000, "headers": []}

    async def send(message: Message) -> None: ...

    await HeadLimit(ok)(scope, None, send)  # type: ignore[arg-type]
    assert scope["query_string"] == b""


# Request ids


async def test_every_request_gets_an_id_of_its_own_which_fals_clients_are_told() -> None:
    seen: list[tuple[str, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope[REQUEST_ID], *(v.decode() for k, v in scope["headers"] if k == b"x-fal-request-id")))
        await ok(scope, receive, send)

    told = [(await ask(RequestId(app), x_fal_request_id="forged")).headers["x-fal-request-id"] for _ in range(2)]
    assert seen == [(told[0], told[0]), (told[1], told[1])]
    assert told[0] != told[1]


async def test_an_id_is_a_random_uuid() -> None:
    """fal's clients write it with dashes, and some read it as a UUID."""
    told = uuid.UUID((await ask(RequestId(ok), **FALS)).headers["x-fal-request-id"])
    assert (told.version, told.variant) == (4, uuid.RFC_4122)


async def test_the_id_of_a_job_is_the_id_of_its_request() -> None:
    app = RequestId(PlainTextResponse("ok", headers={"X-Streamapp-Job-Id": "abc"}))
    assert (await ask(app, **FALS)).headers["x-fal-request-id"] == "abc"


async def test_an_id_that_is_there_stays() -> None:
    app = RequestId(PlainTextResponse("ok", headers={"x-fal-request-id": "own"}))
    assert (await ask(app, **FALS)).headers["x-fal-request-id"] == "own"


async def test_a_response_object_that_is_sent_twice_gets_two_ids() -> None:
    response = PlainTextResponse("ok")
    ids = {(await ask(RequestId(response), **FALS)).headers["x-fal-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert "x-fal-request-id" not in response.headers


@pytest.mark.parametrize(("headers", "is_labelled"), [(FALS, True), ({}, False)])
async def test_a_response_without_headers_gets_an_id_for_fals_clients(headers: Any, is_labelled: bool) -> None:
    async def bare(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})

    assert ("x-fal-request-id" in (await ask(RequestId(bare), **headers)).headers) == is_labelled


@pytest.mark.parametrize(
    "told", [{"x-fal-error-type": "a"}, {"x-fal-request-timeout-type": "user"}, {"x-fal-billable-units": "0"}]
)
async def test_what_the_server_says_by_fals_names_is_for_its_clients(told: dict[str, str]) -> None:
    response = PlainTextResponse("ok", headers=told)
    assert not [name for name in (await ask(RequestId(response))).headers if name.startswith("x-fal-")]
    fals = (await ask(RequestId(response), **FALS)).headers
    assert fals.items() >= told.items()


async def test_what_an_app_says_by_fals_names_is_for_all() -> None:
    response = PlainTextResponse("ok", headers={"x-fal-billable-units": "3", "x-fal-own": "1"})
    headers = (await ask(RequestId(response))).headers
    assert (headers["x-fal-billable-units"], headers["x-fal-own"]) == ("3", "1")


@pytest.mark.parametrize(
    ("path", "headers", "is_fals"),
    [
        ("/run/me/app", {}, True),
        ("/queue/me/app/requests/x", {}, True),
        ("/rest/storage/upload/initiate", {}, True),
        ("/api/fal/proxy", {}, True),
        ("/runs", {}, False),
        ("/x", FALS, True),
        ("/x", {"user_agent": "fal-client/1.0.3 (python)"}, True),
        ("/x", {"user_agent": "@fal-ai/client/1.10.1"}, True),
        ("/x", {"user_agent": "curl/8", "x_own": "x-fal-"}, False),
    ],
)
async def test_fals_clients_are_known_by_path_header_or_name(path: str, headers: Any, is_fals: bool) -> None:
    for root_path in ("", "/below"):
        answer = await ask(RequestId(ok), root_path + path, root_path=root_path, **headers)
        assert ("x-fal-request-id" in answer.headers) == is_fals


# API keys


@pytest.mark.parametrize("value", ["Key secret", "Bearer secret", "bearer secret", "Key  secret", "secret"])
async def test_the_key_comes_as_key_or_bearer_or_alone(value: str) -> None:
    assert (await ask(ApiKey(ok, "secret"), authorization=value)).status == 200


async def test_an_event_source_sends_the_key_in_the_query() -> None:
    assert (await ask(ApiKey(ok, "se cret"), "/stream?a=1&_token=se%20cret", method="GET")).status == 200


@pytest.mark.parametrize(("path", "status"), [("/own/a", 200), ("/own/a/b", 401)])
async def test_a_face_may_guard_paths_of_its_own_itself(path: str, status: int) -> None:
    guarded = ApiKey(ok, "secret", own_guards=[re.compile("/other"), re.compile("/own/[^/]+")])
    for root_path in ("", "/below"):
        assert (await ask(guarded, root_path + path, root_path=root_path)).status == status
    socket = await ask(guarded, "/own/a", kind="websocket")
    assert socket.sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize("value", ["", "Key", "Key wrong", "Secret", "Basic secret", "Key secret2", "Key s\xe9cret"])
async def test_without_the_key_the_answer_is_401_in_the_one_shape(value: str) -> None:
    answer = await ask(ApiKey(ok, "secret"), authorization=value)
    assert (answer.status, answer.error["code"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Key"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("_token=secret&a=1", 200),
        ("a&_token=secret", 200),
        ("_token=wrong&_token=secret", 200),
        ("_token=%73ecret", 200),
        ("_token=+secret%0A", 200),
        ("a=1&%5ftoken=secret", 200),
        ("%5F%74%6f%6B%65%6E=secret", 200),
        ("_TOKEN=secret", 401),
        ("_token=secret&_token=", 401),
        ("a_token=secret", 401),
        ("a=_token=secret", 401),
        ("a=1;_token=secret", 401),
        ("_token", 401),
        ("_token=secretsecret", 401),
        ("_token=" + "%73" * 80_000, 401),
    ],
)
async def test_the_key_in_the_query_is_a_field_of_its_own(query: str, status: int) -> None:
    assert (await ask(ApiKey(ok, "secret"), f"/stream?{query}", method="GET")).status == status


async def test_what_has_no_key_costs_as_much_with_a_long_query_as_with_a_short_one() -> None:
    """A query of 64 KiB held the loop up for 66 ms before it was refused."""
    await calls_of(ApiKey(ok, "secret"), "/x")  # the first one fills caches
    short, long = [await calls_of(ApiKey(ok, "secret"), f"/x?{query}") for query in ("a=1", "%41=%41&" * 8000)]
    assert long <= short


async def calls_of(app: ASGIApp, path: str) -> int:
    """Count the calls, of C's functions too, that a request takes to be answered."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        await ask(app, path, method="GET")
    finally:
        sys.setprofile(before)
    return calls


async def test_an_open_path_needs_the_key_for_a_query_that_only_costs() -> None:
    answers = [await ask(ApiKey(ok, "secret"), f"/files/0/a.png?{'a' * n}") for n in (4096, 4097)]
    assert [answer.status for answer in answers] == [200, 401]


async def test_a_wrong_key_in_the_header_is_not_mended_by_the_query() -> None:
    assert (await ask(ApiKey(ok, "secret"), "/stream?_token=secret", authorization="Key wrong")).status == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/page", 418), ("HEAD", "/page", 418), ("POST", "/page", 401), ("GET", "/stream", 401)],
)
async def test_a_page_is_shown_to_who_has_no_key_and_nothing_behind_it_is_asked(
    method: str, path: str, status: int
) -> None:
    async def find_page(request: Request) -> Response | None:
        return Response(status_code=418) if request.url.path == "/page" else None

    guarded = ApiKey(ok, "secret", find_page=find_page)
    assert (await ask(guarded, path, method=method)).status == status
    assert (await ask(guarded, f"{path}?{'a' * 4097}", method=method)).status == 401


@pytest.mark.parametrize("root_path", ["", "/mounted"])
async def test_health_needs_no_key(root_path: str) -> None:
    assert (await ask(ApiKey(ok, "secret"), f"{root_path}/health", root_path=root_path)).status == 200


async def test_an_endpoint_at_health_is_guarded_and_the_servers_own_is_open() -> None:
    guard = ApiKey(ok, "secret", guarded=["/health"])
    assert [(await ask(guard, path)).status for path in ("/health", "/_streamapp/health")] == [401, 200]


@pytest.mark.parametrize("path", ["/", "/health/", "/healthy", "/metrics", "/x/health", "/docsx", "/openapi.json"])
async def test_everything_else_needs_the_key(path: str) -> None:
    assert (await ask(ApiKey(ok, "secret"), path, method="GET")).status == 401


async def test_a_websocket_without_the_key_is_closed_before_it_opens() -> None:
    answer = await ask(ApiKey(ok, "secret"), "/realtime", kind="websocket")
    assert [(message["type"], message["code"]) for message in answer.sent] == [("websocket.close", 1008)]


async def test_a_websocket_without_the_key_is_answered_where_the_server_can_do_so() -> None:
    scope: Scope = {"type": "websocket", "path": "/realtime", "query_string": b"", "headers": []}
    answer = Answer()
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    await ApiKey(ok, "secret")({**scope, "extensions": extensions}, None, answer.send)  # type: ignore[arg-type]
    assert (answer.sent[0]["type"], answer.status) == ("websocket.http.response.start", 401)
    assert answer.headers["www-authenticate"] == "Key"
    assert answer.error["code"] == "unauthorized"


async def test_a_websocket_with_the_key_passes() -> None:
    answer = await ask(ApiKey(ok, "secret"), "/realtime?_token=secret", kind="websocket")
    assert answer.sent == [{"type": "websocket.passed"}]


SHOWN = ShownTokens(field="pass", app_at={"/a/s": "a", "/b/s": "b"}.get, answer_expired=PlainTextResponse("expired"))


async def shown(path: str, token: str, *, kind: str = "websocket") -> str:
    """Show a token of the field `pass`; return the type of the first answer."""
    guarded = ApiKey(ok, "secret", shown_tokens=[SHOWN], app_names=["a"])
    return str((await ask(guarded, f"{path}?x=1&pa%73s={token}", kind=kind)).sent[0]["type"])


async def test_a_token_opens_the_sockets_of_its_apps_as_long_as_these_are_served() -> None:
    token = Tokens("secret").make(["a", "b"], lasts_s=60)
    assert await shown("/a/s", token) == "websocket.passed"
    assert [await shown(path, token) for path in ("/b/s", "/c", "/a/s/")] == ["websocket.close"] * 3
    assert await shown("/a/s", Tokens("secret").make(["b"], lasts_s=60)) == "websocket.close"
    assert await shown("/a/s", "secret") == "websocket.close"


@pytest.mark.parametrize(
    ("query", "told"), [("pass=x", "the token opens nothing"), ("pass=", "the API key"), ("", "the")]
)
async def test_who_shows_a_token_that_opens_nothing_is_told_so(query: str, told: str) -> None:
    guarded = ApiKey(ok, "secret", shown_tokens=[SHOWN], app_names=["a"])
    assert (await ask(guarded, f"/a/s?{query}", kind="websocket")).sent[0]["reason"].startswith(told)
    assert (await ask(guarded, f"/a/s?{query}")).error["message"].startswith("the API key")


async def test_a_token_opens_nothing_by_http() -> None:
    assert await shown("/a/s", Tokens("secret").make(["a"], lasts_s=60), kind="http") == "http.response.start"


async def test_for_a_token_that_has_expired_its_face_answers() -> None:
    answer = await shown("/a/s", Tokens("secret").make(["a"], lasts_s=-1))
    assert answer == "websocket.http.response.start"


async def test_a_session_is_of_who_had_its_token_made() -> None:
    callers: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        callers.append(scope[CALLER])

    token = Tokens("secret").make(["a"], lasts_s=60, caller="me")
    await ask(ApiKey(app, "secret", shown_tokens=[SHOWN], app_names=["a"]), f"/a/s?pass={token}", kind="websocket")
    assert callers == ["me"]


@pytest.mark.parametrize("path", ["/health", "/_streamapp/health", "/playground", "/files/0/a.png"])
async def test_no_websocket_is_open_to_all(path: str) -> None:
    answer = await ask(ApiKey(ok, "secret"), path, kind="websocket")
    assert answer.sent[0]["type"] == "websocket.close"


@pytest.mark.parametrize(("path", "status"), [("/files/0/a.png", 200), ("/files", 401), ("/rest/files/upload", 401)])
async def test_who_knows_the_url_of_a_file_needs_no_key(path: str, status: int) -> None:
    assert (await ask(ApiKey(ok, "secret"), path, method="GET")).status == status


# The limit of bodies


@pytest.mark.parametrize("body", [(b"1234567",), (b"1234", b"567"), (b"",)])
async def test_a_body_within_the_limit_arrives_whole(body: tuple[bytes, ...]) -> None:
    assert (await ask(BodyLimit(echo, 7, Budget(1000)), body=body)).sent[1]["body"] == b"".join(body)


async def test_a_body_that_says_it_is_larger_is_refused_unread() -> None:
    answer = await ask(BodyLimit(ok, 7, Budget(1000)), content_length="8")
    assert (answer.status, answer.error["code"]) == (413, "payload_too_large")
    assert "7 bytes" in answer.error["message"]


async def test_a_body_in_chunks_is_refused_when_it_has_become_larger() -> None:
    answer = await ask(BodyLimit(echo, 7, Budget(1000)), body=(b"1234", b"5678", b"9"))
    assert (answer.status, b"7 bytes" in answer.sent[1]["body"]) == (413, True)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/files/0/a.png"), ("POST", "/upload")])
async def test_uploads_have_a_limit_of_their_own(method: str, path: str) -> None:
    app = BodyLimit(echo, 4, Budget(1000), upload_paths=["/upload"])
    assert (await ask(app, path, method=method, body=(b"12345",))).status == 200


async def test_what_completes_an_upload_is_limited() -> None:
    """It is read into memory, and needs no key."""
    app = BodyLimit(echo, 4, Budget(1000))
    assert (await ask(app, "/files/0/a.png/multipart/1/complete", body=(b"12345",))).status == 413


@pytest.mark.parametrize("length", ["", "-8", "many", "7"])
async def test_a_length_that_says_nothing_is_not_relied_on(length: str) -> None:
    assert (await ask(BodyLimit(echo, 7, Budget(1000)), body=(b"12345678",), content_length=length)).status == 413


async def test_what_has_come_of_a_body_counts_and_is_given_back() -> None:
    budget = Budget(200_000)
    used: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(2):
            await receive()
            used.append(budget.used)
        await ok(scope, receive, send)

    await ask(BodyLimit(app, 100_000, budget), body=(b"a" * 20_000, b"b" * 30_000), content_length="90000")
    assert (used, budget.used) == ([20_000, 50_000], 0)


async def test_a_small_body_is_not_counted() -> None:
    assert (await ask(BodyLimit(echo, 100_000, Budget(2)), body=(b"a" * 10_000,))).status == 200


async def test_a_body_for_which_nothing_is_left_is_refused_for_now() -> None:
    budget = Budget(100_000)
    for _ in range(2):
        budget.share("other", "request").take(25_000)
    budget.share("another", "request").take(40_000)
    answer = await ask(BodyLimit(echo, 100_000, budget), body=(b"a" * 10_000, b"b" * 10_000))
    assert (answer.status, answer.headers["retry-after"], budget.used) == (503, "5", 90_000)


async def test_what_an_app_that_fails_has_read_is_given_back() -> None:
    budget = Budget(200_000)

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise ValueError

    with pytest.raises(ValueError):
        await ask(BodyLimit(fails, 100_000, budget), body=(b"a" * 20_000,))
    assert budget.used == 0


# Exceptions that nothing handled


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise KeyError("/secret/path")


async def test_an_exception_is_answered_in_the_one_shape_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "streamapp"):
        answer = await ask(UnhandledErrors(fail), "/stream")
    assert (answer.status, answer.error["code"]) == (500, "endpoint_failed")
    assert "/secret/path" not in answer.error["message"]
    assert (caplog.messages, caplog.records[0].exc_info is None) == (["POST /stream failed"], False)


async def test_a_path_begins_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    await ask(UnhandledErrors(fail), "/a\nb")
    assert caplog.messages == ["POST /a%0Ab failed"]


async def test_how_much_is_told_is_for_the_caller_to_say(caplog: pytest.LogCaptureFixture) -> None:
    app = UnhandledErrors(fail, lambda error: describe(error, debug=True))
    assert "/secret/path" in (await ask(app)).error["message"]


@pytest.mark.parametrize("handler_fails", [True, False])
async def test_the_apps_own_handler_of_any_exception_answers_first(
    handler_fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request, error: Exception) -> Response:
        return PlainTextResponse(type(error).__name__, 418) if not handler_fails else fail_again()

    def fail_again() -> Response:
        raise KeyError("again")

    api = FastAPI(exception_handlers={Exception: handler})
    api.state.own_handlers = frozenset()

    async def in_app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = api
        await fail(scope, receive, send)

    answer = await ask(UnhandledErrors(in_app))
    assert answer.status == (500 if handler_fails else 418)
    assert any("the exception handler" in message for message in caplog.messages) == handler_fails


async def test_an_exception_after_the_start_goes_on_to_the_server() -> None:
    async def starts(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        raise KeyError("late")

    with pytest.raises(KeyError):
        await ask(UnhandledErrors(starts))


async def of_a_socket(raised: Exception, *, is_accepted: bool) -> list[Message]:
    """Return what is sent of a WebSocket whose app raises."""

    async def socket(scope: Scope, receive: Receive, send: Send) -> None:
        if is_accepted:
            await send({"type": "websocket.accept"})
        raise raised

    return (await ask(UnhandledErrors(socket), kind="websocket")).sent


async def test_a_websocket_whose_app_fails_is_closed_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    _, closed = await of_a_socket(KeyError("/secret"), is_accepted=True)
    assert (closed["type"], closed["code"], "KeyError" in closed["reason"]) == ("websocket.close", 1011, True)
    (refused,) = await of_a_socket(KeyError("/secret"), is_accepted=False)
    assert (refused["type"], refused["code"]) == ("websocket.close", 1008)
    assert caplog.messages == ["the WebSocket /stream failed"] * 2


@pytest.mark.parametrize("error", [WebSocketDisconnect(1006), WebSocketDisconnected("behind the end")])
async def test_that_a_client_has_left_its_websocket_is_no_error(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    assert await of_a_socket(error, is_accepted=True) == [{"type": "websocket.accept"}]
    assert caplog.messages == []


async def test_a_websocket_that_is_over_is_closed_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise KeyError("late")

    async def send(message: Message) -> None:
        if message["type"] == "websocket.close":
            raise ConnectionAbortedError("over")

    scope: Scope = {"type": "websocket", "path": "/x", "query_string": b"", "headers": []}
    await UnhandledErrors(fails)(scope, None, send)  # type: ignore[arg-type]
    assert caplog.messages == ["the WebSocket /x failed"]


async def test_an_answer_that_comes_when_the_websocket_is_open_closes_it() -> None:
    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await PlainTextResponse("no", 404)(scope, receive, send)

    sent = (await ask(UnhandledErrors(late), kind="websocket")).sent
    assert sent[1:] == [{"type": "websocket.close", "code": 4404, "reason": "Not Found"}]


async def test_an_answer_to_a_handshake_passes() -> None:
    sent = (await ask(UnhandledErrors(PlainTextResponse("no", 404)), kind="websocket")).sent
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]


# All that stands around a server


def test_the_key_guards_every_route_but_health() -> None:
    with serving(Kinds, api_key="secret") as client:
        guarded = [
            ("GET", p) for p in ("/ready", "/metrics", "/openapi.json", "/docsx", "/jobs/x", "/generator", "/no")
        ]
        for method, path in [*guarded, ("POST", "/value"), ("POST", "/jobs/x/cancel")]:
            assert shape(client.request(method, path)) == (401, "unauthorized")
        assert client.get("/health").status_code == 200
        for scheme in ("Key", "Bearer"):
            assert client.post("/value", headers={"Authorization": f"{scheme} secret"}).status_code == 200
        assert client.get("/generator?_token=secret").status_code == 200
        assert client.post("/value", headers={"Authorization": "Key wrong"}).status_code == 401


def test_a_preflight_needs_no_key() -> None:
    with serving(Kinds, cors_origins=["https://a.example"], api_key="secret") as client:
        headers = {
            "Origin": "https://a.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,streamapp-resume",
        }
        assert client.options("/value", headers=headers).status_code == 200


@pytest.mark.parametrize(("origins", "is_allowed"), [(["https://a.example"], True), (["*"], False)])
def test_pages_that_were_named_one_by_one_may_send_credentials(origins: list[str], is_allowed: bool) -> None:
    page = {"Origin": "https://a.example", "Sec-Fetch-Site": "cross-site"}
    with serving(Kinds, cors_origins=origins) as client:
        preflight = client.options("/value", headers={**page, "Access-Control-Request-Method": "POST"})
        answers = [preflight, client.get("/generator", headers=page), client.post("/no", headers=page)]
    for answer in answers:
        assert ("access-control-allow-credentials" in answer.headers) == is_allowed
        assert answer.headers["access-control-allow-origin"] == (origins[0])


def test_other_origins_are_closed_out_by_default(kinds: TestClient) -> None:
    answer = kinds.post("/value", headers={"Origin": "https://a.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert shape(kinds.post("/value", headers={"Sec-Fetch-Site": "cross-site"})) == (403, "cross_site")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/value", 200), ("GET", "/no", 404), ("POST", "/unencodable", 401)]
)
def test_named_origins_may_read_answers_and_errors(method: str, path: str, status: int) -> None:
    key = {"Authorization": "Key secret"} if status != 401 else {}
    with serving(Kinds, cors_origins=["https://a.example"], api_key="secret") as client:
        headers = {"Origin": "https://a.example", "Sec-Fetch-Site": "cross-site", **key}
        answer = client.request(method, path, headers=headers)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, "https://a.example")
    assert "x-fal-request-id" in answer.headers["access-control-expose-headers"].lower()  # of fal's face
    assert "x-streamapp-job-id" in answer.headers["access-control-expose-headers"].lower()


def test_unhandled_errors_and_large_bodies_are_readable_for_named_origins() -> None:
    with serving(Kinds, cors_origins=["*"], max_body_bytes=10) as client:
        answer = client.post("/value", content=b"x" * 20, headers={"Origin": "https://a.example"})
    assert (shape(answer), answer.headers["access-control-allow-origin"]) == ((413, "payload_too_large"), "*")


def test_an_exception_outside_of_endpoints_is_no_bare_500() -> None:
    def broken() -> None:
        raise KeyError("/secret/path")

    class Dependent(streamapp.App):
        @streamapp.endpoint("/x")
        def x(self, broken: None = Depends(broken)) -> None: ...

    with serving(Dependent) as client:
        answer = client.post("/x")
    assert shape(answer) == (500, "endpoint_failed")
    assert "/secret" not in answer.text
