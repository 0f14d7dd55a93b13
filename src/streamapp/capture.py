"""Turn what a running job prints, logs and shows as progress bars into its events, for apps that ask for it.

The first job that asks installs one proxy for stdout and stderr, one logging handler and one patch of tqdm; they
look up the current job in a context variable and otherwise pass everything on. Nothing happens on import.
"""

import asyncio
import contextvars
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .channel import Channel
from .events import Log, LogLevel, Progress, to_event

_logs: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("streamapp_logs", default=None)
_progress: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("streamapp_progress", default=None)
_install_lock = threading.Lock()
_MAX_LINE = 8192
_LEVELS: list[tuple[int, LogLevel]] = [(logging.ERROR, "ERROR"), (logging.WARNING, "WARN"), (logging.INFO, "INFO")]


@contextmanager
def capture(channel: Channel, *, logs: bool, progress: bool) -> Iterator[None]:
    """Send prints and log records, and progress bars, of the code run inside to `channel`.

    Works for the thread or task that it is used in, and for threads that get a copy of its context.
    """
    if not (logs or progress):
        yield
        return
    _install(logs=logs, progress=progress)
    log_token = _logs.set(channel if logs else None)
    progress_token = _progress.set(channel if progress else None)
    try:
        yield
        _flush()
    finally:
        _logs.reset(log_token)
        _progress.reset(progress_token)


def _install(*, logs: bool, progress: bool) -> None:
    with _install_lock:
        if logs:
            for name, level in (("stdout", "STDOUT"), ("stderr", "STDERR")):
                if not isinstance(getattr(sys, name), _Tee):
                    setattr(sys, name, _Tee(getattr(sys, name), level))  # type: ignore[arg-type]
            root = logging.getLogger()
            if not any(isinstance(handler, _LogHandler) for handler in root.handlers):
                root.addHandler(_LogHandler())
        tqdm = sys.modules.get("tqdm.std")
        if progress and tqdm is not None and not hasattr(tqdm.tqdm, "streamapp_display"):
            _patch(tqdm.tqdm)


def _flush() -> None:
    for target in (sys.stdout, sys.stderr):
        if isinstance(target, _Tee):
            target.end_line()


class _Tee(io.TextIOBase):
    """Pass text on to the real stream, and whole lines to the current job."""

    def __init__(self, target: TextIO, level: LogLevel) -> None:
        self._target = target
        self._level = level
        self._lines: contextvars.ContextVar[str] = contextvars.ContextVar(f"streamapp_{level}", default="")

    def write(self, text: str) -> int:
        written = self._target.write(text)
        channel = _logs.get()
        if channel is not None:
            *lines, rest = (self._lines.get() + text).split("\n")
            self._lines.set(rest[-_MAX_LINE:])
            for line in lines:
                self._emit(channel, line)
        return written

    def end_line(self) -> None:
        """Emit what was printed without a line end."""
        channel, rest = _logs.get(), self._lines.get()
        self._lines.set("")
        if channel is not None and rest:
            self._emit(channel, rest)

    def _emit(self, channel: Channel, line: str) -> None:
        line = line.rpartition("\r")[2].rstrip()  # a bar that redraws itself: only what stays on the screen
        if line:
            _emit_log(channel, line[:_MAX_LINE], self._level, self._level.lower())

    def flush(self) -> None:
        self._target.flush()

    def isatty(self) -> bool:
        return self._target.isatty()

    def fileno(self) -> int:
        return self._target.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._target.encoding


class _LogHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        channel = _logs.get()
        if channel is None or record.name.startswith("streamapp"):
            return
        level = next((name for number, name in _LEVELS if record.levelno >= number), "DEBUG")
        _emit_log(channel, self.format(record)[:_MAX_LINE], level, record.name)


def _emit_log(channel: Channel, line: str, level: LogLevel, source: str) -> None:
    """Emit a line; on the loop without waiting for a slow reader, which would stop every stream."""
    channel.emit(to_event(Log(line, level, source)), waits=not _is_on_loop())


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _patch(cls: Any) -> None:
    display = cls.display

    def shown(self: Any, *args: Any, **kwargs: Any) -> Any:
        channel = _progress.get()
        if channel is not None:
            total = None if self.total is None else int(self.total)
            channel.emit(to_event(Progress(int(self.n), total, self.desc or None)), waits=False)
        return display(self, *args, **kwargs)

    cls.display = shown
    cls.streamapp_display = display

