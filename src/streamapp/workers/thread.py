"""Run jobs in the app's inference thread: one after another, or several that take turns (`turns`).

Setup, every sync endpoint and teardown run in that one thread, as CUDA streams, `inference_mode` and thread-locals
want. So do the turns of sessions; but one whose method goes through its inputs has a thread of its own (`sessions`),
which goes on only while this one waits for it: of all of them one runs at a time. Results that hold images or large
files are encoded in a thread of their own, since a PNG of a megapixel takes 60 ms, for which the GPU would idle.
"""

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from ..errors import Cancelled, SetupFailed, StreamAppError, format_traceback
from ..jobs.content import holds_path
from ..jobs.job import Job
from ..jobs.stream import Stream, Waits, enter_stream
from ..process.forks import ending_forks
from ..process.logs import logger
from ..process.threads import DaemonPool
from ..session import LEAVINGS
from ..settings import Settings
from .results import advice, exhaust, failures, final_event, report, succeed_at_once
from .sessions import Session, SessionThread, inbox_of
from .turns import Rounds
from .worker import Capture, Lane, Run, State, WorkerStatistics, draining

_MAX_ENCODING = 4  # results that wait for their PNGs, megabytes of pixels each; then the inference thread waits
_LOOK_AGAIN_S = 5.0  # no wait is for ever
_LOOK_S = 0.1  # how often it looks, while it waits for them, whether the job is still wanted
# Setups run one after another: diffusers patches torch for all threads while it loads a model, and what another thread
# loads meanwhile has no values. https://github.com/huggingface/accelerate/blob/main/src/accelerate/big_modeling.py
_setting_up = threading.Lock()


class ThreadWorker:
    """Run sync jobs in one thread: a `Worker`.

    Args:
        name: the app's, for the thread's name and messages.
        run: runs a job's endpoint, in the inference thread.
        session_of: what runs a job that is a session.
        max_running: jobs that run at a time; where more than one, `run` returns what the loop is at as `OnLoop`.
        setup, teardown: the app's hooks, run there too.
        on_broken: called, in any thread, when the worker is out of service; the process should end.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        run: Run,
        session_of: Callable[[Job], Session] | None = None,
        max_running: int = 1,
        max_queue: int | None = None,
        setup: Callable[[], None] | None = None,
        teardown: Callable[[], None] | None = None,
        capture: Capture | None = None,
        on_broken: Callable[[StreamAppError], None] | None = None,
    ) -> None:
        self.name = name
        self._lane = Lane(name, settings, max_queue=max_queue, max_running=max_running, on_broken=on_broken)
        self.ready = self._lane.ready
        self._run_endpoint = run
        self._session_of = session_of
        self._threads: dict[Job, SessionThread] = {}
        self._setup = setup
        self._teardown = teardown
        self._capture = capture or (lambda job: nullcontext())
        self._encoder = DaemonPool(1, f"encode-{name}")
        self._encoded = threading.Event()
        self._may_end = threading.Event()
        self._rounds: Rounds | None = None
        if max_running > 1:
            self._rounds = Rounds(
                self._lane,
                max_running,
                run=run,
                capture=self._capture,
                succeed=self._succeed,
                take_session_turn=self._take_turn,
            )

    @property
    def state(self) -> State:
        """Return what the worker is doing."""
        return self._lane.state

    @property
    def is_idle(self) -> bool:
        """Say whether no job waits, runs or is being encoded."""
        return self._lane.is_idle

    def start(self) -> None:
        """Start the thread; setup is its first item, jobs queue meanwhile. On the loop, where jobs take turns."""
        if self._rounds is not None:
            self._rounds.loop = asyncio.get_running_loop()
        self._lane.start(partial(contextvars.copy_context().run, self._work))

    def submit(self, job: Job) -> None:
        """Queue a job; raises as `Worker.submit` says. A session runs from now on, and waits for something to do."""
        if job.inbox is None:
            self._lane.submit(job)
            return
        self._lane.admit(job)
        if not job.start():
            return
        job.inbox.on_change = partial(self._lane.wake, job)
        if job.inbox.is_due or self._session(job).asks:  # what that does before the first input is its own matter
            self._lane.wake(job)

    def position(self, job: Job) -> int:
        """Return how many jobs are before this one in the queue."""
        return self._lane.position(job)

    def begin_drain(self) -> None:
        """Take no more jobs; end the queued ones with a retryable error, let the running one go on."""
        self._lane.begin_drain()

    def cancel_running(self) -> None:
        """End the running job, and those being encoded."""
        self._lane.cancel_running()

    def join(self, timeout_s: float) -> bool:
        """Let teardown run, and wait for it and the end of the thread; False when it did not end in time. Blocks."""
        self._may_end.set()
        return self._lane.join(timeout_s)

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        return self._lane.statistics()

    # The inference thread.

    def _work(self) -> None:
        if self._run_setup():
            run_next = self._run_next if self._rounds is None else self._rounds.run_next
            while run_next():
                pass
            self._finish_encoding()
            while not self._may_end.wait(_LOOK_AGAIN_S):  # the app's tasks on the loop use what setup has loaded
                pass
            self._run_teardown()
        self._lane.close()

    def _run_setup(self) -> bool:
        started = time.monotonic()
        try:
            if self._setup is not None:
                with _setting_up, ending_forks():
                    started = time.monotonic()  # those of other apps are none of it
                    self._setup()
        except BaseException as error:  # a model that cannot be loaded: whatever it raised, readers must hear of it
            said = advice(error)
            logger.exception("setup of %s failed%s", self.name, said)
            message = f"setup of {self.name} failed with {type(error).__name__}{said}"
            # A text: the error would keep what setup had loaded.
            self._lane.break_off("setup_failed", SetupFailed(message, trace=format_traceback(error)))
            return False
        logger.info("setup of %s took %.1f s", self.name, time.monotonic() - started)
        self._lane.open()
        return True

    def _run_next(self) -> bool:
        """Wait for a job and run it; False when no more will come. A frame of its own lets go of the job."""
        jobs = self._lane.take()
        for job in jobs:
            if job.inbox is None:
                self._run(job)
            else:
                self._take_turn(job)
        return bool(jobs)

    def _run(self, job: Job) -> None:
        try:
            if job.start():
                job.context.run(self._call, job)
        except Cancelled:
            job.cancel()  # user code raised it on its own: without effect on a job that is over already
        except BaseException as error:  # whatever user code raises, SystemExit included, ends this job and no other
            report(job, error)
        finally:
            job.returned()
            self._lane.done(job)

    def _take_turn(self, job: Job) -> None:
        """Let a session go on for a turn, and park it, unless it has come to its end."""
        session = self._session(job)
        if self._goes_on(job, session):
            try:
                self._lane.park(job, has_frames=session.asks)
                if session.asks and self._threads[job].is_paused:
                    self._lane.wake(job)
                return
            except StreamAppError:  # a drain: there is no next turn
                job.fail(draining(job))
                if session.asks:
                    self._threads[job].take_turn()  # its code meets the end
        self._threads.pop(job, None)
        job.returned()
        self._lane.done(job)

    def _goes_on(self, job: Job, session: Session) -> bool:
        """Run a turn; say whether there may be another."""
        try:
            if job in self._threads:
                return self._threads[job].take_turn()
            if not session.asks:
                return job.context.run(self._call_session, job, session)
            go = partial(self._go_through, job, session)
            self._threads[job] = SessionThread(job, go, partial(self._lane.goes_on, job))
            return self._threads[job].take_turn()
        except BaseException as error:
            self._end_session(job, error)
            return False

    def _call_session(self, job: Job, session: Session) -> bool:
        inbox = inbox_of(job)
        has_ended = inbox.has_ended  # before: what comes between the two is unread
        inputs = inbox.take()
        if not inputs:
            if has_ended:
                job.succeed(None)
            return not has_ended
        job.channel.begin_turn()
        stream = session.enter(job)
        try:
            with self._capture(job), ending_forks():
                session.extend(inbox, inputs)
                session.run(job, inputs, stream)
        except Exception as error:  # the app's own, at these inputs; the session goes on
            if not session.is_unary:
                raise
            for failure in failures(job, inputs, error):
                job.channel.emit(failure)
        if session.is_unary:
            inbox.settle()
            return True
        job.succeed(None)
        return False

    # The session's own thread, while this one waits.

    def _go_through(self, job: Job, session: Session, waits: Waits) -> None:
        try:
            job.context.run(self._call_to_the_end, job, session, waits)
        except BaseException as error:
            self._end_session(job, error)

    def _call_to_the_end(self, job: Job, session: Session, waits: Waits) -> None:
        job.channel.check()  # it may have ended since it was taken
        stream = session.enter(job, waits)
        with self._capture(job), ending_forks():
            session.run(job, [], stream)
        job.succeed(None)

    def _end_session(self, job: Job, error: BaseException) -> None:
        """End a session with what its code raised, whatever that was."""
        if isinstance(error, LEAVINGS):
            job.succeed(None)
        elif isinstance(error, Cancelled):
            job.cancel()
        else:
            report(job, error)

    def _session(self, job: Job) -> Session:
        assert self._session_of is not None
        return self._session_of(job)

    # The inference thread again.

    def _call(self, job: Job) -> None:
        stream = Stream(job.channel, job.id)
        enter_stream(stream)
        with self._capture(job), ending_forks():
            result = exhaust(self._run_endpoint(job, stream), stream)
        self._succeed(job, result)

    def _succeed(self, job: Job, result: Any) -> None:
        """End a job whose code has returned, or leave that to the encoder's thread."""
        job.returned()
        if succeed_at_once(job, result):
            return
        if holds_path(result):  # the next job may write to the same file
            job.succeed(final_event(job, result))
            return
        self._wait_for_encoder(job)
        self._lane.begin_encoding(job)
        self._encoder.submit(contextvars.copy_context().run, self._encode, job, result)

    def _wait_for_encoder(self, job: Job) -> None:
        """Wait until few enough wanted results are before this job's, as long as it is wanted itself."""
        while sum(not other.is_over for other in self._lane.encoded()) >= _MAX_ENCODING:
            self._wait_for_result()
            job.channel.check()

    def _wait_for_result(self) -> None:
        """Wait until a result has been encoded, and a moment at most: what hangs there may be over meanwhile."""
        self._encoded.wait(_LOOK_S)
        self._encoded.clear()

    def _encode(self, job: Job, result: Any) -> None:
        try:
            if not job.is_over:
                job.succeed(final_event(job, result))
        except BaseException as error:  # reported like an error of the endpoint, whose result it is
            report(job, error)
        finally:
            self._lane.end_encoding(job)
            self._encoded.set()

    def _finish_encoding(self) -> None:
        """Wait for the results that are still wanted; an encoder of the user's may hang."""
        while not all(job.is_over for job in self._lane.encoded()):
            self._wait_for_result()
        self._encoder.shutdown()

    def _run_teardown(self) -> None:
        try:
            if self._teardown is not None:
                with ending_forks():
                    self._teardown()
        except BaseException:  # the process ends anyway; what is left to do is to say so
            logger.exception("teardown of %s failed", self.name)
