"""Name fal's exceptions, for apps that were written for `fal.exceptions`.

    StreamAppError
    └── FalServerlessException         500
        ├── AppException               as given
        │   └── GPUException           503 retryable
        │       └── GPUOutOfMemoryException, CUDAOutOfMemoryException below it
        ├── FieldException             422 unless given; the detail names the field
        ├── RequestCancelledException  499
        ├── FileTooLargeError          413
        ├── AppFileUploadException     500
        └── UnauthenticatedException   401

They are dataclasses as fal's are, since apps derive dataclasses from them.
"""

from contextlib import ContextDecorator
from dataclasses import dataclass
from typing import Any, Literal, Self

from ..errors import OutOfMemory, StreamAppError, classify, is_out_of_memory, tells_of_gpu


class FalServerlessException(StreamAppError):
    """Be the base of fal's exceptions."""

    code = "endpoint_failed"


@dataclass(eq=False)
class AppException(FalServerlessException):
    """Answer with a message and a status of the app's choice."""

    message: str
    status_code: int

    def __post_init__(self) -> None:
        if not 400 <= self.status_code < 600:
            raise ValueError(f"expected a status_code of an error, 400 to 599; got {self.status_code}")
        super().__init__(self.message)
        self.code, self.retryable = classify(self.status_code)


@dataclass(eq=False)
class FieldException(FalServerlessException):
    """Say what is wrong with one field of the input, in the form of a validation error.

    Args:
        field: its name; the detail's `loc` is `["body", field]`.
        type: pydantic's word for the kind of mistake.
        billable_units: sent as `x-fal-billable-units` unless it is 0 or None.
    """

    field: str
    message: str
    status_code: int = 422
    type: str = "value_error"
    billable_units: int | float | str | None = 0

    def __post_init__(self) -> None:
        super().__init__(self.message, detail=self.to_pydantic_format()["detail"])
        self.code, self.retryable = classify(self.status_code)
        self.headers = self._billing()

    def to_pydantic_format(self) -> dict[str, list[dict[str, Any]]]:
        """Return fal's body of this error."""
        return {"detail": [{"loc": ["body", self.field], "msg": self.message, "type": self.type}]}

    def _billing(self) -> dict[str, str]:
        if not self.billable_units:
            return {}
        digits = 0 if isinstance(self.billable_units, int) else 8
        return {"x-fal-billable-units": f"{float(self.billable_units):.{digits}f}"}


@dataclass(eq=False)
class RequestCancelledException(FalServerlessException):
    """End a request that its client has cancelled."""

    message: str = "Request cancelled by the client."

    status_code = 499
    code = "cancelled"

    def __post_init__(self) -> None:
        super().__init__(self.message)


@dataclass(eq=False)
class FileTooLargeError(FalServerlessException):
    """Say that a file is over the app's limit."""

    message: str = "File is too large."

    status_code = 413
    code = "payload_too_large"

    def __post_init__(self) -> None:
        super().__init__(self.message)


@dataclass(eq=False)
class AppFileUploadException(FalServerlessException):
    """Say that a file of the app's could not be uploaded."""

    message: str
    relative_path: str

    def __post_init__(self) -> None:
        super().__init__(self.message)


class UnauthenticatedException(FalServerlessException):
    """Say that a key is needed."""

    status_code = 401
    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("You must be authenticated.")


@dataclass(eq=False)
class GPUException(AppException):
    """Say that the GPU failed, not the request; another try may succeed."""

    message: str = "GPU error"
    status_code: int = 503


@dataclass(eq=False)
class GPUOutOfMemoryException(GPUException):
    """Say that the GPU ran out of memory."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.code, self.retry_after_s = OutOfMemory.code, OutOfMemory.default_retry_after_s


@dataclass(eq=False)
class CUDAOutOfMemoryException(GPUOutOfMemoryException):
    """Say that a CUDA device ran out of memory."""

    message: str = "CUDA error: out of memory"


class catch_gpu_exceptions(ContextDecorator):
    """Turn what a GPU's libraries raise into `CUDAOutOfMemoryException` and `GPUException`; a decorator as well."""

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> Literal[False]:
        """Raise the exception that stands for `error`, which stays its cause; what was raised for callers passes."""
        if error is None or isinstance(error, StreamAppError):
            return False
        if is_out_of_memory(error):
            raise CUDAOutOfMemoryException from error
        if tells_of_gpu(error):
            raise GPUException from error
        return False
