"""Serve apps from a script or a notebook: what is called for that, and the handle on a server beside its caller.

The handle is made of futures, and knows neither HTTP nor how the server runs.

Divergence: what serves is imported when it is called, as in `fal/app`: rooms to the right of this one, and a web
server, which nobody needs who only imports an app.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextvars import ContextVar
from typing import Any, Literal, ParamSpec, Self

from .errors import SetupFailed, StreamAppError
from .later import module
from .process.threads import in_own_thread

_background = module(".cli.background", __package__)
P = ParamSpec("P")
State = Literal["starting", "ready", "stopping", "stopped", "failed"]


class Serving:
    """Know a server that runs in a thread of its own, and stop it. Every method may be called from any thread.

    As `with` and as `async with` it waits until the apps are ready, raises what keeps them from that, and stops the
    server at the end. Who drops it does not stop the server; the end of the process does, in order.

    Attributes:
        url: where it is asked on this machine, without a slash at its end.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        ready: Sequence[Future[None]],
        ended: Future[int],
        end: Callable[[], None],
        patience_s: float,
    ) -> None:
        """Take what is known of a server; `streamapp.App.serve` makes it.

        Args:
            name: of its apps.
            ready: done when it takes connections, and when each app's `setup` has returned; holds `SetupFailed` of one.
            ended: holds the server's exit code.
            end: has it begin to end; called again it is without effect.
            patience_s: how long its end may take.
        """
        self.name = name
        self.url = url
        self._ready = ready
        self._ended = ended
        self._end = end
        self._patience_s = patience_s
        self._is_told = False
        self._process = os.getpid()

    def __repr__(self) -> str:
        return f"<Serving {self.name} at {self.url}: {self.state}>"

    @property
    def state(self) -> State:
        """Say how far it is: `starting` until every `setup` has returned; `failed` when it has ended by itself."""
        if self._ended.done():
            is_in_order = self._is_told and self._ended.exception() is None and self._ended.result(0) == 0
            return "stopped" if is_in_order else "failed"
        if self._is_told:
            return "stopping"
        if not all(future.done() for future in self._ready):
            return "starting"
        return "ready" if all(future.exception() is None for future in self._ready) else "failed"

    @property
    def is_over(self) -> bool:
        """Say whether the server has ended."""
        return self._ended.done()

    def wait_ready(self) -> None:
        """Wait until every `setup` has returned; blocks for as long as they take.

        Raises:
            SetupFailed: one has raised; its traceback is a note.
            StreamAppError: the server has ended before, or is another process's.
        """
        if self._process != os.getpid():
            raise StreamAppError(f"the server of {self.name} is that of the process which this one was forked from")
        for future in self._ready:
            awaited: list[Future[Any]] = [future, self._ended]
            wait(awaited, return_when=FIRST_COMPLETED)
        for future in filter(Future.done, self._ready):
            _tell(future)
        if self._ended.done():
            raise StreamAppError(f"the server of {self.name} has ended; its log says why, where nobody has stopped it")

    def stop(self) -> None:
        """End the server as a signal ends `streamapp serve`; blocks until it has ended, and then the port is free.

        Running jobs have the deployment's `drain_s`, readers get their last events, `teardown` runs. Called again it
        waits likewise, and is without effect when all is over. Called by a job or a hook of the app's it only begins
        the end, which would wait for that. A process that was forked from the server's has no thread of it: there it is
        without effect.

        Raises:
            TimeoutError: code of the app's keeps the server from ending.
        """
        if self._process != os.getpid():
            return
        if not self._ended.done():
            self._is_told = True
            self._end()
        if not _is_within.get() and not wait({self._ended}, timeout=self._patience_s).done:
            raise TimeoutError(f"the server of {self.name} does not end: code of the app's keeps it from that")

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            await in_own_thread(f"ready-{self.name}", self.wait_ready)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await in_own_thread(f"stop-{self.name}", self.stop)


_is_within: ContextVar[bool] = ContextVar("streamapp_is_within", default=False)


def run_within(serve: Callable[P, int], *arguments: P.args, **named: P.kwargs) -> int:
    """Run a server in this context, which hooks and jobs have from it: their code is not to wait for its end."""
    _is_within.set(True)
    return serve(*arguments, **named)


def _tell(ready: Future[None]) -> None:
    """Raise what a setup has failed with; each time anew, so that it has one note."""
    try:
        ready.result(0)
    except SetupFailed as error:
        told = SetupFailed(error.message, trace=error.trace)
        if error.trace is not None:
            told.add_note(error.trace)
        raise told from None


def serve_apps(*apps: type, **options: Any) -> Serving:
    """Serve several apps as `App.serve` serves one, each at `/{name}` and the first at `/` as well.

    It is also how an app is served that has a method of its own called `serve`.

    Args:
        options: those of `App.serve`.
    """
    serving: Serving = _background.serve_apps(apps, **options)
    return serving
