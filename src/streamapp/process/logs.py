"""Write the server's own log lines, whatever has become of logging.

A filter, a handler or a formatter of the user's may raise, and so does a stream that was closed: an exception from a
line about a job would end the thread that runs it. Here it costs that line.

What is written by `streamapp serve` goes through a `Redacting` formatter, whoever logs it.
"""

import logging
import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

_SECRET_NAMES = ("_KEY", "_SECRET", "_TOKEN")
_LEAST = 6  # what is shorter is no secret, and would be found in any word
_SHOWN = 3  # as many as Runpod's documents show of one
# After the header's name, as an HTTP log or the dump of a dict or a list of pairs of bytes has it.
_AUTHORIZATION = re.compile(
    r"""(authorization["']?\W{1,4}(?:b?["'])?(?:(?:bearer|key|basic)\s+)?[^\s"'<]{3})[^\s"'<]+""", re.IGNORECASE
)


class UnfailingLogger(logging.LoggerAdapter[logging.Logger]):
    """Log to `streamapp`; what a filter or a handler raises is told on the original stderr instead."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a line; thread-safe, and blocks as long as the handlers do."""
        try:
            super().log(level, msg, *args, **kwargs)
        except Exception:  # the user's filter, handler or stream: not what the line was about
            with suppress(Exception):  # that stream may be closed, too
                traceback.print_exc(file=sys.__stderr__)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Leave a line as it is."""
        return msg, kwargs


class Redacting(logging.Formatter):
    """Write of keys and secrets the first characters only: of those in an environment, and of what is sent as one.

    Args:
        environment: the variables; those whose names end in `_KEY`, `_SECRET` or `_TOKEN` hold secrets.
    """

    def __init__(self, format: str, date_format: str, environment: Mapping[str, str]) -> None:
        super().__init__(format, date_format)
        values = [value for name, value in environment.items() if name.upper().endswith(_SECRET_NAMES)]
        secrets = {text for value in values if len(value) >= _LEAST for text in (value, quote(value, safe=""))}
        # The longest first: one may be the beginning of another.
        alternatives = "|".join(map(re.escape, sorted(secrets, key=len, reverse=True)))
        self._known = re.compile(alternatives) if secrets else None

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text, its traceback included."""
        text = super().format(record)
        if self._known is not None:
            text = self._known.sub(lambda match: match[0][:_SHOWN] + "...", text)
        # Without regard to case a pattern is tried at every character, which takes longer than all else about a line.
        return _AUTHORIZATION.sub(r"\1...", text) if "authorization" in text.lower() else text


logger = UnfailingLogger(logging.getLogger("streamapp"))
