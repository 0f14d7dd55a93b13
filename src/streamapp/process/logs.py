"""Write the server's own log lines, whatever has become of logging.

A filter, a handler or a formatter of the user's may raise, and so does a stream that was closed: an exception from a
line about a job would end the thread that runs it. Here it costs that line.
"""

import logging
import sys
import traceback
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any


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


logger = UnfailingLogger(logging.getLogger("streamapp"))
