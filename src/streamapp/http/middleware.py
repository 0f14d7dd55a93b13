"""Guard and label requests: plain ASGI classes, one concern each.

No `@app.middleware("http")`: Starlette's `BaseHTTPMiddleware` halves the throughput of streams and turns a stream
that failed into one that ended well. A guard that lets a request through does so without a coroutine of its own.
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from http import HTTPStatus
from itertools import chain
from urllib.parse import quote, unquote_to_bytes

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected

from ..budget import SHARE, Budget
from ..errors import ErrorReport, MalformedRequest, PayloadTooLarge, StreamAppError, Unauthorized, describe
from ..jobs.job import new_job_id
from ..process.logs import logger
from .call import CALLER, header_in, path_in, payer_in
from .handling import handled
from .response import ErrorResponse
from .tokens import ShownTokens, Tokens

FindPage = Callable[[Request], Awaitable[Response | None]]
EXPOSED_HEADERS = ("X-Streamapp-Job-Id", "Location", "Preference-Applied", "Retry-After", "ETag", "Content-Range")
REQUEST_ID = "streamapp.request_id"
#: in the scope: whether one of fal's clients asks, who reads headers of fal's names
IS_FALS = "streamapp.is_fals"
_FALS_PATHS = ("/run/", "/queue/", "/rest/", "/api/fal/")
#: how fal's clients for Python and for JavaScript are called
FALS_PYTHON, FALS_JAVASCRIPT = b"fal-client/", b"@fal-ai/client/"
# What this server says by fal's names; a header that an app sets itself is its own affair.
_FALS_LABELS = frozenset({b"x-fal-request-id", b"x-fal-error-type", b"x-fal-request-timeout-type"})
_MALFORMED = MalformedRequest.code
_NOT_BILLED = (b"x-fal-billable-units", b"0")
_FALS_NAMES = _FALS_LABELS | {_NOT_BILLED[0]}
_OPEN_PATHS = frozenset({"/health", "/_streamapp/health", "/playground", "/docs"})
# What is there or may be written is known to those who know its URL: an <img> cannot send a key.
FILES = "/files/"
_OPEN_FOLDERS = (FILES, "/playground/", "/docs/")  # the pages have no data in them, and ask for the key themselves
# A body that is no larger is not counted: the bounds of jobs and connections are enough.
_SMALL_BYTES = 16 * 1024
_MAX_OPEN_QUERY = 4096  # there it is an upload's key
_MAX_TOKEN_BYTES = 8192
# What a request without a key can make the loop read. A query may be an input; nothing that is written by hand, nor a
# browser's cookies, comes near the others.
_MAX_PATH_BYTES, _MAX_QUERY_BYTES = 16 * 1024, 256 * 1024
_MAX_FIELDS = 1000  # of a query, as a form may have; and in all headers together: media types, cookies, addresses
_MAX_HEADERS, _MAX_HEADER_BYTES = 200, 32 * 1024


def _fields(*names: str) -> re.Pattern[bytes]:
    """Return what finds fields in a query with `&` before it, whichever of their letters are percent-encoded."""
    spelled = ["".join(f"(?:{re.escape(letter)}|%(?i:{ord(letter):02x}))" for letter in name) for name in names]
    return re.compile(f"&(?:{'|'.join(spelled)})=([^&]*)".encode())


_TOKEN = _fields("_token")


class HeadLimit:
    """Refuse a request whose path, query or headers are so much that reading them would hold up everybody."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let the request through, or answer 400, 414 or 431."""
        if scope["type"] == "lifespan" or (excess := head_excess(scope)) is None:
            return self.app(scope, receive, send)
        scope["query_string"] = b""  # for the server's log: there may be a key in it
        return refuse(excess, {}, scope, receive, send)


def head_excess(scope: Scope) -> ErrorReport | None:
    """Return what is too much of a request's path, query or headers; nothing is parsed for it."""
    query, headers = scope["query_string"], scope["headers"]
    told = b"".join(chain.from_iterable(headers))
    if len(told) + len(query) + len(scope["path"]) < _MAX_FIELDS and len(headers) <= _MAX_HEADERS:
        return None  # which holds for programs' requests
    if len(scope["path"]) > _MAX_PATH_BYTES:
        return ErrorReport(414, _MALFORMED, f"the path is over {_MAX_PATH_BYTES} bytes")
    if len(query) > _MAX_QUERY_BYTES:
        return ErrorReport(414, _MALFORMED, f"the query is over {_MAX_QUERY_BYTES} bytes; send it in a body, by POST")
    if len(headers) > _MAX_HEADERS:
        return ErrorReport(431, _MALFORMED, f"expected at most {_MAX_HEADERS} headers, got {len(headers)}")
    if len(told) > _MAX_HEADER_BYTES:
        message = f"the headers are over {_MAX_HEADER_BYTES} bytes; send fewer, or delete the cookies of this host"
        return ErrorReport(431, _MALFORMED, message)
    if (marks := told.count(b",") + told.count(b";")) > _MAX_FIELDS:
        message = f"expected at most {_MAX_FIELDS} commas and semicolons in the headers, got {marks}"
        return ErrorReport(431, _MALFORMED, message)
    if (ends := query.count(b"&")) >= _MAX_FIELDS:
        message = f"expected at most {_MAX_FIELDS} fields in the query, got {ends + 1}; send them in a body, by POST"
        return ErrorReport(400, _MALFORMED, message)
    return None


class UnloggedToken:
    """Take the key out of the query that the server around the app has for its log; the app's own copy keeps it.

    Args:
        fields: what else opens something, besides `_token`.
    """

    def __init__(self, app: ASGIApp, fields: Collection[str] = ()) -> None:
        self.app = app
        self._secrets = _fields("_token", *fields)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on."""
        query = scope.get("query_string")
        if not query or self._secrets.search(b"&" + query) is None:
            return self.app(scope, receive, send)
        inner = {**scope}
        scope["query_string"] = self._secrets.sub(b"", b"&" + query)[1:]
        return self.app(inner, receive, send)


class RequestId:
    """Give every request an id, which becomes its job's, and put it as `x-fal-request-id` on the request.

    For fal's clients it is on the response as well, beside what else has fal's name: they take an error without it for
    a proxy's. A response about another request's job names that one. Others get none of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Label the response."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request_id = new_job_id()
        headers, names = scope["headers"], dict(scope["headers"])
        is_fals = _is_fals(scope, names)
        if b"x-fal-request-id" in names:
            headers = [pair for pair in headers if pair[0] != b"x-fal-request-id"]
        labels = [*headers, (b"x-fal-request-id", request_id.encode())]
        scope = {**scope, "headers": labels, REQUEST_ID: request_id, IS_FALS: is_fals}

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))  # the response's own stays as it is
                if not is_fals and not _FALS_NAMES.isdisjoint(dict(headers)):
                    headers = [pair for pair in headers if pair[0] not in _FALS_LABELS and pair != _NOT_BILLED]
                if is_fals and header_in(headers, b"x-fal-request-id") is None:
                    job_id = header_in(headers, b"x-streamapp-job-id") or request_id.encode()
                    headers.append((b"x-fal-request-id", job_id))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, labelled)


def _is_fals(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Say whether one of fal's clients asks: by the path, by a header of fal's, or by its name."""
    if path_in(scope).startswith(_FALS_PATHS):
        return True
    if headers.get(b"user-agent", b"").startswith((FALS_PYTHON, FALS_JAVASCRIPT)):
        return True
    return b"\nx-fal-" in b"\n" + b"\n".join(headers)


class ApiKey:
    """Refuse requests without the key, but for `/health`, pages, and files, whose URLs cannot be guessed.

    The key comes as `Authorization: Key k` or `Bearer k`, or alone, as Runpod's documents have it; or as the query
    parameter `_token` where headers cannot be set (EventSource, WebSocket in a browser).

    Args:
        open_pages: paths whose GET needs no key.
        find_page: return the page, of an app's own, that answers a GET or HEAD, None where something else does.
        guarded: paths that need it, `/health` though it be: the app answers there itself.
        own_guards: patterns of whole paths at which a face asks for a secret of its own instead.
        shown_tokens: how faces' clients show what opens an app's sockets instead of the key.
        app_names: the apps that are served.
    """

    def __init__(
        self,
        app: ASGIApp,
        key: str,
        *,
        open_pages: Collection[str] = (),
        find_page: FindPage | None = None,
        guarded: Collection[str] = (),
        own_guards: Collection[re.Pattern[str]] = (),
        shown_tokens: Collection[ShownTokens] = (),
        app_names: Collection[str] = (),
    ) -> None:
        self.app = app
        self._key = key.encode()
        self._tokens = Tokens(key)
        self._shown_tokens = [(shown, _fields(shown.field)) for shown in shown_tokens]
        self._app_names = frozenset(app_names)
        self._open_pages = frozenset(open_pages)
        self._find_page = find_page
        self._open_paths = _OPEN_PATHS - frozenset(guarded)
        self._own_guards = tuple(own_guards)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Let the request through, or answer 401."""
        if scope["type"] == "lifespan" or self._is_open(scope) or self._is_allowed(scope) or self._is_faces(scope):
            return self.app(scope, receive, send)
        if scope["type"] == "websocket" and (answer := self._by_token(scope)) is not None:
            return answer(scope, receive, send)
        if self._find_page is not None and scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            return self._show(self._find_page, scope, receive, send)
        return self._refuse(scope, receive, send)

    async def _show(self, find_page: FindPage, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a page, here: what has come without a key reaches nothing behind this."""
        page = await find_page(Request(scope, receive)) if len(scope["query_string"]) <= _MAX_OPEN_QUERY else None
        if page is None:
            return await self._refuse(scope, receive, send)
        await page(scope, receive, send)

    def _refuse(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return refuse(describe(self._refusal(scope)), {"WWW-Authenticate": "Key"}, scope, receive, send)

    def _refusal(self, scope: Scope) -> Unauthorized:
        shown = any(_value_in(scope["query_string"], field) for _, field in self._shown_tokens)
        if shown and scope["type"] == "websocket":
            return Unauthorized("the token opens nothing here: it is for another app, or made with another key")
        return Unauthorized("the API key is missing or wrong; send the header Authorization: Key <key>")

    def _is_open(self, scope: Scope) -> bool:
        path = path_in(scope)
        is_page = scope.get("method") == "GET" and path in self._open_pages
        is_open = is_page or path in self._open_paths or path.startswith(_OPEN_FOLDERS)
        return is_open and scope["type"] == "http" and len(scope["query_string"]) <= _MAX_OPEN_QUERY

    def _is_faces(self, scope: Scope) -> bool:
        path = path_in(scope)
        return scope["type"] == "http" and any(guard.fullmatch(path) for guard in self._own_guards)

    def _is_allowed(self, scope: Scope) -> bool:
        told = header_in(scope["headers"], b"authorization") or b""
        scheme, _, header = told.partition(b" ")
        if scheme.lower() in (b"key", b"bearer"):
            return hmac.compare_digest(header.strip(), self._key)
        is_alone = hmac.compare_digest(told, self._key)
        return is_alone or hmac.compare_digest(_value_in(scope["query_string"], _TOKEN), self._key)

    def _by_token(self, scope: Scope) -> ASGIApp | None:
        """Return what answers a handshake that shows a token of ours; None where it opens nothing here."""
        path = path_in(scope)
        for shown, field in self._shown_tokens:
            app = shown.app_at(path)
            token = self._tokens.read(_value_in(scope["query_string"], field)) if app in self._app_names else None
            if token is not None and app in token.apps:
                scope.setdefault(CALLER, token.caller)
                return shown.answer_expired if token.has_expired else self.app
        return None


def _value_in(query: bytes, field: re.Pattern[bytes]) -> bytes:
    """Return a field's value, the last one; nothing else of it is parsed: anybody can send any amount."""
    values: list[bytes] = field.findall(b"&" + query) or [b""]
    return unquote_to_bytes(values[-1][:_MAX_TOKEN_BYTES].replace(b"+", b" ")).strip()


class BodyLimit:
    """Refuse a request body over the limit with 413, also one that comes in chunks without a length.

    What comes is taken from the budget of all requests, 503 when that is used up, and given back when the request is
    answered, unless a job holds it as well.

    Uploads are left to the file store, which writes them to the disk as they come.

    Divergence: not FastAPI's `max_body_size`, whose answer comes from outside of all other middleware: plain text,
    without a request id, without CORS.

    Args:
        budget: for the inputs of all requests.
        upload_paths: where uploads arrive, besides the PUTs below `/files/`.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, budget: Budget, *, upload_paths: Collection[str] = ()) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._max_uncounted = min(max_bytes, _SMALL_BYTES)
        self._budget = budget
        self._upload_paths = frozenset(upload_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, as long as its body is not too large."""
        if scope["type"] != "http" or self._is_upload(scope):
            return await self.app(scope, receive, send)
        length = header_in(scope["headers"], b"content-length") or b""
        if length.isdigit() and int(length) > self._max_bytes:
            return await refuse(describe(self._too_large()), {}, scope, receive, send)
        size = 0
        share = scope[SHARE] = self._budget.share(payer_in(scope), self)

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            arrived = len(message.get("body", b""))
            size += arrived
            if size > self._max_uncounted:
                try:
                    if size > self._max_bytes:
                        raise self._too_large()
                    share.take(arrived if share.size else size)
                except StreamAppError as error:
                    told = describe(error)
                    # The one kind that FastAPI lets through.
                    raise HTTPException(told.status_code, told.message, told.response_headers) from None
            return message

        try:
            await self.app(scope, limited, send)
        finally:
            share.let_go(self)

    def _is_upload(self, scope: Scope) -> bool:
        path = path_in(scope)
        return path in self._upload_paths or (scope["method"] == "PUT" and path.startswith(FILES))

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"the body is larger than {self._max_bytes} bytes (STREAMAPP_MAX_BODY_BYTES)")


class UnhandledErrors:
    """Answer an exception that nothing else handled, with the one error shape.

    Starlette does this outside of CORS, where browsers cannot read the answer. After the response has started,
    the exception goes on, so that the server aborts the connection.

    A WebSocket that is open is closed: with 1011, or where an `HTTPException` came too late to be an answer with 4000
    and its status. That its client has left is no error.
    """

    def __init__(self, app: ASGIApp, describe_error: Callable[[BaseException], ErrorReport] = describe) -> None:
        self.app = app
        self._describe = describe_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, and answer for it when it raises."""
        if scope["type"] == "websocket":
            return await self._watch(scope, receive, send)
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        is_started = False

        async def noted(message: Message) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if is_started:
                raise
            logger.exception("%s %s failed", scope["method"], quote(scope["path"]))
            answer = await self._answer(Request(scope, receive), error)
            await answer(scope, receive, send)

    async def _watch(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_accepted = False

        async def noted(message: Message) -> None:
            nonlocal is_accepted
            if message["type"] == "websocket.accept":
                is_accepted = True
            elif is_accepted and message["type"] == "websocket.http.response.start":
                status = message["status"]
                message = {"type": "websocket.close", "code": 4000 + status, "reason": HTTPStatus(status).phrase}
            elif is_accepted and message["type"] == "websocket.http.response.body":
                return
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except Exception as error:
            if is_accepted and isinstance(error, WebSocketDisconnect | WebSocketDisconnected):
                return
            logger.exception("the WebSocket %s failed", quote(scope["path"]))
            report = self._describe(error)
            if is_accepted:
                with suppress(OSError, RuntimeError):  # it is over, or under a foreign server said to be
                    await send({"type": "websocket.close", "code": 1011, "reason": report.message})
            else:
                await refuse(report, {}, scope, receive, send)

    async def _answer(self, request: Request, error: Exception) -> Response:
        """Answer as the app's handler of any `Exception`, which Starlette would call further out; else as we do."""
        try:
            answer = await handled(request, error)
        except (Exception, SystemExit) as failure:  # the app's own code
            logger.exception("the exception handler for %s failed", type(error).__name__)
            return ErrorResponse(self._describe(failure))
        return answer or ErrorResponse(self._describe(error))


async def refuse(error: ErrorReport, headers: dict[str, str], scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an error, also the handshake of a WebSocket, where the server around can do so."""
    if scope["type"] == "websocket" and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
        return
    await ErrorResponse(error, headers)(scope, receive, send)
