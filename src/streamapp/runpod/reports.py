"""Read what Runpod's workers and handlers say of a job: how far it is, and why it failed."""

import json
import re
from contextlib import suppress
from typing import Any

from ..errors import HandlerError
from ..jobs.events import Event, encode

_ERROR_TYPE = re.compile(r"<class '(?:.*\.)?(\w+)'>")


def progress_event(value: Any) -> Event:
    """Encode what a handler tells of its progress: any JSON, which Runpod's clients get as `output` while the job runs.

    Where it is a text, or has one as its `message`, that is what ours show; so are the numbers `step` and `total`.
    """
    told = value if isinstance(value, dict) else {"message": value}
    message = told.get("message")
    steps = {name: told[name] for name in ("step", "total") if type(told.get(name)) in (int, float)}
    text = message if isinstance(message, str) else json.dumps(value, ensure_ascii=False)
    return Event("progress", encode({**steps, "message": text, "output": value}))


def handler_error(error: Any, *, debug: bool) -> HandlerError:
    """Return what a worker says of a job's failure: `detail` is what Runpod's clients read.

    Args:
        error: a text, which for what a handler raised is JSON, or has the traceback behind it.
        debug: leave the traceback in.
    """
    text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    told, _, trace = text.partition(" \ntraceback: ")
    if not debug and trace:
        text = told
    with suppress(ValueError, RecursionError):
        raised = json.loads(text)
        if isinstance(raised, dict) and "error_message" in raised:
            name = _ERROR_TYPE.sub(r"\1", str(raised.get("error_type", "")))
            told = f"{name}: {raised['error_message']}"
            if not debug:
                raised.pop("error_traceback", None)
                text = json.dumps(raised, ensure_ascii=False)
    return HandlerError(told, detail=text)
