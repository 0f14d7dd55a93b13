"""Say what comes of a job as Runpod does: what a handler's result says besides, and why it has failed.

A failure is read and written in both directions: what a handler in this process raised is described as Runpod's package
would, and what workers elsewhere, which have that package, say of one becomes an error of ours.
"""

import json
import os
import re
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from starlette.exceptions import HTTPException

from ..errors import ErrorReport, HandlerError, StreamAppError, describe

#: of Runpod's package: what of it is offered here
RUNPOD_VERSION = "1.12.0"
_ERROR_TYPE = re.compile(r"<class '(?:.*\.)?(\w+)'>")
_TRACEBACK = " \ntraceback: "  # what comes before that of a generator


class Returned(NamedTuple):
    """Hold what a handler returned, apart from what it says of the job and of the worker."""

    value: Any
    error: HandlerError | None = None
    refreshes: bool = False


def read_returned(result: Any) -> Returned:
    """Take `error` and `refresh_worker` out of a dict that a handler returned, as Runpod does; the dict is left."""
    if not isinstance(result, dict):
        return Returned(result)
    rest = {key: value for key, value in result.items() if key not in ("error", "refresh_worker")}
    return Returned(rest or None, error_in(result), bool(result.get("refresh_worker")))


def error_in(item: Any) -> HandlerError | None:
    """Return what an item says of its job's failure: a dict with an `error` that is not empty."""
    error = item.get("error") if isinstance(item, dict) else None
    return HandlerError(error if isinstance(error, str) else _as_text(error)) if error else None


def _as_text(error: Any) -> str:
    try:
        return json.dumps(error, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return str(error)


def error_text(report: ErrorReport) -> str:
    """Return what Runpod's clients get as the `error` of a job: what its handler raised, as JSON, else the message."""
    raised = isinstance(report.detail, dict) and "error_type" in report.detail
    return json.dumps(report.detail) if raised else report.message


def describe_failure(error: BaseException, *, where: str, debug: bool) -> ErrorReport:
    """Describe what a handler raised, as Runpod does: type and text are meant for the caller, the traceback in debug.

    Returns:
        a report whose `detail` is Runpod's object, `{"error_type", "error_message", ...}`; or that of `errors.describe`
        where there is more to say: of errors of ours, and of a GPU that is out of memory.
    """
    report = describe(error, where=where, debug=debug)
    if isinstance(error, StreamAppError | HTTPException) or report.code != HandlerError.code:
        return report
    try:
        text = str(error)
    except Exception:  # one of the handler's own can break when it is read
        text = ""
    told = {
        "error_type": str(type(error)),
        "error_message": text,
        "hostname": os.environ.get("RUNPOD_POD_HOSTNAME", "unknown"),
        "worker_id": os.environ.get("RUNPOD_POD_ID", "unknown"),
        "runpod_version": RUNPOD_VERSION,
    }
    if report.traceback is not None:
        told["error_traceback"] = report.traceback
    return replace(report, message=f"{where} failed with {type(error).__name__}: {text}", detail=told)


def read_failure(error: Any, *, where: str, debug: bool) -> HandlerError:
    """Return what a worker says of a job's failure.

    Args:
        error: a text; for what a handler raised it is JSON, which becomes the error's `detail`, or has the traceback
            behind it.
        where: what failed.
        debug: leave the traceback in.
    """
    text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    with suppress(ValueError, RecursionError):
        raised = json.loads(text)
        if isinstance(raised, dict) and "error_type" in raised:
            name = _ERROR_TYPE.sub(r"\1", str(raised["error_type"]))
            told = raised if debug else {key: value for key, value in raised.items() if key != "error_traceback"}
            return HandlerError(f"{where} failed with {name}: {raised.get('error_message', '')}", detail=told)
    return HandlerError(text if debug else text.partition(_TRACEBACK)[0])
