"""Define every error that the client raises, and read what a server said into them.

The tree, with the codes that each class stands for (`error.code` tells them apart):

    ClientError
    ├── NotSent               a URL, path, key or proxy is none, or another server's; an extra is missing; nobody reads
    │                         a session's events; a ValueError as well
    ├── ConnectionFailed      no answer came                                            retryable
    ├── StreamInterrupted     the stream was cut, or fell silent, before its end        retryable
    ├── SessionEnded          the session takes no more inputs, or has no more outputs
    ├── UnexpectedAnswer      an answer came that is no event stream, no JSON, too long, or leads elsewhere
    ├── NoImage               the event has no image, or none that can be opened
    └── ApiError              the server said so; also any code that is not listed here
        ├── MalformedRequest  400 malformed_request
        ├── Unauthorized      401 unauthorized; 403
        ├── NotFound          404 not_found, job_not_found
        ├── JobUnfinished     409 job_unfinished
        ├── PayloadTooLarge   413 payload_too_large
        ├── InvalidInput      422 invalid_input; `detail` lists the wrong fields
        │                         download_timeout: a URL in the input                  retryable
        ├── QueueFull         429 queue_full; `retry_after`                             retryable
        ├── Cancelled         499 cancelled; somebody else cancelled the job
        ├── EndpointFailed    500 endpoint_failed, not_encodable, internal_error
        ├── Unavailable       503 unavailable, draining, out_of_memory, worker_stuck    retryable
        │                         setup_failed; 502 of a proxy                          as the server says
        └── DeadlineExceeded  504 deadline_exceeded, queue_timeout                      as the server says

All functions here are pure; the code of an answer decides, its status where the code is unknown.
"""

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_SHOWN_CHARACTERS = 200
# Longer than any server means it, and short enough for `time.sleep`.
_LONGEST_RETRY_AFTER_S = 3600.0


class ClientError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: one sentence.
        code: the server's word for what went wrong, or ours.
        retryable: whether the same request can succeed later.
        detail: what stood under `detail` in the answer; for InvalidInput a list of the wrong fields.
        status_code: the HTTP status; None when the error came as an event, or from this side.
        retry_after: seconds to wait before the next try, if the server said so.
        job_id: the job, once it has one.
        data: the whole body of the answer, or the whole data of the event.
    """

    code: str = "client_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
        detail: Any = None,
        status_code: int | None = None,
        retry_after: float | None = None,
        job_id: str | None = None,
        data: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.code if code is None else code
        self.retryable = self.retryable if retryable is None else retryable
        self.detail = detail
        self.status_code = status_code
        self.retry_after = retry_after
        self.job_id = job_id
        self.data = data

    @property
    def traceback(self) -> str | None:
        """Return where the app raised it, if the server runs with `--debug`, and tells."""
        told = self.data.get("error") if isinstance(self.data, dict) else None
        trace = told.get("traceback") if isinstance(told, dict) else None
        return trace if isinstance(trace, str) else None


class NotSent(ClientError, ValueError):
    """Say why nothing was sent: a URL, path, key or proxy is none, or another server's."""

    code = "not_sent"


class ConnectionFailed(ClientError):
    """Say that no answer came: refused, unreachable, too slow."""

    code = "connection_failed"
    retryable = True


class StreamInterrupted(ClientError):
    """Say that the stream was cut, or fell silent, before it said how the job ended."""

    code = "stream_interrupted"
    retryable = True


class SessionEnded(ClientError):
    """Say that a session has no more outputs, or takes no more inputs: it has ended, was finished, or was left."""

    code = "session_ended"


class UnexpectedAnswer(ClientError):
    """Say that what came is not what this call reads."""

    code = "unexpected_answer"


class NoImage(ClientError):
    """Say that an event has no image, or none that can be opened."""

    code = "no_image"


class ApiError(ClientError):
    """Carry what the server said went wrong."""

    code = "refused"


class MalformedRequest(ApiError):
    """Say that the server could not read the request."""

    code = "malformed_request"


class Unauthorized(ApiError):
    """Say that the API key is missing or wrong."""

    code = "unauthorized"


class NotFound(ApiError):
    """Say that there is nothing at this path, or no such job."""

    code = "not_found"


class PayloadTooLarge(ApiError):
    """Say that the input is over the server's limit."""

    code = "payload_too_large"


class InvalidInput(ApiError):
    """Say which fields of the input are wrong: `detail` is FastAPI's list."""

    code = "invalid_input"


class QueueFull(ApiError):
    """Say that the queue is full; `retry_after` tells when to come back."""

    code = "queue_full"
    retryable = True


class JobUnfinished(ApiError):
    """Say that the job has no result yet."""

    code = "job_unfinished"


class Cancelled(ApiError):
    """Say that somebody else cancelled the job."""

    code = "cancelled"


class EndpointFailed(ApiError):
    """Say that the endpoint raised, or returned what cannot be sent."""

    code = "endpoint_failed"


class Unavailable(ApiError):
    """Say that the server takes no jobs now: it drains, did not set up, or is out of memory."""

    code = "unavailable"
    retryable = True


class DeadlineExceeded(ApiError):
    """Say that the job ran, or waited, longer than it may."""

    code = "deadline_exceeded"


_BY_CODE: dict[str | None, type[ApiError]] = {
    "malformed_request": MalformedRequest,
    "unauthorized": Unauthorized,
    "not_found": NotFound,
    "job_not_found": NotFound,
    "payload_too_large": PayloadTooLarge,
    "invalid_input": InvalidInput,
    "download_timeout": InvalidInput,
    "queue_full": QueueFull,
    "job_unfinished": JobUnfinished,
    "cancelled": Cancelled,
    "endpoint_failed": EndpointFailed,
    "not_encodable": EndpointFailed,
    "internal_error": EndpointFailed,
    "unavailable": Unavailable,
    "draining": Unavailable,
    "setup_failed": Unavailable,
    "out_of_memory": Unavailable,
    "worker_stuck": Unavailable,
    "deadline_exceeded": DeadlineExceeded,
    "queue_timeout": DeadlineExceeded,
}

_BY_STATUS: dict[int | None, type[ApiError]] = {
    400: MalformedRequest,
    401: Unauthorized,
    403: Unauthorized,
    404: NotFound,
    409: JobUnfinished,
    413: PayloadTooLarge,
    422: InvalidInput,
    429: QueueFull,
    499: Cancelled,
    500: EndpointFailed,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,  # a proxy's: the server of the job always says what has passed
}


def error_from_response(response: "httpx.Response") -> ApiError:
    """Read an answer with an error status, whose body has been read; any server's, any proxy's."""
    text = response.content.decode("utf-8", "replace")  # not by the charset that the answer names
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = text
    wait = response.headers.get("Retry-After", "")
    return _api_error(
        body,
        fallback=f"HTTP {response.status_code} {response.reason_phrase}: {text[:_SHOWN_CHARACTERS]}",
        status_code=response.status_code,
        # Else it is a date: only proxies send it.
        retry_after=min(float(wait), _LONGEST_RETRY_AFTER_S) if wait.isdecimal() else None,
        job_id=response.headers.get("X-Streamapp-Job-Id"),
    )


def error_from_event(name: str, data: Any, job_id: str | None) -> ApiError:
    """Read the data of an `error` or `cancelled` event."""
    fallback = f"The job ended with the event {name!r}: {str(data)[:_SHOWN_CHARACTERS]}"
    return _api_error(data, fallback=fallback, status_code=None, job_id=job_id)


def _api_error(body: Any, *, fallback: str, status_code: int | None = None, **said: Any) -> ApiError:
    code, message, retryable = _what_was_said(body)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status_code, ApiError)
    return kind(
        message or fallback,
        code=code,
        retryable=retryable,
        detail=body.get("detail") if isinstance(body, dict) else None,
        status_code=status_code,
        data=body,
        **said,
    )


def _what_was_said(body: Any) -> tuple[str | None, str | None, bool | None]:
    """Pick (code, message, retryable) out of a body: streamapp's form, FastAPI's and fal's, or none of them."""
    match body:
        case {"error": {"code": str(code), "message": str(message)}}:
            return code, message, body["error"].get("retryable")
        case {"detail": str(message), "error_type": str(code)}:
            return code, message, None
        case {"detail": str(message)} | {"error": str(message)} | {"error": {"message": str(message)}}:
            return None, message, None
    return None, None, None
