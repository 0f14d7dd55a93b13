"""Answer for what endpoints raise as the app says: by exception handlers registered on the FastAPI of `compile_app`.

What an endpoint raises ends its job, in another thread perhaps, where no handler of FastAPI's would hear of it. So the
answer that waits for the job asks here. The server's own handlers are for what comes of requests: an endpoint's errors
have been described already.
"""

import inspect
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.utils import is_body_allowed_for_status_code
from pydantic_core import PydanticSerializationError, to_json
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import InvalidInput
from ..text import all_whole

_MAX_ECHO = 200
_MAX_ERRORS = 100
_NO_UPLOAD = "Value error, Expected UploadFile, received: "  # FastAPI's words for what JSON gives
_A_FORMS_FILE = "expected a file in a form, multipart/form-data: curl -F name=@path"


async def handled(request: Request, raised: Exception) -> Response | None:
    """Return what the app's own handler answers, or what an `HTTPException` is that is no error; None for others.

    Raises:
        Exception: whatever the handler raises.
    """
    api = request.scope.get("app")
    handler = None if api is None else _handler_of(api, raised)
    if handler is None:
        return plain_answer(raised)
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
        answer = await handler(request, raised)
    else:
        answer = await run_in_threadpool(handler, request, raised)
    assert answer is None or isinstance(answer, Response), f"{handler!r} returned {answer!r}, which is no Response"
    return answer


def plain_answer(raised: Exception) -> Response | None:
    """Return the answer that an `HTTPException` is, as FastAPI does, where it is no error: a redirect, 204, 304."""
    if not isinstance(raised, HTTPException) or not 200 <= raised.status_code < 400:
        return None
    if not is_body_allowed_for_status_code(raised.status_code):
        return Response(None, raised.status_code, raised.headers)
    return Response(told_as_json({"detail": raised.detail}), raised.status_code, raised.headers, "application/json")


def invalid_input(error: RequestValidationError) -> InvalidInput:
    """Return what is told of an input that is not what an endpoint takes: FastAPI's list, each entry kept short."""
    errors = [_shorten(e) for e in error.errors()[:_MAX_ERRORS]]
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"])
    return InvalidInput(f"{where}: {first['msg']}" if where else first["msg"], detail=errors)


def _shorten(error: dict[str, Any]) -> dict[str, Any]:
    """Keep short what an error echoes of the input: values, names and messages can be megabytes."""
    context = {key: _echo(value) for key, value in error.get("ctx", {}).items()}
    message = _A_FORMS_FILE if error["msg"].startswith(_NO_UPLOAD) else _echo(error["msg"])
    short = {**error, "loc": [_echo(part) for part in error["loc"]], "msg": message}
    return {**short, "input": _echo(error.get("input")), **({"ctx": context} if context else {})}


def _echo(value: Any) -> Any:
    match value:
        case bool() | int() | float() | None:
            return value
        case bytes() | bytearray():
            return f"<binary {len(value)} bytes>"
        case dict() | list():
            return f"<{type(value).__name__} of {len(value)} items>"
    text = str(value)
    text = text if len(text) <= _MAX_ECHO else text[:_MAX_ECHO] + "..."
    return text.encode(errors="backslashreplace").decode()  # a form's charset can yield what UTF-8 cannot write


def told_as_json(body: Any) -> bytes:
    """Return what is told of an exception as JSON; its detail may be anything."""
    try:
        return _to_json(body)
    except PydanticSerializationError:  # text that is no Unicode
        return _to_json(all_whole(body))


def _to_json(body: Any) -> bytes:
    return to_json(body, inf_nan_mode="null", bytes_mode="base64", fallback=str)


def _handler_of(api: FastAPI, raised: Exception) -> Callable[[Request, Exception], Any] | None:
    """Find the handler of an exception, by its status, else by the nearest of its classes, as Starlette does."""
    handlers = api.exception_handlers
    by_status = handlers.get(raised.status_code) if isinstance(raised, HTTPException) else None
    if by_status is not None and by_status is not handlers.get(500):  # which is for what nobody has handled
        return by_status
    found = next((handlers[cls] for cls in type(raised).__mro__ if cls in handlers), handlers.get(500))
    return None if found in api.state.own_handlers else found
