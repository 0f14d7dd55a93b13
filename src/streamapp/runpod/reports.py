"""Read what Runpod's workers say of a job: how far it is, and why it failed."""

import json
import re
from contextlib import suppress
from typing import Any

from ..errors import HandlerError
from ..jobs.events import Event, encode
from .progress import told_of

_ERROR_TYPE = re.compile(r"<class '(?:.*\.)?(\w+)'>")
_TRACEBACK = " \ntraceback: "  # what comes before that of a generator


def progress_event(value: Any) -> Event:
    """Encode what a worker tells of its progress, any JSON."""
    return Event("progress", encode(told_of(value)))


def handler_error(error: Any, *, where: str, debug: bool) -> HandlerError:
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
