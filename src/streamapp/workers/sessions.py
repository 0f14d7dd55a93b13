"""Run a session's method: bind its inputs to the app, where a worker runs it.

A session goes on in turns. Where the method is called for an input, or for a batch of them, that is a turn, and between
two of them nothing of it is left but the job. Where it goes through the inputs itself, a turn ends when it asks for one
that is not there. What it returns, yields or emits are the job's outputs, as ever.
"""

import inspect
import threading
from collections.abc import Callable
from typing import Any

from ..budget import Take, uncounted
from ..errors import DefinitionError
from ..jobs.inbox import Inbox, Unread
from ..jobs.job import Job
from ..jobs.stream import Inputs, PackingStream, SessionStream, Stream, Waits, enter_stream
from ..session import SessionSpec
from .binding import Binding, awaited, in_thread
from .results import exhaust, exhaust_on_loop, is_iterator


class Session:
    """Bind the sessions of one method of an app.

    Attributes:
        is_unary: the method is called for each input, or batch; what it raises is told of these, and the session goes
            on.
        asks: the method goes through the inputs itself.
    """

    def __init__(self, binding: Binding, spec: SessionSpec) -> None:
        self.spec = spec
        self.binding = binding
        self.is_unary = spec.mode == "unary"
        self.asks = spec.mode in ("client_streaming", "bidi")
        # What has no other way to answer says null.
        self._always_answers = spec.mode in ("unary", "client_streaming") and spec.stream_parameter is None
        self._method = spec.function.__get__(binding.app)
        _check(spec, binding)

    async def validate(self, value: Any, take: Take = uncounted) -> Any:
        """Return what to put into the inbox for one input, as JSON or msgpack gave it; on the loop.

        Args:
            take: counts the bytes of what it fetches.
        Raises:
            RequestValidationError: what is wrong with it, as FastAPI's list of errors.
        """
        arguments = await self.binding.reader.validate_value(value, take)
        if self.asks or self.spec.takes_batches:
            return next(iter(arguments.values()))
        return arguments

    def enter(self, job: Job, waits: Waits | None = None, *, loop_thread: int | None = None) -> Stream:
        """Have this context be the session's, and return the stream that its code gets: one that receives, where it
        goes through the inputs itself, and waits for them.
        """
        self.binding.enter(job)
        stream: Stream = PackingStream(job.channel, job.id, loop_thread=loop_thread)
        if waits is not None and self.asks:
            stream = SessionStream(job.channel, job.id, inbox_of(job), waits, loop_thread=loop_thread)
        enter_stream(stream)
        return stream

    def extend(self, inbox: Inbox, inputs: list[Unread]) -> None:
        """Take the inputs that go together with the first; runs code of the app's."""
        if self.spec.takes_batches:
            inbox.extend(inputs, self.spec.mark.max_batch_size, _joins)

    def call(self, inputs: list[Unread], stream: Stream) -> Any:
        """Call the method: for these inputs, or where it goes through them itself for all."""
        spec = self.spec
        named: dict[str, Any] = {} if spec.stream_parameter is None else {spec.stream_parameter: stream}
        if self.asks:
            through = spec.input_parameter
            return self._method(**named) if through is None else self._method(**named, **{through: Inputs(stream)})
        if spec.takes_batches:
            return self._method(*(unread.value for unread in inputs), **named)
        return self._method(**inputs[0].value, **named)

    def run(self, job: Job, inputs: list[Unread], stream: Stream) -> None:
        """Call the method and emit all that comes of it; blocks."""
        result = self.call(inputs, stream)
        if inspect.isawaitable(result):
            result = self.binding.on_loop(job, awaited(result))
        if hasattr(result, "__aiter__"):
            self.binding.on_loop(job, exhaust_on_loop(result, stream))
            return
        is_through = is_iterator(result)
        result = exhaust(result, stream)
        if result is not None or (self._always_answers and not is_through):
            stream.emit(result)

    async def arun(self, job: Job, inputs: list[Unread], stream: Stream) -> None:
        """Do the same on the loop."""
        result = self.call(inputs, stream)
        if inspect.isawaitable(result):
            result = await awaited(result)
        if hasattr(result, "__aiter__"):
            await exhaust_on_loop(result, stream)
            return
        is_through = is_iterator(result)
        if is_through:
            result = await in_thread(job, result, stream)
        if result is not None or (self._always_answers and not is_through):
            await stream.aemit(result)


class SessionThread:
    """Run a session's code in a thread of its own, which goes on only while it is its turn.

    The turn goes to and fro: who gives it waits until it is given back. So of the worker's thread and those of its
    sessions one runs at a time.

    Args:
        run: the session's code, to its end; given how it waits. Raises nothing.
        has_next_turn: begins another turn, where nobody else waits for one; says whether it did.
    Attributes:
        is_paused: it has given the turn back although it has something to do.
    """

    def __init__(self, job: Job, run: Callable[[Waits], None], has_next_turn: Callable[[], bool]) -> None:
        self._job = job
        self._run = run
        self._has_next_turn = has_next_turn
        self._given = threading.Semaphore(0)
        self._given_back = threading.Semaphore(0)
        self._has_ended = False
        self.is_paused = False
        self._thread = threading.Thread(target=self._work, name=f"session-{job.id}", daemon=True)

    def take_turn(self) -> bool:
        """Let it go on until it rests; False when it has come to its end. In the worker's thread."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._given.release()
        self._given_back.acquire()
        return not self._has_ended

    def rest(self) -> None:
        """Settle what was taken, and return when it is the session's turn, or when it is over.

        In another thread of the app's, which has no turn to give back, wait for an input instead.
        """
        inbox = inbox_of(self._job)
        if threading.current_thread() is not self._thread:
            inbox.wait()
        elif not self._job.is_over and not (inbox.settle() and self._has_next_turn()):
            self._give_back()

    def pause(self) -> None:
        """Settle what was taken, let others that wait have their turn, and return when it is the session's again."""
        if threading.current_thread() is self._thread and not self._job.is_over:
            inbox_of(self._job).settle()
            if not self._has_next_turn():
                self.is_paused = True
                self._give_back()
                self.is_paused = False

    def _give_back(self) -> None:
        self._given_back.release()
        self._given.acquire()

    def _work(self) -> None:
        try:
            self._run(Waits(self.rest, inbox_of(self._job).arrival, self.pause))
        finally:
            self._has_ended = True
            self._given_back.release()


def inbox_of(job: Job) -> Inbox:
    """Return the inbox of a job that is a session."""
    assert job.inbox is not None
    return job.inbox


def _joins(first: Any, following: Any, count: int) -> bool:
    """Say whether an input joins a batch, as its class says where it does."""
    ask = getattr(first, "can_batch", None)
    return ask is None or bool(ask(following, count))


def _check(spec: SessionSpec, binding: Binding) -> None:
    filled = [parameter.name for parameter in spec.inputs.parameters if parameter.name not in binding.reader.names]
    if filled:
        raise DefinitionError(
            f"{spec.mark.decorator} on {spec.function.__qualname__}: the parameter {filled[0]} would be a request's, "
            "not from a message; leave it out, or write @streamapp.websocket, which gets the socket itself"
        )
