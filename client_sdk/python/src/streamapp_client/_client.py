"""Perform calls over blocking connections; what is sent, and what an answer means, is decided in the calls."""

import os
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from functools import cached_property
from typing import Any, Self, TypeVar, cast, overload

import httpx

from . import _calls as calls
from . import _core as core
from ._async_session import as_it_is
from ._decoder import MAX_BYTES
from ._dialogue import Dialogue
from ._errors import ClientError, error_from_response
from ._images import decode_data_uri
from ._inputs import encode_input
from ._line import Line
from ._loops import Connections
from ._models import Event, JobStatus
from ._server import Redirects, Server
from ._session import Session
from ._steps import Call, Deadline, Patience, Reach, Read, Send, Sleep, Step, Tell
from ._stream import Conversation

T = TypeVar("T")


class _Wire:
    """Perform the steps of one call: at most one answer is open at a time."""

    def __init__(self, http: httpx.Client, server: Server) -> None:
        self._http = http
        self._server = server
        self._response: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def perform(self, step: Step) -> Any:
        match step:
            case Read():
                return next(self._chunks, None)
            case Send():
                return self._send(step)
            case Sleep():
                time.sleep(step.seconds)
            case Tell():
                step.callback(step.value)
        return None

    def _send(self, step: Send) -> httpx.Response:
        request: httpx.Request | None = core.build_request(self._http, self._server, step)
        redirects = Redirects(self._server)
        while request is not None:
            self.hang_up()
            self._response = response = self._http.send(request, stream=True)
            request = redirects.next(response)
        self._chunks = response.iter_bytes()
        if response.is_error:
            return self._gather(step).read_into(response)
        return response

    def _gather(self, step: Send, max_bytes: int = MAX_BYTES) -> core.Body:
        body = core.Body(f"an answer of {step.path.partition('?')[0]}", max_bytes)
        for chunk in self._chunks:
            body.add(chunk)
        return body

    def fetch(self, step: Send, max_bytes: int = MAX_BYTES) -> bytes:
        """Send a request, and return all of its answer."""
        try:
            response = self._send(step)
            if response.is_error:
                raise error_from_response(response)
            return self._gather(step, max_bytes).content()
        finally:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connection, unless its answer was read to its end."""
        if self._response is not None:
            self._response.close()
            self._response = None


def _advance(call: Call[Any], wire: _Wire) -> Event:
    """Perform steps up to the next event.

    Raises:
        StopIteration: the call has returned.
    """
    step = next(call)
    while not isinstance(step, Event):
        try:
            outcome = wire.perform(step)
        except httpx.RequestError as error:
            step = call.throw(error)
        else:
            step = call.send(outcome)
    return step


class Client:
    """Call one streamapp server; may be shared between threads, and with forked processes.

        for event in Client("http://127.0.0.1:8000").stream("/stream", {"prompt": "a red circle"}):
            print(event.name, event.data)

    Args:
        url: where the server is, without the path of an endpoint. The environment's proxy (`HTTPS_PROXY` and so on) is
            used unless that is this machine.
        key: its API key, sent as `Authorization: Key ...`, to this server only.
        patience_s: how long to go on trying, without any progress, when a connection is lost or the server is busy.
        resume_window_s: how long the server shall keep a stream's job running for a reader that was cut off.
        silence_s: how long a stream may say nothing before it counts as cut. The server sends a heartbeat every 10 s.

    Raises:
        NotSent: the URL, the key or the proxy is none.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        patience_s: float = 30.0,
        resume_window_s: float = 10.0,
        silence_s: float = 45.0,
    ) -> None:
        self._server = Server.at(url, key)
        self._patience_s = patience_s
        self._resume_window_s = resume_window_s
        self._silence_s = silence_s
        self._reach = Reach()
        self._sessions: weakref.WeakSet[Session[Any]] = weakref.WeakSet()
        self._connect()

    def _connect(self) -> None:
        self._http = httpx.Client(**self._server.options(httpx.HTTPTransport, True))
        self._process_id = os.getpid()
        # Not `__del__`: the finalizer also runs at exit, while the modules it needs are still there.
        self._hang_up = weakref.finalize(self, self._http.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; streams that are still open break off."""
        for session in [*self._sessions]:
            session.close()
        self._hang_up()

    def stream(
        self, path: str, input: Any = None, *, timeout_s: float | None = None, accept: str = core.EVENT_STREAM
    ) -> "Stream":
        """Start a job and return its events; blocks until the server begins to answer, about a second at most.

        Args:
            input: the endpoint's arguments: what JSON holds, PIL images, paths, bytes and open files.
            timeout_s: how long the whole stream may take; looked at with every event and heartbeat.
            accept: "application/x-ndjson" or "text/plain" for a stream of lines or text, which cannot be resumed.

        Raises:
            ApiError: the server refused; the class says why.
            ConnectionFailed: no answer came.
            DeadlineExceeded: `timeout_s` has passed.
            NotSent: `path` is another server's.
            UnexpectedAnswer: the endpoint does not stream.
        """
        return self._stream(path, encode_input(input), deadline=Deadline(timeout_s), accept=accept)

    @overload
    def connect(self, path: str, *, output: None = None, timeout_s: float | None = None) -> Session[Any]: ...
    @overload
    def connect(self, path: str, *, output: Callable[[Any], T], timeout_s: float | None = None) -> Session[T]: ...
    def connect(
        self, path: str, *, output: Callable[[Any], Any] | None = None, timeout_s: float | None = None
    ) -> Session[Any]:
        """Open a session, which takes inputs while its outputs come, over a WebSocket; blocks until it is open.

        Args:
            output: makes of an output's data what `recv` and `outputs` give, as `Picture.model_validate` does.
            timeout_s: how long the whole session may take.

        Raises:
            ApiError: the server refused; the class says why.
            ConnectionFailed: no answer came.
            DeadlineExceeded: `timeout_s` has passed.
            NotSent: `path` is another server's, or the package websockets is missing.
            UnexpectedAnswer: there is no session at `path`.
        """
        dialogue = Dialogue(
            path,
            resume_window_s=self._resume_window_s,
            silence_s=self._silence_s,
            patience=self._patience(),
            deadline=Deadline(timeout_s),
            download=self._download,
        )
        line = Line(self._server, self._loops, dialogue, self._silence_s)
        session = Session(self, line, output or as_it_is)
        self._sessions.add(session)
        return session

    def run(self, path: str, input: Any = None, *, timeout_s: float = 660.0) -> Any:
        """Call an endpoint that returns one JSON value, and return it.

        Args:
            input: as for `stream`.
            timeout_s: how long to wait for the value. The default is a minute over the server's own deadline, so that
                the server is first and says why.

        Raises:
            ApiError: the server refused, or the endpoint failed; the class says why.
            ConnectionFailed: no answer came.
            DeadlineExceeded: `timeout_s` has passed.
            UnexpectedAnswer: the endpoint streams, or answers no JSON.
        """
        return self._do(calls.run(path, encode_input(input), self._patience(), Deadline(timeout_s)))

    def submit(self, path: str, input: Any = None) -> "JobHandle":
        """Start a job that runs on without readers, and return its handle; raises as `run` does."""
        return self.job(self._submit(path, input, Deadline()).id)

    def job(self, job_id: str) -> "JobHandle":
        """Return the handle of a job that exists already; sends nothing."""
        return JobHandle(self, job_id)

    def subscribe(
        self,
        path: str,
        input: Any = None,
        *,
        on_update: Callable[[JobStatus], Any] = lambda status: None,
        logs: bool = False,
        timeout_s: float | None = None,
    ) -> Any:
        """Start a job, tell how it goes, and return its result.

        Args:
            on_update: called, in this thread, with each change of the job's state or place in the queue, as the server
                tells them in the one stream that this reads.
            logs: call it with new lines of the job's log too, in `status.logs`.
            timeout_s: how long the whole may take; then the job is cancelled. Looked at with every event and heartbeat,
                and where none comes.

        Raises:
            DeadlineExceeded: `timeout_s` has passed.
        """
        deadline = Deadline(timeout_s)
        job = self._submit(path, input, deadline)
        reader = self._conversation("", None, job_id=job.id, deadline=deadline, follows=True)
        try:
            return self._do(calls.follow(job, on_update, reader, self._patience, deadline, logs=logs))
        except BaseException:
            self._cancel(job.id)  # without effect on a job that is over
            raise

    def download(self, url: str) -> bytes:
        """Get a file of this server, or what a data URI holds: small files come as such.

        Raises:
            ApiError: the server refused.
            NoImage: the file is on another server, which must never see the key; or the data URI is broken.
        """
        return self._download(url, core.MAX_FILE_BYTES)

    def _download(self, url: str, max_bytes: int = MAX_BYTES) -> bytes:
        if url.startswith("data:"):
            return decode_data_uri(url)
        with self._server.answering():
            return self._wire().fetch(Send("GET", self._server.file(url), read_s=self._silence_s), max_bytes)

    @cached_property
    def _loops(self) -> Connections:
        """Return the connections of the sessions' loops, of which each has its own."""
        return Connections(self._server)

    def _wire(self) -> _Wire:
        if os.getpid() != self._process_id and not self._http.is_closed:
            self._hang_up.detach()
            self._connect()  # on the connections from before the fork, each process would read the other's answers
        return _Wire(self._http, self._server)

    def _submit(self, path: str, input: Any, deadline: Deadline) -> JobStatus:
        return cast("JobStatus", self._do(calls.submit(path, encode_input(input), self._patience(), deadline)))

    def _patience(self) -> Patience:
        return Patience(self._patience_s, self._reach)

    def _conversation(self, path: str, content: bytes | None, **options: Any) -> Conversation:
        return Conversation(
            path,
            content,
            resume_window_s=self._resume_window_s,
            silence_s=self._silence_s,
            patience=self._patience(),
            download=self._download,
            **options,
        )

    def _stream(self, path: str, content: bytes | None, **options: Any) -> "Stream":
        conversation, wire = self._conversation(path, content, **options), self._wire()
        stream = Stream(self, conversation, wire, cancels="job_id" not in options)
        try:
            self._do(conversation.start(), wire)
        except BaseException:
            stream.close()
            raise
        return stream

    def _do(self, call: Call[Any], wire: _Wire | None = None) -> Any:
        used = wire or self._wire()
        try:
            with self._server.answering():
                _advance(call, used)
        except StopIteration as stop:
            return stop.value
        finally:
            if wire is None:
                used.hang_up()

    def _cancel(self, job_id: str) -> None:
        """Cancel a job, if the server can be told so soon; else it learns from the closing connection."""
        if not self._http.is_closed:
            with suppress(httpx.RequestError, ClientError):
                self._wire().fetch(Send("POST", core.job_path(job_id, "/cancel"), read_s=core.CANCEL_TIMEOUT_S))


class Stream(Iterator[Event]):
    """Iterate over the events of one job, in one thread; leaving early cancels the job.

    Left by `close`, by the end of a `with` block, or by letting go of the last reference, as `break` does in
    `for event in client.stream(...)`. A connection that is cut is resumed: every event comes once, in order. An `error`
    or `cancelled` event raises.
    """

    def __init__(self, client: Client, conversation: Conversation, wire: _Wire, *, cancels: bool) -> None:
        self._conversation = conversation
        self._events = _read(conversation, wire, client._server)
        canceller = client if cancels else None
        self._leave = weakref.finalize(self, _leave, canceller, conversation.transcript, wire, os.getpid())

    @property
    def job_id(self) -> str | None:
        """Return the job's id; None from a server that has no jobs."""
        return self._conversation.transcript.job_id

    @property
    def result(self) -> Any:
        """Return the data of the last lasting event once the stream has ended well; None before."""
        return self._conversation.transcript.result

    @property
    def reconnects(self) -> int:
        """Return how often the stream was cut and resumed."""
        return self._conversation.reconnects

    def __next__(self) -> Event:
        """Wait for the next event.

        Raises:
            ApiError: the job failed, or somebody else cancelled it; the class says why.
            DeadlineExceeded: the stream's `timeout_s` has passed; the job is cancelled.
            StreamInterrupted: the connection was cut, or fell silent, and could not be resumed in time.
            UnexpectedAnswer: an event is not JSON.
        """
        try:
            return next(self._events)
        except BaseException:  # StopIteration and KeyboardInterrupt too: nothing comes any more
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel the job unless it is over, and close the connection; may be called again."""
        self._leave()
        self._events.close()


def _read(conversation: Conversation, wire: _Wire, server: Server) -> Generator[Event, None, None]:
    """Yield the events. A function: a method's frame would keep its Stream alive after a `break`."""
    call = conversation.events()
    while True:
        try:
            with server.answering():
                event = _advance(call, wire)
        except StopIteration:
            return
        yield event


def _leave(client: Client | None, transcript: core.Transcript, wire: _Wire, process_id: int) -> None:
    if os.getpid() != process_id:
        return  # a fork that ends: the stream is the other's
    if client is not None and transcript.job_id and not transcript.is_over:
        client._cancel(transcript.job_id)
    wire.hang_up()


class JobHandle:
    """Follow a job that runs on without readers.

    Attributes:
        id: the job.
    """

    def __init__(self, client: Client, job_id: str) -> None:
        self.id = job_id
        self._client = client

    def status(self) -> JobStatus:
        """Ask for its state.

        Raises:
            NotFound: the server does not have the job, or no longer.
        """
        return cast("JobStatus", self._client._do(calls.status(self.id, self._client._patience(), Deadline())))

    def events(self, *, after: str | None = None) -> Stream:
        """Return its events, from the first one that is kept; leaving them early does not cancel the job.

        Args:
            after: the id of the last event seen.
        """
        return self._client._stream("", None, job_id=self.id, after=after, deadline=Deadline())

    def result(self, *, timeout_s: float | None = None) -> Any:
        """Wait for its end, and return its result.

        Raises:
            ApiError: it failed, or was cancelled; the class says why.
            DeadlineExceeded: `timeout_s` has passed; the job goes on.
        """
        return self._client._do(calls.result(self.id, self._client._patience, Deadline(timeout_s)))

    def cancel(self) -> JobStatus:
        """End it; without effect on a job that is over."""
        return cast("JobStatus", self._client._do(calls.cancel(self.id, self._client._patience(), Deadline())))
