"""fal's exceptions: how callers hear of each, and what counts as a GPU's failure."""

from dataclasses import dataclass
from typing import Any

import pytest

from streamapp.errors import StreamAppError, describe
from streamapp.fal.exceptions import (
    AppException,
    AppFileUploadException,
    CUDAOutOfMemoryException,
    FalServerlessException,
    FieldException,
    FileTooLargeError,
    GPUException,
    GPUOutOfMemoryException,
    RequestCancelledException,
    UnauthenticatedException,
    catch_gpu_exceptions,
)

# Status and detail: the table in fal's reference, section 1.4.
TOLD: list[tuple[StreamAppError, int, Any]] = [
    (AppException("no credits", 402), 402, "no credits"),
    (
        FieldException("prompt", "too long"),
        422,
        [{"loc": ["body", "prompt"], "msg": "too long", "type": "value_error"}],
    ),
    (
        FieldException(field="url", message="gone", status_code=410, type="missing"),
        410,
        [{"loc": ["body", "url"], "msg": "gone", "type": "missing"}],
    ),
    (RequestCancelledException(), 499, "Request cancelled by the client."),
    (FileTooLargeError(), 413, "File is too large."),
    (AppFileUploadException("the disk is full", "a.png"), 500, "the disk is full"),
    (GPUException(), 503, "GPU error"),
    (CUDAOutOfMemoryException(), 503, "CUDA error: out of memory"),
    (UnauthenticatedException(), 401, "You must be authenticated."),
]


@pytest.mark.parametrize(("error", "status", "detail"), TOLD, ids=lambda value: type(value).__name__)
def test_each_is_told_with_fals_status_and_detail(error: StreamAppError, status: int, detail: Any) -> None:
    report = describe(error)
    assert (report.status_code, report.body["detail"]) == (status, detail)


@pytest.mark.parametrize("error", [error for error, *_ in TOLD], ids=lambda value: type(value).__name__)
def test_each_is_one_of_fals_and_of_ours(error: StreamAppError) -> None:
    assert isinstance(error, FalServerlessException)
    assert isinstance(error, StreamAppError)


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (AppException("busy", 503), "unavailable", True),
        (AppException("teapot", 418), "refused", False),
        (FieldException("prompt", "no"), "invalid_input", False),
        (GPUException(), "unavailable", True),
        (GPUOutOfMemoryException(), "out_of_memory", True),
        (RequestCancelledException(), "cancelled", False),
    ],
)
def test_the_code_says_what_kind_of_error_it_is(error: StreamAppError, code: str, retryable: bool) -> None:
    report = describe(error)
    assert (report.code, report.retryable) == (code, retryable)


@pytest.mark.parametrize(
    ("units", "headers"),
    [
        (0, {}),
        (None, {}),
        (3, {"x-fal-billable-units": "3"}),
        (0.25, {"x-fal-billable-units": "0.25000000"}),
        ("2", {"x-fal-billable-units": "2.00000000"}),
    ],
)
def test_a_field_exception_tells_what_is_billed(units: Any, headers: dict[str, str]) -> None:
    assert describe(FieldException("prompt", "no", billable_units=units)).headers == headers


@pytest.mark.parametrize("status", [200, 302, 600])
def test_a_status_that_is_no_error_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match=f"expected a status_code of an error, 400 to 599; got {status}"):
        AppException("fine", status)


def test_a_dataclass_that_an_app_derives_is_told_as_well() -> None:
    @dataclass
    class NoCredits(AppException):
        message: str = "no credits"
        status_code: int = 402

    report = describe(NoCredits())
    assert (report.status_code, report.message) == (402, "no credits")


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (RuntimeError("CUDA error: out of memory"), CUDAOutOfMemoryException),
        (RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED"), CUDAOutOfMemoryException),
        (RuntimeError("NCCL communicator was aborted"), GPUException),
        (ValueError("Triton failed to compile"), GPUException),
    ],
)
def test_what_a_gpus_libraries_raise_becomes_a_gpu_exception(raised: Exception, becomes: type[GPUException]) -> None:
    with pytest.raises(GPUException) as caught, catch_gpu_exceptions():
        raise raised
    assert type(caught.value) is becomes
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize("raised", [ValueError("too wide"), AppException("choose cuda or cpu", 400)])
def test_other_exceptions_pass(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, catch_gpu_exceptions():
        raise raised
    assert caught.value is raised


def test_it_is_a_decorator_as_well() -> None:
    @catch_gpu_exceptions()
    def infer() -> int:
        return 7

    assert infer() == 7
