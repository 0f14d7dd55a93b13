"""Define every error that a user of streamapp can meet, and the one shape in which it travels.

The tree, with the status and the code that each class carries:

    StreamAppError                500 internal_error
    ├── DefinitionError           -   an app or a setting is written wrongly; raised at import or compile
    ├── InvalidInput              422 invalid_input
    │   └── DownloadTimeout       422 download_timeout     retryable
    ├── MalformedRequest          400 malformed_request
    ├── Unauthorized              401 unauthorized
    ├── NotFound                  404 not_found
    │   └── ModelNotFound         404 model_not_found
    ├── JobNotFound               404 job_not_found
    ├── NotAcceptable             406 not_acceptable
    ├── RequestTimeout            408 request_timeout      retryable
    ├── JobUnfinished             409 job_unfinished
    ├── PayloadTooLarge           413 payload_too_large
    ├── JobCancelled              499 cancelled
    ├── StorageFull               507 storage_full         retryable
    ├── QueueFull                 429 queue_full           retryable
    ├── Unavailable               503 unavailable          retryable
    │   ├── Draining              503 draining             retryable
    │   ├── SetupFailed           503 setup_failed
    │   ├── OutOfMemory           503 out_of_memory        retryable
    │   ├── GpuFailed             503 gpu_failed           retryable
    │   └── WorkerStuck           503 worker_stuck         retryable
    ├── DeadlineExceeded          504 deadline_exceeded
    ├── QueueTimeout              504 queue_timeout        retryable
    ├── UpstreamFailed            502 upstream_failed      retryable
    ├── EndpointFailed            500 endpoint_failed
    │   └── HandlerError          500 endpoint_failed
    └── NotEncodable              500 not_encodable
    Cancelled (BaseException)     raised in user code when its job was cancelled
    InputsEnded (Exception)       raised in a session's code that asks for an input when no more will come

`describe` turns any exception into an `ErrorReport`, and `ErrorReport.body` is the one error shape of every
protocol: `{"error": {"code", "message", "retryable"}, "detail", "error_type"}`; in debug `error` has `traceback`, too.
"""

import itertools
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from starlette.exceptions import HTTPException

from .text import whole

_NOT_BILLED = {"x-fal-billable-units": "0"}


class StreamAppError(Exception):
    """Base of all errors; what it says is meant for the caller.

    Args:
        message: one sentence: where, what came, what to write instead.
        detail: what stands under `detail` in the body; the message when None.
        retry_after_s: when to come back, sent as `Retry-After`; the class's own when None.
    """

    status_code: int = 500
    code: str = "internal_error"
    retryable: bool = False
    default_retry_after_s: ClassVar[int | None] = None
    headers: Mapping[str, str] = {}  # sent with it
    trace: str | None = None  # where the app's code raised what this tells of; told only in debug

    def __init__(self, message: str, *, detail: Any = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = message if detail is None else detail
        self.retry_after_s = self.default_retry_after_s if retry_after_s is None else retry_after_s


class DefinitionError(StreamAppError):
    """Say that an app, or a setting, is written wrongly, and how to write it."""

    code = "definition_error"


class InvalidInput(StreamAppError):
    """Say which part of the input is not what the endpoint takes."""

    status_code = 422
    code = "invalid_input"
    headers: Mapping[str, str] = _NOT_BILLED


class DownloadTimeout(InvalidInput):
    """Say that what an input names by its URL did not come in time: its host may answer later."""

    code = "download_timeout"
    retryable = True


class MalformedRequest(StreamAppError):
    """Say that the request itself cannot be read: broken JSON, a foreign event id."""

    status_code = 400
    code = "malformed_request"


class Unauthorized(StreamAppError):
    """Say that the API key is missing or wrong."""

    status_code = 401
    code = "unauthorized"


class NotFound(StreamAppError):
    """Say that nothing is served at this path."""

    status_code = 404
    code = "not_found"
    headers: Mapping[str, str] = _NOT_BILLED


class ModelNotFound(NotFound):
    """Say that no app here has a model of that name."""

    code = "model_not_found"


class JobNotFound(StreamAppError):
    """Say that the job never was, or is no longer kept."""

    status_code = 404
    code = "job_not_found"


class NotAcceptable(StreamAppError):
    """Say that the result has no form that the request takes."""

    status_code = 406
    code = "not_acceptable"


class RequestTimeout(StreamAppError):
    """Say that the request did not come whole in time."""

    status_code = 408
    code = "request_timeout"
    retryable = True


class JobUnfinished(StreamAppError):
    """Say that the result was asked for before there is one."""

    status_code = 409
    code = "job_unfinished"


class PayloadTooLarge(StreamAppError):
    """Say that the request body is over the limit."""

    status_code = 413
    code = "payload_too_large"


class JobCancelled(StreamAppError):
    """Tell a waiting caller that the job was cancelled."""

    status_code = 499  # nginx' "client closed request"; fal answers a cancelled request with it
    code = "cancelled"


class StorageFull(StreamAppError):
    """Say that the file store has no room left."""

    status_code = 507
    code = "storage_full"
    retryable = True


class QueueFull(StreamAppError):
    """Say that the queue has no place left; `retry_after_s` says when to come back."""

    status_code = 429
    code = "queue_full"
    retryable = True


class Unavailable(StreamAppError):
    """Say that the server takes no jobs now."""

    status_code = 503
    code = "unavailable"
    retryable = True


#: what a session or a broadcast hears of a drain, as the reason of a close frame as well
SHUTTING_DOWN = "the server is shutting down; connect again"


class Draining(Unavailable):
    """Say that the server is shutting down."""

    code = "draining"
    default_retry_after_s = 1


class SetupFailed(Unavailable):
    """Say that the app's `setup` raised, and where."""

    code = "setup_failed"
    retryable = False

    def __init__(self, message: str, *, trace: str | None = None) -> None:
        super().__init__(message)
        self.trace = trace


class OutOfMemory(Unavailable):
    """Say that the GPU ran out of memory during this job."""

    code = "out_of_memory"
    default_retry_after_s = 1


class GpuFailed(Unavailable):
    """Say that a library of the GPU's failed, not the request."""

    code = "gpu_failed"
    default_retry_after_s = 10


class WorkerStuck(Unavailable):
    """Say that the inference thread did not come back from a job."""

    code = "worker_stuck"
    default_retry_after_s = 10


class DeadlineExceeded(StreamAppError):
    """Say that the job ran longer than its `timeout_s`."""

    status_code = 504
    code = "deadline_exceeded"


class QueueTimeout(StreamAppError):
    """Say that the job waited longer than its `queue_timeout_s`."""

    status_code = 504
    code = "queue_timeout"
    retryable = True
    headers: Mapping[str, str] = {"X-Fal-Request-Timeout-Type": "user"}  # what tells fal's clients not to retry


class UpstreamFailed(StreamAppError):
    """Say that the server which an app asks cannot be reached, or has failed; what it is stands in the server's log.

    Args:
        retryable: whether it may answer later; a key that it refuses it will refuse again.
    """

    status_code = 502
    code = "upstream_failed"
    retryable = True

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class EndpointFailed(StreamAppError):
    """Say that the endpoint raised; what it raised stands in the server's log."""

    code = "endpoint_failed"


class HandlerError(EndpointFailed):
    """Tell what a handler says of its job's failure, which is meant for the caller: `{"error": ...}`."""


class NotEncodable(StreamAppError):
    """Say which value of a result has no form on the wire."""

    code = "not_encodable"


class Cancelled(BaseException):
    """End user code whose job was cancelled.

    A `BaseException`, so that an `except Exception` in a pipeline does not swallow it: this is how a GPU
    stops within one step. Catch it only to clean up, then raise it again.
    """


class InputsEnded(Exception):
    """Tell a session's code that no more inputs will come: its client has finished or left, or was silent for too long.

    Left alone it ends the session well.
    """


class EndIgnored(BaseException):
    """End code of a session that asks for inputs again and again after they have ended, and would do so for ever.

    A `BaseException`, as it mostly is an `except Exception` in that loop that swallows `InputsEnded`.
    """


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Hold an error as it is told to callers; of texts that are no Unicode, what can be told."""

    status_code: int
    code: str
    message: str
    retryable: bool = False
    detail: Any = None
    retry_after_s: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    #: where the app's code raised it; told only in debug
    traceback: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", whole(self.message))
        if isinstance(self.detail, str):
            object.__setattr__(self, "detail", whole(self.detail))

    @property
    def body(self) -> dict[str, Any]:
        """Return the one error shape of every protocol."""
        trace = {} if self.traceback is None else {"traceback": self.traceback}
        return {
            "error": {"code": self.code, "message": self.message, "retryable": self.retryable, **trace},
            "detail": self.message if self.detail is None else self.detail,
            "error_type": self.code,
        }

    @property
    def response_headers(self) -> dict[str, str]:
        """Return the headers that go with the body: `Retry-After` where it is known."""
        retry = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return {**self.headers, **retry}


_STATUS_CODES = {
    400: "malformed_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    409: "conflict",
    413: "payload_too_large",
    422: "invalid_input",
    426: "upgrade_required",
    429: "queue_full",
    499: "cancelled",
    503: "unavailable",
    504: "deadline_exceeded",
}
# What a full GPU makes CUDA's libraries say: https://github.com/pytorch/pytorch/issues/112377 and issues/4107.
_SIGNS_OF_FULL_MEMORY = (
    "NVML_SUCCESS == r INTERNAL ASSERT FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
)
_GPU_LIBRARIES = ("cuda", "cudnn", "nvml", "nccl", "cublas", "cufft", "cusolver", "cusparse", "triton")


_MAX_TRACEBACK = 64 * 1024


def describe(error: BaseException, *, where: str = "", debug: bool = False) -> ErrorReport:
    """Describe any exception for callers; an exception of the app's own shows its type only.

    Args:
        where: what failed, for example "endpoint /stream".
        debug: also show the exception's text and traceback, which can contain paths and secrets.
    """
    match error:
        case StreamAppError():
            report = ErrorReport(
                error.status_code,
                error.code,
                error.message,
                error.retryable,
                error.detail,
                error.retry_after_s,
                error.headers,
            )
        case HTTPException():
            return _describe_http(error)
        case _ if is_out_of_memory(error):
            report = describe(OutOfMemory(f"{where} ran out of GPU memory; ask for less, or try again".strip()))
        case RuntimeError() if tells_of_gpu(error):
            report = describe(GpuFailed("GPU error"))
        case _:
            message = f"{where} failed with {type(error).__name__}".strip()
            said = f": {error}" if debug else "; the server's log says why"
            report = ErrorReport(500, EndpointFailed.code, message + said)
    if not debug:
        return report
    trace = error.trace if isinstance(error, StreamAppError) else format_traceback(error)
    if trace is None:
        return report
    return replace(report, detail=trace, traceback=trace)  # fal's clients show no more than `detail`


def format_traceback(error: BaseException) -> str:
    """Format what the app's code raised, from its own first line on; of a long one the end, which says what it was."""
    try:
        trace = traceback.TracebackException.from_exception(error)
    except Exception:  # one of the app's own can break when it is read
        return f"{type(error).__name__}, of which nothing can be read\n"
    own = list(itertools.dropwhile(_is_of_ours, trace.stack))
    trace.stack = traceback.StackSummary.from_list(own or list(trace.stack))
    text = whole("".join(trace.format()))
    return text if len(text) <= _MAX_TRACEBACK else f"...\n{text[-_MAX_TRACEBACK:]}"


def _is_of_ours(frame: traceback.FrameSummary) -> bool:
    return Path(__file__).parent in Path(frame.filename).parents


def _describe_http(error: HTTPException) -> ErrorReport:
    if not 400 <= error.status_code < 600:  # no error: a 204 has no body, a 999 no meaning
        return describe(EndpointFailed(f"HTTPException with status {error.status_code} is no error; return a Response"))
    message = error.detail if isinstance(error.detail, str) else f"HTTP {error.status_code}"
    code, retryable = classify(error.status_code)
    return ErrorReport(error.status_code, code, message, retryable, error.detail, headers=dict(error.headers or {}))


def classify(status_code: int) -> tuple[str, bool]:
    """Return the code of an error that is known by its HTTP status only, and whether trying again may help."""
    code = _STATUS_CODES.get(status_code, "endpoint_failed" if status_code >= 500 else "refused")
    return code, status_code in (429, 503)


def tells_of_gpu(error: BaseException) -> bool:
    """Tell whether an error names one of the GPU's libraries, as fal does it."""
    text = str(error.args).lower()
    return any(name in text for name in _GPU_LIBRARIES)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether `error` is a GPU's out-of-memory error, by name: torch is not imported for it."""
    if isinstance(error, StreamAppError):
        return error.code == OutOfMemory.code
    if any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    text = str(error.args) if isinstance(error, RuntimeError) else ""
    return ("CUDA" in text and "out of memory" in text) or any(sign in text for sign in _SIGNS_OF_FULL_MEMORY)
