"""One app per sin of user code, each served in a process of its own by test_misbehaving.py.

All of them also answer `/ok`, from the inference thread, to tell whether the server still serves.
"""

import asyncio
import atexit
import ctypes
import io
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any

import fastapi
import PIL.Image
import rich.console

import streamapp

FOR_EVER_S = 3600


def say(word: str) -> None:
    """Tell the test that something has happened: one line on stdout."""
    os.write(1, f"{word}\n".encode())


class Sinner(streamapp.App):
    @streamapp.endpoint("/ok")
    def ok(self) -> str:
        return "ok"

    @streamapp.endpoint("/slow")
    def slow(self, steps: int = 50) -> Iterator[int]:
        """Go on for a while, and say so when it has come to its end."""
        for n in range(steps):
            time.sleep(0.02)
            yield n
        say("slow ended")

    @streamapp.endpoint("/teardown")
    def hangs_not(self) -> None: ...

    def teardown(self) -> None:
        say("torn down")


class FilterRaises(Sinner):
    """A filter for records with a field that others do not have, on every logger there is."""

    @streamapp.endpoint("/sin")
    def sin(self) -> str:
        def tenant(record: Any) -> bool:
            return bool(record.tenant == "x")

        for logger in (logging.getLogger(), logging.getLogger("streamapp"), logging.getLogger("uvicorn.error")):
            logger.addFilter(tenant)
            for handler in logger.handlers:
                handler.addFilter(tenant)
        return "done"


class HandlerBlocks(Sinner):
    """A log handler that never comes back."""

    @streamapp.endpoint("/sin")
    def sin(self) -> str:
        class Blocking(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                time.sleep(FOR_EVER_S)

        logging.getLogger("streamapp").handlers = [Blocking()]
        return "done"


class ClosesStderr(Sinner):
    @streamapp.endpoint("/sin")
    def sin(self) -> str:
        sys.stderr.close()
        return "done"


class KillsThread(Sinner):
    """An exception sent into a thread, as debuggers and timeout libraries do; sent on until it has ended."""

    @streamapp.endpoint("/sin")
    async def sin(self, thread: str) -> str:
        found = next(t for t in threading.enumerate() if t.name.startswith(thread))
        while found.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(found.ident or 0), ctypes.py_object(SystemExit))
            await asyncio.sleep(0.01)
        return "done"


class FillsPool(Sinner):
    """More blocked calls than the loop's own pool has threads."""

    @streamapp.endpoint("/sin")
    async def sin(self) -> AsyncIterator[int]:
        yield 1
        await asyncio.to_thread(time.sleep, FOR_EVER_S)

    @streamapp.endpoint("/image")
    async def image(self) -> Any:
        return PIL.Image.new("RGB", (8, 8))

    @streamapp.endpoint("/previews")
    async def previews(self, stream: streamapp.Stream) -> None:
        for step in range(3):
            await stream.aemit(streamapp.Preview(PIL.Image.new("RGB", (8, 8)), step))

    @streamapp.endpoint("/slow/cancel")
    def slow_cancel(self) -> str:
        return "heard"

    @streamapp.endpoint("/size")
    def size(self, image: streamapp.Image) -> int:
        return image.width


class ExitHangs(Sinner):
    async def handle_exit(self) -> None:
        say("exit heard")
        await asyncio.sleep(FOR_EVER_S)


class ExitSwallows(Sinner):
    """It does not even end when it is cancelled."""

    async def handle_exit(self) -> None:
        say("exit heard")
        while True:
            try:
                await asyncio.sleep(FOR_EVER_S)
            except asyncio.CancelledError:
                pass


class ExitBlocks(Sinner):
    def handle_exit(self) -> None:
        say("exit heard")
        time.sleep(FOR_EVER_S)


class SetupHangs(Sinner):
    def setup(self) -> None:
        say("setup")
        time.sleep(FOR_EVER_S)


class AsyncSetupHangs(Sinner):
    async def setup(self) -> None:
        say("setup")
        await asyncio.sleep(FOR_EVER_S)


class TeardownHangs(Sinner):
    def teardown(self) -> None:
        say("teardown")
        time.sleep(FOR_EVER_S)


class AsyncTeardownSwallows(Sinner):
    async def teardown(self) -> None:  # type: ignore[override]
        say("teardown")
        while True:
            try:
                await asyncio.sleep(FOR_EVER_S)
            except asyncio.CancelledError:
                pass


class PrintsUnderLock(Sinner, capture_logs=True):
    """Prints through a console that the loop uses as well, to a reader that does not read."""

    capture_logs = True

    def setup(self) -> None:
        self.console = rich.console.Console(file=None, force_terminal=False)

    @streamapp.endpoint("/sin")
    def sin(self) -> Iterator[int]:
        for n in range(200):
            self.console.print("x" * 1000, n)
            yield from ()
        say("printed")
        yield 1

    def health(self) -> dict[str, str]:
        self.console.print("asked for my health")
        return {"console": "free"}


class LoopSpins(Sinner):
    @streamapp.endpoint("/sin")
    async def sin(self) -> None:
        say("spinning")
        while True:
            pass

    @streamapp.endpoint("/short")
    async def short(self) -> str:
        time.sleep(2)  # noqa: ASYNC251 - the sin
        return "back"


class RegexRunsAway(Sinner):
    """The GIL is never given back."""

    @streamapp.endpoint("/sin")
    async def sin(self) -> None:
        say("matching")
        re.match("(a+)+$", "a" * 60 + "b")


class HealthBlocks(Sinner):
    def health(self) -> None:
        say("health")
        time.sleep(FOR_EVER_S)


class HealthHangs(Sinner):
    async def health(self) -> None:
        await asyncio.sleep(FOR_EVER_S)


class SwallowsCancel(Sinner):
    @streamapp.endpoint("/sin")
    async def sin(self) -> AsyncIterator[int]:
        while True:
            try:
                yield 1
                await asyncio.sleep(FOR_EVER_S)
            except asyncio.CancelledError:
                pass


class LeavesBehind(Sinner):
    """Tasks and threads that are nobody's when the job is over."""

    @streamapp.endpoint("/sin")
    async def sin(self) -> str:
        async def swallow() -> None:
            while True:
                try:
                    await asyncio.sleep(FOR_EVER_S)
                except asyncio.CancelledError:
                    pass

        self.tasks = [asyncio.create_task(swallow()), asyncio.create_task(asyncio.to_thread(time.sleep, 3))]
        await asyncio.sleep(0)
        return "done"


class NeverReturns(Sinner):
    @streamapp.endpoint("/sin")
    def sin(self) -> None:
        say("stuck")
        while True:
            time.sleep(1)


class EncodingHangs(Sinner):
    """A result whose own code is run when it is encoded."""

    @streamapp.endpoint("/sin")
    def sin(self) -> Any:
        class Hanging(PIL.Image.Image):
            def save(self, *arguments: Any, **options: Any) -> None:
                say("encoding")
                time.sleep(FOR_EVER_S)

        hanging = Hanging()
        hanging.__dict__.update(PIL.Image.new("RGB", (2, 2)).__dict__)
        return hanging

    @streamapp.endpoint("/async_sin")
    async def async_sin(self) -> Any:
        return self.sin()

    @streamapp.endpoint("/image")
    def image(self) -> Any:
        return PIL.Image.new("RGB", (8, 8))

    @streamapp.endpoint("/async_image")
    async def async_image(self) -> Any:
        return PIL.Image.new("RGB", (8, 8))


def sleep_long() -> None:
    """Live on in a child."""
    say("child")
    time.sleep(30)


def exit_code(child: int) -> int:
    """Wait for a child."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Forks(Sinner):
    """Children that live longer than the stream, and than the server."""

    @streamapp.endpoint("/process")
    def process(self) -> Iterator[int]:
        child = multiprocessing.get_context("fork").Process(target=sleep_long, daemon=False)
        child.start()
        yield child.pid or 0
        raise RuntimeError("the stream fails, the child lives")

    @streamapp.endpoint("/async_process")
    async def async_process(self) -> AsyncIterator[int]:
        child = multiprocessing.get_context("fork").Process(target=sleep_long)
        child.start()
        yield child.pid or 0
        raise RuntimeError("the stream fails, the child lives")

    @streamapp.endpoint("/pool")
    def pool(self) -> int:
        self.executor = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
        return self.executor.submit(os.getpid).result(20)

    @streamapp.endpoint("/raw")
    def raw(self) -> int:
        """Fork, and leave the child as one leaves a program."""
        child = os.fork()
        if child == 0:
            sys.exit(7)
        return exit_code(child)

    @streamapp.endpoint("/falls_through")
    def falls_through(self) -> int:
        """Fork, and have the child go on as if nothing had happened."""
        child = os.fork()
        return 0 if child == 0 else exit_code(child)

    @streamapp.endpoint("/async_falls_through")
    async def async_falls_through(self) -> int:
        child = os.fork()
        return 0 if child == 0 else exit_code(child)

    @streamapp.endpoint("/async_goes_on")
    async def async_goes_on(self) -> int:
        """Fork, and have the child go on with the loop."""
        child = os.fork()
        if child == 0:
            await asyncio.Future[None](loop=self.loop)
        return exit_code(child)

    async def setup(self) -> None:
        self.loop = asyncio.get_running_loop()

    def health(self) -> dict[str, int]:
        child = os.fork()
        return {} if child == 0 else {"child": exit_code(child)}

    @streamapp.endpoint("/signals")
    def signals(self) -> int:
        """End a child by the signal that a supervisor uses."""
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=[FOR_EVER_S])
        child.start()
        child.terminate()
        child.join(20)
        return child.exitcode or 0


class SetupForks(Sinner):
    def setup(self) -> None:
        self.child = os.fork()

    @streamapp.endpoint("/child")
    def ended(self) -> int:
        return exit_code(self.child)


class AtExit(Sinner):
    def setup(self) -> None:
        atexit.register(say, "atexit")


class AtExitHangs(Sinner):
    def setup(self) -> None:
        atexit.register(time.sleep, FOR_EVER_S)
        atexit.register(say, "atexit")


class ThreadStays(Sinner):
    """A thread that is no daemon, and that Python waits for."""

    def setup(self) -> None:
        threading.Thread(target=time.sleep, args=[FOR_EVER_S]).start()


class StopsLoop(Sinner):
    """What ends or cancels more than what is its own."""

    @streamapp.endpoint("/sin")
    async def sin(self, how: str) -> str:
        async def leave(error: type[BaseException]) -> None:
            raise error

        loop = asyncio.get_running_loop()
        match how:
            case "exit":
                self.leaving = asyncio.create_task(leave(SystemExit))
            case "interrupt":
                self.leaving = asyncio.create_task(leave(KeyboardInterrupt))
            case "callback":
                loop.call_soon(sys.exit)
            case "handler":
                loop.set_exception_handler(lambda *_: sys.exit())
                loop.call_soon(int, "no number")
            case "stop":
                loop.stop()
        return "done"

    @streamapp.endpoint("/depends")
    def depends(self, exits: Annotated[None, fastapi.Depends(sys.exit)]) -> None: ...


def cancel_all() -> None:
    """Cancel all tasks there are, as code that cleans up may."""
    for task in asyncio.all_tasks():
        if task is not asyncio.current_task():
            task.cancel()


class CancelsAll(Sinner):
    @streamapp.endpoint("/sin")
    async def sin(self) -> None:
        cancel_all()
        say("cancelled")


class ExitCancelsAll(Sinner):
    async def handle_exit(self) -> None:
        cancel_all()


class TeardownCancelsAll(Sinner):
    async def teardown(self) -> None:  # type: ignore[override]
        cancel_all()
        say("torn down")


class AsyncSetupExits(Sinner):
    async def setup(self) -> None:
        sys.exit("no model")


class ExitExits(Sinner):
    def handle_exit(self) -> None:
        sys.exit()


class AsyncExitExits(Sinner):
    async def handle_exit(self) -> None:
        sys.exit()


class ExitStopsIteration(Sinner):
    def handle_exit(self) -> None:
        next(iter(()))


class AsyncTeardownExits(Sinner):
    async def teardown(self) -> None:  # type: ignore[override]
        say("torn down")
        sys.exit()


class TakesSignals(Sinner):
    """Handlers of its own, as libraries set them that want to hear of the end."""

    @streamapp.endpoint("/sin")
    async def sin(self, how: str) -> str:
        for number in (signal.SIGTERM, signal.SIGINT):
            match how:
                case "exit":
                    signal.signal(number, lambda *_: sys.exit())
                case "ignore":
                    signal.signal(number, signal.SIG_IGN)
                case "loop":
                    asyncio.get_running_loop().add_signal_handler(number, say, "heard")
        return "done"


class HealthBlocksInSetup(Sinner):
    def setup(self) -> None:
        self.asked = threading.Event()
        say("setup")
        self.asked.wait(FOR_EVER_S)
        time.sleep(3)  # the loop counts as blocked for good before that

    def health(self) -> None:
        self.asked.set()
        time.sleep(FOR_EVER_S)


class NoThreads(Sinner):
    """As many threads as the system allows."""

    @streamapp.endpoint("/sin")
    async def sin(self) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threading.Thread.start = start  # type: ignore[assignment,method-assign]
        say("spinning")
        while True:
            pass


class KeepsFiles(Sinner):
    @streamapp.endpoint("/sin")
    def sin(self) -> streamapp.File:
        return streamapp.File(io.BytesIO(b"x" * 2_000_000).getvalue(), "application/octet-stream")


class SetupFails(Sinner):
    async def setup(self) -> None:
        self.blocked = [asyncio.create_task(asyncio.to_thread(time.sleep, FOR_EVER_S)) for _ in range(40)]
        await asyncio.sleep(0)
        raise RuntimeError("no model")
