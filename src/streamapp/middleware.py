"""Guard and label requests: plain ASGI classes, one concern each.

No `@app.middleware("http")`: Starlette's `BaseHTTPMiddleware` halves the throughput of streams and turns a stream
that failed into one that ended well.
"""

import hmac
import logging
import uuid
from collections.abc import Callable, Collection
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .errors import ErrorInfo, Unauthorized, describe
from .response import ErrorResponse

EXPOSED_HEADERS = ("X-Streamapp-Job-Id", "x-fal-request-id", "Location", "Preference-Applied", "Retry-After")
_OPEN_PATHS = frozenset({"/health"})

logger = logging.getLogger("streamapp")


class RequestId:
    """Put `x-fal-request-id` on every response: the job's id where there is a job, else a fresh one.

    fal's clients retry requests whose answer lacks it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Label the response."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)

        async def labelled(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers.setdefault("x-fal-request-id", headers.get("X-Streamapp-Job-Id") or uuid.uuid4().hex)
            await send(message)

        await self.app(scope, receive, labelled)


class ApiKey:
    """Refuse requests without the key, on every path but `/health`.

    The key comes as `Authorization: Key k` or `Bearer k`, or as the query parameter `_token` where headers cannot
    be set (EventSource, WebSocket in a browser).
    """

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] == "lifespan" or scope["path"] in _OPEN_PATHS or self._is_allowed(scope):
            return await self.app(scope, receive, send)
        error = Unauthorized("the API key is missing or wrong; send the header Authorization: Key <key>")
        await _refuse(describe(error), {"WWW-Authenticate": "Key"}, scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() not in ("key", "bearer"):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("_token", [""])[-1]
        return hmac.compare_digest(given.strip().encode(), self._key)


class CrossSite:
    """Refuse what web pages of other sites send without being named in `cors_origins`.

    A browser lets any page send simple requests to a server on the same machine; it marks them with
    `Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/). Following a link is allowed.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self.app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 403."""
        if scope["type"] == "lifespan" or self._is_allowed(Headers(scope=scope)):
            return await self.app(scope, receive, send)
        message = "requests from other web sites are refused; name the page's origin in STREAMAPP_CORS_ORIGINS"
        await _refuse(ErrorInfo(403, "cross_site", message), {}, scope, receive, send)

    def _is_allowed(self, headers: Headers) -> bool:
        if headers.get("sec-fetch-site") != "cross-site" or headers.get("sec-fetch-mode") == "navigate":
            return True
        return "*" in self._origins or headers.get("origin") in self._origins


class UnhandledErrors:
    """Answer an exception that nothing else handled, with the one error shape.

    Starlette does this outside of CORS, where browsers cannot read the answer. After the response has started,
    the exception goes on, so that the server aborts the connection.
    """

    def __init__(self, app: ASGIApp, describe_error: Callable[[BaseException], ErrorInfo] = describe) -> None:
        self.app = app
        self._describe = describe_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, and answer for it when it raises."""
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
            logger.exception("%s %s failed", scope["method"], scope["path"])
            await ErrorResponse(self._describe(error))(scope, receive, send)


async def _refuse(error: ErrorInfo, headers: dict[str, str], scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
        return
    await ErrorResponse(error, headers)(scope, receive, send)
