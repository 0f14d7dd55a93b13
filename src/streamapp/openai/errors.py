"""Tell errors as OpenAI does, so that its clients raise what they raise there.

Each error has the status that it has here, but that what is wrong in an input is 400. `param` names the field.

Divergence: `x-should-retry` says to OpenAI's clients whether trying again may help, which they would do at any 5xx:
what an endpoint has failed at would be run three times.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..errors import ErrorReport, InvalidInput, ModelNotFound
from ..http.call import path_in
from ..http.handling import told_as_json
from ..http.response import ERROR_ANSWER
from ..jobs.events import encode

SHOULD_RETRY = "x-should-retry"
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_RETRIED = (408, 409, 429)  # and all from 500 on
# What pydantic says of a place besides the fields: where the input was, and the types that it has tried.
_BESIDES = frozenset({"body", "str", "int", "float", "bool", "list", "dict"})
_PART = re.compile(r"[\w.]+")
_FIELD = re.compile(r"([a-z_]+(?:\.\w+)*)[:=\[]")


def body_of(error: ErrorReport) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    status = error.status_code
    type_ = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    message, param = _told_of(error)
    told: dict[str, Any] = {"message": message, "type": type_, "param": param, "code": _code_of(error)}
    match error.detail:
        case {"message": str(), **said}:  # as a server behind this one has told it
            told |= {name: said[name] for name in ("param", "code") if isinstance(said.get(name), str)}
    return {"error": told}


def block_of(error: ErrorReport) -> bytes:
    """Return the block that an error is told by in a stream, after which that breaks off."""
    return b"data: %b\n\n" % encode(body_of(error))


def answer_of(error: ErrorReport, headers: Mapping[str, str]) -> Response:
    """Return the answer that an error is: an `ErrorAnswer`."""
    status = 400 if error.code.startswith(InvalidInput.code) else error.status_code
    told = {**error.response_headers, **headers}
    if "X-Streamapp-Job-Id" in headers:
        told["X-Request-Id"] = headers["X-Streamapp-Job-Id"]
    if status in _RETRIED or status >= 500:
        told[SHOULD_RETRY] = "true" if error.retryable else "false"
    return Response(told_as_json(body_of(error)), status, told, "application/json")


def _code_of(error: ErrorReport) -> str:
    match error.detail:
        case [{"type": "context_length_exceeded"}, *_]:
            return "context_length_exceeded"  # which clients know
    return _CODES.get(error.status_code, error.code)


def _told_of(error: ErrorReport) -> tuple[str, str | None]:
    """Return what is said of an error, and the field that is wrong."""
    if error.code == ModelNotFound.code:
        return error.message, "model"
    if error.code != InvalidInput.code:
        return error.message, None
    match error.detail:
        case [{"loc": [*_], "msg": str()}, *_] as errors:  # as pydantic makes it
            path, said = _furthest(errors)
            named = [str(part) for part in path if part not in _BESIDES]
            param = ".".join(part for part in named if _PART.fullmatch(part))
            return (said, param or None) if said.startswith(param) else (f"{param}: {said}", param)
    begins = _FIELD.match(error.message)
    return error.message, None if begins is None else begins[1]


def _furthest(errors: Sequence[Any]) -> tuple[list[Any], str]:
    """Return where the first thing is wrong, and what; of a value that may have several forms, of the nearest one."""
    error, path = errors[0], [*errors[0]["loc"]]
    if path and path[-1] in _BESIDES:
        place = path[:-1]
        tried = [each for each in errors if isinstance(each, dict) and [*each.get("loc", ())][: len(place)] == place]
        error = max(tried, key=lambda each: len(each["loc"]))
    return [*error["loc"]], error["msg"].partition(" or instance of ")[0]  # of a class, which no client knows


class ErrorsTold:
    """Have the errors of requests for OpenAI's paths told in its shape, also those of the guards.

    Args:
        paths: matches them, whole.
    """

    def __init__(self, app: ASGIApp, paths: re.Pattern[str]) -> None:
        self.app = app
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http" and "/v1" in scope["path"] and self._paths.fullmatch(path_in(scope)):
            scope = {**scope, ERROR_ANSWER: answer_of}
        await self.app(scope, receive, send)
