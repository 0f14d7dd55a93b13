"""Join apps with their workers, and carry them through the server's life: start, drain, stop.

Knows no HTTP: `build` puts it behind routes, `server` calls its drain, and `run_once` and tests use it without either.
What runs the jobs it knows as `Worker`s; `thread_and_tasks` alone says which classes they are of.
"""

import asyncio
import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, suppress
from types import CodeType, MappingProxyType
from typing import Any, NamedTuple

from .app import App, enter_app, served_apps
from .budget import Budget
from .endpoint import EndpointSpec
from .errors import DefinitionError, SetupFailed, StreamAppError, WorkerStuck
from .fetch import MediaLimits
from .inputs import InputReader
from .jobs.channel import ChannelStatistics
from .jobs.job import Job, JobRequest
from .jobs.jobs import Jobs
from .jobs.store import JobStore
from .jobs.stream import Stream
from .places import Places
from .process.logs import logger
from .process.threads import ends_within, in_own_thread
from .session import SessionSpec
from .settings import Settings, enter_settings
from .stores.files import FileStore, LocalFiles
from .workers.binding import Binding
from .workers.capture import capture
from .workers.production import end_productions, productions_on
from .workers.sessions import Session
from .workers.tasks import TaskWorker
from .workers.thread import ThreadWorker
from .workers.watchdog import LoopWatchdog
from .workers.worker import OUT_OF_SERVICE, Worker, WorkerStatistics, trace_of

EXIT_SETUP_FAILED = 3
EXIT_STUCK = 70  # EX_SOFTWARE of sysexits.h: a supervisor should start the process again
_STUCK_PATIENCE_S = 0.5  # for a thread that had its `drain_s` and still does not come back from a job
_TEARDOWN_S = 10.0  # at most
_END_S = 2.0  # after `drain_s`, until all that is ours has ended
#: those that run in this process now
running: list["Runtime"] = []


class Readiness(NamedTuple):
    """Say whether jobs are taken, and why not."""

    is_ready: bool
    reason: str
    #: where the app's setup raised; in debug
    traceback: str | None = None
    #: how long the apps have been loading
    loading_s: float | None = None


class Workers(NamedTuple):
    """Name the workers of an app."""

    #: for `def` endpoints; it also runs the app's setup and teardown
    sync: Worker
    #: for `async def` endpoints, and those that run beside a job
    tasks: Worker


class ServedApp:
    """Hold one app instance with its endpoints and workers.

    Args:
        files: where the app's inputs and results may have files.
        on_broken: for its workers to call, in any thread, when one is out of service; the process should end.
        make_workers: called last, with all else in place.
        max_queue: what the deployment says of it; the class's where None.
    Attributes:
        max_queue: jobs that may wait for the app; the deployment's setting where None.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        files: FileStore,
        on_broken: Callable[[StreamAppError], None],
        make_workers: "MakeWorkers",
        max_queue: int | None = None,
    ) -> None:
        self.app = app
        self.settings = settings
        self.max_queue = type(app).max_queue if max_queue is None else max_queue
        self.name = str(type(app).app_name)
        self.endpoints = type(app).endpoints()
        self.session_specs = type(app).session_specs()
        self.on_broken = on_broken
        self._loop: asyncio.AbstractEventLoop | None = None
        # What stops a job cannot wait until it has ended: fal calls these beside it.
        cancels = {f"{spec.path.rstrip('/')}/cancel" for spec in self.endpoints}
        self._beside = {spec.path for spec in self.endpoints if spec.path.rstrip("/") in cancels}
        limits = MediaLimits.of(settings, files.find)
        self._files, self._limits = files, limits
        self._bindings: dict[str, Binding] = {}
        for spec in self.endpoints:
            self.bind(spec)
        self._sessions = {
            spec.path: Session(Binding(app, spec.inputs, InputReader(spec.inputs, limits), files), spec)
            for spec in self.session_specs
            if spec.mode != "raw"
        }
        self.workers = make_workers(self)

    def bind(self, spec: EndpointSpec) -> None:
        """Have jobs of an endpoint run here; call it before the start. One that no route leads to, a face asks for.

        Raises:
            DefinitionError: another is at its path.
        """
        if spec.path in self._bindings:
            other = self._bindings[spec.path].spec.function.__qualname__
            raise DefinitionError(
                f"{other} and {spec.function.__qualname__} are both at {spec.path!r}; change one path"
            )
        reader = InputReader(spec, self._limits)
        self._bindings[spec.path] = Binding(self.app, spec, reader, self._files, is_beside=spec.path in self._beside)

    @property
    def ready(self) -> Future[None]:
        """Return what is done when setup has returned, and holds `SetupFailed` when it raised."""
        return self.workers.sync.ready

    def start(self) -> None:
        """Start the workers; call it on the loop."""
        self._loop = asyncio.get_running_loop()
        for binding in (*self._bindings.values(), *(session.binding for session in self._sessions.values())):
            binding.loop = self._loop
        served_apps.append(self.app)
        for worker in self.workers:
            worker.start()

    def stop(self) -> None:
        """Note that the app is served no more: its workers have ended."""
        served_apps[:] = [app for app in served_apps if app is not self.app]

    def worker_of(self, spec: EndpointSpec | SessionSpec) -> Worker:
        """Return the worker that runs an endpoint's jobs, or a method's sessions."""
        return self.workers.tasks if spec.is_async or spec.path in self._beside else self.workers.sync

    def is_beside(self, job: Job) -> bool:
        """Say whether a job is one of an endpoint that hears of the cancels of another."""
        return job.request.endpoint in self._beside

    def setup(self) -> None:
        """Run the app's setup; blocks, also where it is `async def` and runs on the loop."""
        self._call_hook(self.app.setup)

    def teardown(self) -> None:
        """Run the app's teardown; blocks like `setup`."""
        self._call_hook(self.app.teardown)

    def capture(self, job: Job) -> AbstractContextManager[None]:
        """Return what turns the prints and bars of a run into the job's events, where app or job asks for it."""
        cls = type(self.app)
        logs = cls.capture_logs or job.request.captures_logs
        return capture(job.channel, logs=logs, progress=cls.capture_progress)

    def reader_of(self, spec: EndpointSpec) -> InputReader:
        """Return what reads an endpoint's input."""
        return self._bindings[spec.path].reader

    def session_reader(self, spec: SessionSpec) -> Session:
        """Return what validates the inputs of a method's sessions, one by one."""
        return self._sessions[spec.path]

    def session_of(self, job: Job) -> Session:
        """Return what runs a job that is a session."""
        return self._sessions[job.request.endpoint]

    def run(self, job: Job, stream: Stream) -> Any:
        """Run a job's endpoint, as `Run` says; in the job's context."""
        return self._bindings[job.request.endpoint].run(job, stream)

    def begin(self, job: Job, stream: Stream) -> Any:
        """Run a job's sync endpoint, for a worker that has others to run meanwhile, as `Binding.begin` says."""
        return self._bindings[job.request.endpoint].begin(job, stream)

    def request(
        self,
        spec: EndpointSpec,
        job_id: str,
        *,
        timeout_s: float | None = None,
        queue_timeout_s: float | None = None,
        **asked: Any,
    ) -> JobRequest:
        """Describe a job of an endpoint's, with the limits that hold for it.

        Args:
            timeout_s, queue_timeout_s: what the caller asks for, where it does.
            asked: the other fields of a `JobRequest`.
        """
        mark, cls = spec.mark, type(self.app)
        if queue_timeout_s is None:
            patience = (mark.queue_timeout_s, cls.request_start_timeout, self.settings.queue_timeout_s)
            queue_timeout_s = next((seconds for seconds in patience if seconds is not None), None)
        return JobRequest(
            id=job_id,
            app=self.name,
            endpoint=spec.path,
            joins=spec.joins,
            timeout_s=timeout_s or mark.timeout_s or cls.request_timeout or self.settings.timeout_s,
            queue_timeout_s=queue_timeout_s,
            **asked,
        )

    def session_request(self, spec: SessionSpec, job_id: str, **asked: Any) -> JobRequest:
        """Describe a session, with the limits that hold for it: its time is that of each turn, and its turns wait for
        as long as they have to.

        Args:
            asked: the other fields of a `JobRequest`.
        """
        timeout_s = spec.mark.timeout_s or type(self.app).request_timeout or self.settings.timeout_s
        return JobRequest(
            id=job_id, app=self.name, endpoint=spec.path, input=None, joins=False, timeout_s=timeout_s, **asked
        )

    def _call_hook(self, hook: Callable[[], Any]) -> None:
        enter_app(self.app)  # in this thread's context, which goes to the loop as well
        enter_settings(self.settings)
        result = hook()
        if inspect.isawaitable(result):  # what an async hook opens belongs to the loop
            assert self._loop is not None
            waiting = asyncio.run_coroutine_threadsafe(_wait_for(result), self._loop)
            error = waiting.exception() or waiting.result()  # raised here, no line of theirs is in its traceback
            if error is not None:
                raise error


async def _wait_for(awaitable: Any) -> BaseException | None:
    """Return what a hook raised that would stop the loop if its task ended with it."""
    try:
        await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return error
    return None


MakeWorkers = Callable[[ServedApp], Workers]


def thread_and_tasks(served: ServedApp) -> Workers:
    """Make an app's workers: its inference thread, and tasks on the loop."""
    cls = type(served.app)
    thread = ThreadWorker(
        served.name,
        served.settings,
        run=served.run if cls.max_running == 1 else served.begin,
        session_of=served.session_of,
        max_running=cls.max_running,
        max_queue=served.max_queue,
        setup=served.setup,
        teardown=served.teardown,
        capture=served.capture,
        on_broken=served.on_broken,
    )
    tasks = TaskWorker(
        served.name,
        served.settings,
        run=served.run,
        ready=thread.ready,
        max_running=cls.max_multiplexing,
        is_beside=served.is_beside,
        session_of=served.session_of,
        capture=served.capture,
    )
    return Workers(thread, tasks)


class Runtime:
    """Run several apps in one process; every method runs on the loop unless it says otherwise.

    Args:
        store: keeps jobs beyond this process; nothing does when None.
        files: keeps uploads and large results; on this machine's disk when None.
        make_workers: makes what runs an app's jobs.
        max_queues: how many jobs may wait for an app, by its name, where the class does not decide.
    Attributes:
        on_exit: called, in any thread, with an exit code when the process should end.
        observers: called with each job that has ended, in any thread.
        inputs: counts the bytes of all requests and jobs under way.
        places: counts the sessions under way.
    """

    def __init__(
        self,
        apps: Iterable[App],
        settings: Settings,
        store: JobStore | None = None,
        files: FileStore | None = None,
        make_workers: MakeWorkers = thread_and_tasks,
        max_queues: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self.settings = settings
        self.jobs = Jobs(settings, store)
        self.inputs = Budget(settings.max_input_bytes)
        self.places = Places(settings.max_sessions, is_open=settings.api_key is None)
        self.files: FileStore = LocalFiles(settings) if files is None else files
        self.served = [
            ServedApp(app, settings, self.files, self._broken, make_workers, max_queues.get(str(type(app).app_name)))
            for app in apps
        ]
        names = [served.name for served in self.served]
        for name in names:
            if names.count(name) > 1:
                raise DefinitionError(f"two apps are named {name!r}; give one a class keyword name=...")
        self.observers: list[Callable[[Job], None]] = []
        self.on_exit: Callable[[int], None] | None = None
        self._kept: set[asyncio.Task[None]] = set()
        #: called, in any thread, with an exit code when the loop is blocked for good: nobody else can end the process
        self.on_blocked: Callable[[int], None] | None = None
        self._watchdog = LoopWatchdog(self._async_codes(), stuck_s=settings.stuck_s, on_stuck=self._blocked)
        self._drains_since: float | None = None
        self._started_at: float | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Start the workers; again is without effect."""
        if self._started_at is not None:
            return
        self._started_at = time.monotonic()
        running.append(self)
        self._loop = asyncio.get_running_loop()
        self._watchdog.start()
        for served in self.served:
            served.start()

    async def submit(self, job: Job, served: ServedApp, spec: EndpointSpec | SessionSpec) -> Job:
        """Take a job in, and return it; or that of an earlier request with the same key.

        Raises:
            QueueFull, Draining, SetupFailed, WorkerStuck: it is refused.
        """
        if not self.is_draining:
            self.start()
        kept = await self.jobs.add(job)
        if kept is not job:
            return kept
        job.on_ended += self.observers
        if job.share is not None:
            job.share.holders.add(job.id)
        try:
            served.worker_of(spec).submit(job)
        except StreamAppError:
            self.jobs.forget(job)
            if job.share is not None:
                job.share.let_go(job.id)
            raise
        return job

    async def submit_session(self, job: Job, served: ServedApp, spec: SessionSpec) -> None:
        """Take a session in: a job of `ServedApp.session_request`, with an inbox. It goes on until its inputs have
        ended, and its code is done with them.

        Raises:
            Unavailable: there are too many sessions.
            Draining, SetupFailed, WorkerStuck: it is refused.
        """
        assert job.inbox is not None
        network = "" if job.request.caller else job.payer
        self.places.take(job, app=served.name, kind="realtime", network=network)
        job.on_ended.append(self.places.leave)
        try:
            await self.submit(job, served, spec)
        except BaseException:  # refused, or its socket has gone meanwhile: its end will not be heard of
            self.places.leave(job)
            raise
        if spec.mark.session_timeout is not None:
            job.inbox.end_when_idle(spec.mark.session_timeout)

    def position(self, job: Job) -> int:
        """Return how many jobs are before this one: 0 when it is next or running."""
        return max(worker.position(job) for worker in self._workers())

    @property
    def is_on_loop(self) -> bool:
        """Say whether who asks is async code on its loop, and not on another, in a thread."""
        return asyncio.get_running_loop() is self._loop

    def call_on_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call something soon on the loop; from any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(function, *arguments)

    def keep(self, request: asyncio.Task[None]) -> None:
        """Let a request that was answered go on; `stop` waits for it, and what it raises is logged."""
        self._kept.add(request)
        request.add_done_callback(self._let_go)

    def _let_go(self, request: asyncio.Task[None]) -> None:
        self._kept.discard(request)
        if not request.cancelled() and request.exception() is not None:
            logger.error("a request failed after its answer", exc_info=request.exception())

    def readiness(self) -> Readiness:
        """Say whether jobs are taken."""
        if self.is_draining:
            return Readiness(False, "draining")
        for worker in self._workers():
            state = worker.state
            if state != "ready":
                trace = trace_of(worker.ready) if self.settings.debug else None
                since = self._started_at if state == "starting" else None
                loading_s = None if since is None else time.monotonic() - since
                return Readiness(False, f"{worker.name}: {state}", trace, loading_s)
        return Readiness(True, "ready")

    def is_healthy(self) -> bool:
        """Say whether every worker is in service: its threads are alive and come back from their jobs."""
        return all(worker.state not in OUT_OF_SERVICE for worker in self._workers())

    @property
    def is_draining(self) -> bool:
        """Say whether no more jobs are taken, as the server is about to end."""
        return self._drains_since is not None

    def begin_drain(self) -> None:
        """Take no more jobs, and see the sessions off."""
        if self._drains_since is None:
            self._drains_since = time.monotonic()
        self.places.begin_drain()
        for worker in self._workers():
            worker.begin_drain()

    async def drain(self) -> None:
        """Take no more jobs, let the running ones and `handle_exit` end until `drain_s`, then end them."""
        self.begin_drain()
        hooks = [asyncio.create_task(self._tell_exit(served)) for served in self.served]
        if self._started_at is not None and not await self._becomes_idle(self.drain_left_s()):
            for worker in self._workers():
                worker.cancel_running()
            await self._becomes_idle(_STUCK_PATIENCE_S)
        for served, hook in zip(self.served, hooks, strict=True):
            if not await ends_within(max(self.drain_left_s(), _STUCK_PATIENCE_S), hook):
                logger.error("handle_exit of %s has not returned; the drain goes on", served.name)
        await self._end_productions(self._patience_s(True))

    async def _end_productions(self, patience_s: float) -> None:
        """End what is produced for many readers, which has no end of its own to wait for."""
        loop = asyncio.get_running_loop()
        end_productions(loop)
        if producing := productions_on(loop):
            await asyncio.wait(producing, timeout=patience_s)

    def drain_left_s(self, more_s: float = 0) -> float:
        """Return how much time the drain has left, and what comes after it `more_s`."""
        since = time.monotonic() if self._drains_since is None else self._drains_since
        return max(0, since + self.settings.drain_s + more_s - time.monotonic())

    async def _tell_exit(self, served: ServedApp) -> None:
        hook = served.app.handle_exit
        enter_app(served.app)
        try:
            if inspect.iscoroutinefunction(hook):
                await hook()
                return
            result = await in_own_thread(f"exit-{served.name}", hook)  # it may block, and the loop has streams to serve
            if inspect.isawaitable(result):
                await result
        except (Exception, SystemExit, KeyboardInterrupt):  # the app's own code: the drain goes on, the log says why
            logger.exception("handle_exit of %s failed", served.name)

    async def stop(self) -> None:
        """Run the apps' teardown and end the threads; of what does not end, nothing is waited for `_END_S` after the
        drain's time is over. Again is without effect, unless it was broken off.
        """
        if self._is_stopped:
            return
        self.begin_drain()
        if self._kept:  # jobs have ended; what their dependencies gave is being closed, where their code has returned
            await asyncio.wait(self._kept, timeout=self._patience_s(self._is_idle()))
        closing = asyncio.ensure_future(in_own_thread("files", self.files.close))
        if not await ends_within(self._patience_s(True), closing):
            logger.error("the files could not be deleted in time; the next server does it")
        await self.jobs.close(self._patience_s(True))
        await self._end_productions(self._patience_s(False))  # which use what `teardown` releases
        if self._started_at is not None:
            self._watchdog.stop()
            await asyncio.gather(*map(self._join, self._workers()))
            for served in self.served:
                served.stop()
            running.remove(self)
        self._is_stopped = True

    async def _join(self, worker: Worker) -> None:
        patience_s = self._patience_s(worker.is_idle)
        if not await in_own_thread(f"join-{worker.name}", worker.join, patience_s):
            logger.error("the inference thread of %s did not end; its teardown is left out", worker.name)

    def _patience_s(self, is_idle: bool) -> float:
        return min(_TEARDOWN_S if is_idle else _STUCK_PATIENCE_S, self.drain_left_s(_END_S))

    def _is_idle(self) -> bool:
        return not self.places and all(worker.is_idle for worker in self._workers())

    async def _becomes_idle(self, timeout_s: float) -> bool:
        until = time.monotonic() + timeout_s
        while not self._is_idle():
            if time.monotonic() >= until or not self.is_healthy():
                return False
            await asyncio.sleep(0.01)
        return True

    def _broken(self, error: StreamAppError) -> None:
        if self.is_draining and isinstance(error, SetupFailed):
            return  # it was broken off: the process ends as it was told to
        if self.on_exit is not None:
            self.on_exit(EXIT_STUCK if isinstance(error, WorkerStuck) else EXIT_SETUP_FAILED)

    def _blocked(self) -> bool:
        if any(worker.state == "starting" for worker in self._workers()):  # an async setup may load a model
            return False
        if self.on_blocked is None:
            logger.critical("the event loop is blocked for good; end this process")
        else:
            self.on_blocked(EXIT_STUCK)
        return True

    def _workers(self) -> Iterator[Worker]:
        return (worker for served in self.served for worker in served.workers)

    def worker_statistics(self) -> Iterator[tuple[str, str, WorkerStatistics]]:
        """Yield the figures of each worker: the app's name, "sync" or "async", and what the worker says."""
        for served in self.served:
            yield served.name, "sync", served.workers.sync.statistics()
            yield served.name, "async", served.workers.tasks.statistics()

    def channel_statistics(self) -> Iterator[ChannelStatistics]:
        """Yield the figures of the channels of all jobs that are queued or running."""
        return (job.channel.statistics() for job in self.jobs)

    def _async_codes(self) -> dict[CodeType, str]:
        return {
            function.__code__: f"{spec.path} ({type(served.app).__name__}.{spec.name})"
            for served in self.served
            for spec in (*served.endpoints, *(session.inputs for session in served.session_specs))
            if spec.is_async and inspect.isfunction(function := inspect.unwrap(spec.function))
        }
