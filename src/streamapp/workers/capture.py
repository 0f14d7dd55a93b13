"""Turn what a running job prints, logs and shows as progress bars into its events, for apps that ask for it.

The first job that asks puts a proxy before stdout and stderr, wraps the factory of log records, and patches tqdm;
they look up the current job in a context variable and otherwise pass everything on. Nothing happens on import.

Divergence: log records are taken where they are made, not by a handler on the root logger. A handler is called under
its lock: a job that waits there for its reader would stop the loop as soon as that logs a line, and with it the reader.
It would miss the loggers that do not propagate (diffusers, transformers), and switch off the line on stderr that a
program without handlers gets.

A line never waits for a reader: whoever prints may hold a lock of its own meanwhile (rich's console, loguru's sink,
`tqdm.write`), on which the loop would stop as soon as it prints there too. Lines that do not fit, as the reader is far
behind, are left out, and their number is told.

A job that is over is stopped at its next line or bar, in the inference thread. What it has left behind with a copy of
its context, a thread or a task that other jobs use as well, is not: its lines are then nobody's.

Divergence: this module uses `threading`, for one lock: the threads of two apps can install at once.
"""

import asyncio
import contextvars
import logging
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TextIO

from ..errors import Cancelled
from ..jobs.channel import Channel
from ..jobs.events import Log, LogLevel, Progress, to_event


class _Capture:
    """Say where the output of a job goes, and which thread is at the job itself, until it has returned.

    None of them is when the job runs on the loop, where it is cancelled as a task.
    """

    __slots__ = ("channel", "left_out", "thread")

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.left_out = 0
        self.thread = None if _is_on_loop() else threading.get_ident()

    def is_here(self) -> bool:
        """Say whether the job itself is what runs here."""
        return self.thread == threading.get_ident()

    def emit(self, line: str, level: LogLevel, source: str) -> None:
        """Emit a line if there is room for it, after the number of those for which there was none."""
        if self.left_out and self._add(_left_out(self.left_out)):
            self.left_out = 0
        if self.left_out or not self._add(Log(line[:_MAX_LINE], level, source)):
            self.left_out += 1

    def end(self) -> None:
        """Tell the number of the last lines for which there was no room; for this one there is."""
        if self.left_out:
            with suppress(Cancelled):
                self.channel.emit(to_event(_left_out(self.left_out)), waits=False)

    def _add(self, log: Log) -> bool:
        return self.channel.add_line(to_event(log))


def _left_out(count: int) -> Log:
    return Log(f"{count} lines left out: the reader is too far behind", "WARN", "streamapp")


_logs: contextvars.ContextVar[_Capture | None] = contextvars.ContextVar("streamapp_logs", default=None)
_progress: contextvars.ContextVar[_Capture | None] = contextvars.ContextVar("streamapp_progress", default=None)
_install_lock = threading.Lock()
_MAX_LINE = 8192
_LEVELS: list[tuple[int, LogLevel]] = [(logging.ERROR, "ERROR"), (logging.WARNING, "WARN"), (logging.INFO, "INFO")]
_format = logging.Formatter().format


@contextmanager
def capture(channel: Channel, *, logs: bool, progress: bool) -> Iterator[None]:
    """Send prints and log records, and progress bars, of the code run inside to `channel`.

    Works for the thread or task that it is used in, and for threads that get a copy of its context.
    """
    if not (logs or progress):
        yield
        return
    _install()
    _end_lines()
    own = _Capture(channel)
    log_token = _logs.set(own if logs else None)
    progress_token = _progress.set(own if progress else None)
    try:
        yield
    finally:
        own.thread = None
        _end_lines()
        own.end()
        _logs.reset(log_token)
        _progress.reset(progress_token)


def _install() -> None:
    with _install_lock:
        _forget_in_forks()
        for name, level in (("stdout", "STDOUT"), ("stderr", "STDERR")):
            target = getattr(sys, name)
            if target is not None and not isinstance(target, _Tee):  # None where there is no console
                setattr(sys, name, _Tee(target, level))  # type: ignore[arg-type]
        _take_records()
        tqdm = sys.modules.get("tqdm.std")
        if tqdm is not None and not hasattr(tqdm.tqdm, "streamapp_display"):
            _patch(tqdm.tqdm)


@lru_cache(maxsize=1)
def _forget_in_forks() -> None:
    """Have what a forked child prints go to the screen alone: its copy of the job's log may be locked, and is read by
    nobody.
    """
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:  # pragma: no cover - in a child, whose lines nobody counts
    _logs.set(None)
    _progress.set(None)


def _end_lines() -> None:
    for target in (sys.stdout, sys.stderr):
        if isinstance(target, _Tee):
            target.end_line()


class _Tee:
    """Pass text on to the real stream, and whole lines to the current job."""

    def __init__(self, target: TextIO, level: LogLevel) -> None:
        self._target = target
        self._level = level
        self._line: contextvars.ContextVar[str] = contextvars.ContextVar(f"streamapp_{level}", default="")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    def write(self, text: str) -> int:
        written = self._target.write(text)
        own = _logs.get()
        if own is not None:
            *lines, rest = (self._line.get() + text).split("\n")
            self._line.set(rest[-_MAX_LINE:])
            for line in lines:
                self._emit(own, line)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def end_line(self) -> None:
        """Emit what was printed without a line end."""
        own, rest = _logs.get(), self._line.get()
        self._line.set("")
        if own is not None:
            self._emit(own, rest)

    def _emit(self, own: _Capture, line: str) -> None:
        line = line.rpartition("\r")[2].rstrip()  # a bar that redraws itself: only what stays on the screen
        if line:
            _emit_log(own, line, self._level, self._level.lower())


@lru_cache(maxsize=1)
def _take_records() -> None:
    """Wrap, once, the factory of log records: those of a job go to it as well; streamapp's own are for the server."""
    make = logging.getLogRecordFactory()

    def made(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = make(*args, **kwargs)
        own = _logs.get()
        if own is not None and record.name and record.name.partition(".")[0] != "streamapp":
            level: LogLevel = next((name for number, name in _LEVELS if record.levelno >= number), "DEBUG")
            _emit_log(own, _line_of(record), level, record.name)
        return record

    logging.setLogRecordFactory(made)
    _call_handlers_unheard()


def _call_handlers_unheard() -> None:
    """Keep what handlers write to stderr, logging's last resort among them, from coming as a second line."""
    call_handlers = logging.Logger.callHandlers

    def called(self: logging.Logger, record: logging.LogRecord) -> None:
        token = _logs.set(None)
        try:
            call_handlers(self, record)
        finally:
            _logs.reset(token)

    logging.Logger.callHandlers = called  # type: ignore[method-assign]


def _line_of(record: logging.LogRecord) -> str:
    try:
        return _format(record)
    except Exception:  # arguments that do not fit the message: the handlers complain, the job goes on
        return str(record.msg)


def _emit_log(own: _Capture, line: str, level: LogLevel, source: str) -> None:
    if own.channel.is_held_here:
        return
    try:
        own.emit(line, level, source)
    except Cancelled:
        if own.is_here():
            raise


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _patch(cls: Any) -> None:
    display, update = cls.display, cls.update

    def shown(self: Any, *args: Any, **kwargs: Any) -> Any:
        own = _progress.get()
        if own is not None and not own.channel.is_held_here:
            total = None if self.total is None else int(self.total)
            with suppress(Cancelled):  # tqdm would keep its global lock; `updated` raises it
                own.channel.emit(to_event(Progress(int(self.n), total, self.desc or None)), waits=False)
        token = _logs.set(None)  # a bar is no log line
        try:
            return display(self, *args, **kwargs)
        finally:
            _logs.reset(token)

    def updated(self: Any, n: float | None = 1) -> Any:
        is_shown = update(self, n)
        own = _progress.get()
        if own is not None and own.is_here():
            own.channel.check()
        return is_shown

    cls.display, cls.update = shown, updated
    cls.streamapp_display = display
