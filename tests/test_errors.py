"""Errors: what callers are told about each."""

import re
from typing import NoReturn

import pytest
from starlette.exceptions import HTTPException

from streamapp import errors
from streamapp.errors import (
    Cancelled,
    ErrorReport,
    InvalidInput,
    OutOfMemory,
    QueueFull,
    StreamAppError,
    describe,
    is_out_of_memory,
)


class OutOfMemoryError(RuntimeError):
    """Stands for torch's, which is known by this name only."""


def classes(root: type[StreamAppError] = StreamAppError) -> list[type[StreamAppError]]:
    return [
        root,
        *(found for cls in root.__subclasses__() if cls.__module__ == errors.__name__ for found in classes(cls)),
    ]


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn = re.findall(r"(\w+) +([\d-]+) +(.+)", errors.__doc__.partition("Cancelled (Base")[0])
    named = {name: (status, rest.split()[0], "retryable" in rest.split()) for name, status, rest in drawn}
    del named["DefinitionError"]  # never answered to a caller
    told = classes()
    told.remove(errors.DefinitionError)
    assert named == {cls.__name__: (str(cls.status_code), cls.code, cls.retryable) for cls in told}


def test_an_error_of_the_framework_is_told_with_its_status_code_and_message() -> None:
    info = describe(QueueFull("the queue is full", retry_after_s=7))
    assert (info.status_code, info.code, info.retryable) == (429, "queue_full", True)
    assert info.response_headers == {"Retry-After": "7"}


def test_the_body_is_the_one_error_shape() -> None:
    assert describe(QueueFull("the queue is full")).body == {
        "error": {"code": "queue_full", "message": "the queue is full", "retryable": True},
        "detail": "the queue is full",
        "error_type": "queue_full",
    }


def test_the_detail_can_say_more_than_the_message() -> None:
    assert describe(InvalidInput("bad", detail=[{"loc": ["body"]}])).body["detail"] == [{"loc": ["body"]}]


def test_without_a_detail_the_message_is_the_detail() -> None:
    assert ErrorReport(500, "endpoint_failed", "it broke").body["detail"] == "it broke"


def test_a_text_that_is_no_unicode_is_told_as_far_as_it_can_be() -> None:
    report = describe(InvalidInput("a\ud83d", detail="b\ud83d"))
    assert (report.message, report.detail) == ("a�", "b�")


def test_an_error_has_its_own_headers() -> None:
    error = InvalidInput("bad")
    error.headers = {"X-Why": "so"}
    assert describe(error).response_headers["X-Why"] == "so"


def test_an_exception_of_the_app_shows_its_type_only() -> None:
    info = describe(ValueError("/home/me/secret"), where="endpoint /x")
    assert (info.status_code, info.code, info.retryable) == (500, "endpoint_failed", False)
    assert info.message == "endpoint /x failed with ValueError; the server's log says why"


def test_in_debug_it_shows_the_text_and_the_traceback() -> None:
    info = describe(ValueError("too wide"), debug=True)
    assert info.message == "failed with ValueError: too wide"
    assert info.body["error"]["traceback"] == info.detail == "ValueError: too wide\n"


def test_a_failed_setup_has_the_traceback_of_what_it_raised_in_debug() -> None:
    error = errors.SetupFailed("setup failed", trace="line 7")
    report = describe(error, debug=True)
    assert (report.message, report.traceback, report.detail) == ("setup failed", "line 7", "line 7")
    assert describe(error).body["detail"] == "setup failed"


@pytest.mark.parametrize(
    "error", [InvalidInput("x"), HTTPException(418), errors.EndpointFailed("x"), errors.SetupFailed("x")]
)
def test_what_is_meant_for_the_caller_has_no_traceback(error: Exception) -> None:
    assert "traceback" not in describe(error, debug=True).body["error"]
    assert "traceback" not in describe(ValueError(), debug=False).body["error"]


def raised(depth: int = 0) -> Exception:
    try:
        if depth:
            raise ValueError("x" * 1000) from raised(depth - 1)
        raise RuntimeError("CUDA out of memory")
    except (ValueError, RuntimeError) as error:
        return error


def test_a_full_gpus_error_has_its_traceback_in_debug() -> None:
    report = describe(raised(), debug=True)
    assert (report.code, report.retryable) == ("out_of_memory", True)
    assert "in raised" in (report.traceback or "")


def test_a_traceback_has_its_causes_and_of_a_long_one_the_end_is_told() -> None:
    assert "direct cause" in (describe(raised(1), debug=True).traceback or "")
    trace = describe(raised(200), debug=True).traceback or ""
    assert len(trace) == 64 * 1024 + len("...\n")
    assert trace.startswith("...\n")
    assert trace.endswith("x\n")


def test_of_an_exception_that_breaks_when_it_is_read_the_type_is_told() -> None:
    class Broken(Exception):
        @property
        def __cause__(self) -> NoReturn:  # type: ignore[override]
            raise ValueError("no cause")

    assert describe(Broken(), debug=True).traceback == "Broken, of which nothing can be read\n"


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (404, "not_found", False),
        (429, "queue_full", True),
        (503, "unavailable", True),
        (418, "refused", False),
        (507, "endpoint_failed", False),
    ],
)
def test_an_http_exception_keeps_its_status(status: int, code: str, retryable: bool) -> None:
    info = describe(HTTPException(status, "no", headers={"X-Why": "so"}))
    assert (info.status_code, info.code, info.message, info.retryable) == (status, code, "no", retryable)
    assert info.response_headers == {"X-Why": "so"}


def test_an_http_exception_with_a_structured_detail_keeps_it() -> None:
    info = describe(HTTPException(409, {"holder": "me"}))  # type: ignore[arg-type]
    assert (info.message, info.detail) == ("HTTP 409", {"holder": "me"})


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("2 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear"),
    ],
)
def test_a_gpu_out_of_memory_is_retryable(error: Exception) -> None:
    info = describe(error, where="endpoint /x")
    assert (info.status_code, info.code, info.retryable) == (503, "out_of_memory", True)
    assert info.message == "endpoint /x ran out of GPU memory; ask for less, or try again"


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: invalid"), ValueError("CUDA out of memory")])
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered"), "gpu_failed"),
        (RuntimeError("the pipeline broke"), "endpoint_failed"),
        (ValueError("no device cuda:9"), "endpoint_failed"),  # a mistake of the program's, which stays the same
    ],
)
def test_what_the_gpus_libraries_raise_may_pass(error: Exception, code: str) -> None:
    info = describe(error, where="endpoint /x")
    assert (info.code, info.retryable) == (code, code == "gpu_failed")


def test_an_error_that_says_so_is_out_of_memory() -> None:
    assert is_out_of_memory(OutOfMemory("full"))
    assert not is_out_of_memory(InvalidInput("CUDA out of memory"))


def test_an_error_whose_text_cannot_be_made_is_still_recognised_as_none() -> None:
    class Unprintable(RuntimeError):
        def __str__(self) -> str:
            raise ValueError("no text")

    assert describe(Unprintable()).code == "endpoint_failed"


def test_except_exception_does_not_swallow_a_cancellation() -> None:
    assert not issubclass(Cancelled, Exception)


@pytest.mark.parametrize("status", [204, 302, 999])
def test_an_http_exception_with_a_status_of_no_error_is_a_failure_of_the_endpoint(status: int) -> None:
    report = describe(HTTPException(status, "gone"))
    assert (report.status_code, report.code) == (500, "endpoint_failed")


@pytest.mark.parametrize("retryable", [True, False])
def test_a_server_behind_this_one_may_answer_later_or_never(retryable: bool) -> None:
    told = describe(errors.UpstreamFailed("it is gone", retryable=retryable))
    assert (told.status_code, told.message, told.retryable) == (502, "it is gone", retryable)
