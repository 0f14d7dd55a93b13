"""Have jobs run by Runpod's workers elsewhere, which come for them: a `Worker` on a lane, without threads for jobs.

A worker elsewhere is a `Pod`. It asks for jobs (`Take`), sends what comes of them, says now and then which it has
(pings), and holds one request open to hear which to stop (`StopPoll`). All of it happens on the loop; `plane` is HTTP.

What a pod has is on lease. A job has one lease that is *current* at most: what comes for it from anywhere else is not
taken. Its place in the lane is free as soon as the job is over, as no code of ours runs; the lease ends when the pod
shows that it has the job no more.

When is a job lost? The pings are a process of their own, which outlives a killed worker and names what that had. A
handler that blocks its worker's loop lets nothing come but pings, for minutes. So these are the signs, and no others:

- The worker has closed a request that waited here, and asked for nothing, pings aside, for `_GRACE_S`. A process that
  lives and is blocked cannot close any; one that is not blocked asks again at once.
- It has sent pings, and for `SILENT_S` nothing at all: it is cut off, or its machine stands still.
- It has asked for jobs twice and said each time that it has none; or its pings have not named the job for as long.
  Where its process has been there all the time, as its question which to stop was, it has ended the job and could not
  send what came of it: a second time is enough.

A worker that stands still while its pings go on is not lost; the job's deadline ends the job.
"""

import asyncio
import itertools
import time
import types
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary, WeakSet

from ..errors import Cancelled, EndpointFailed, StreamAppError
from ..jobs.events import Event
from ..jobs.job import Job
from ..process.logs import logger
from ..runtime import ServedApp, Workers
from ..workers.results import final_event
from ..workers.tasks import TaskWorker
from ..workers.worker import Lane, State, WorkerStatistics
from .apps import QueueApp, WorkerCounts
from .ids import told_id
from .outcomes import read_failure
from .pods import SILENT_S, Lease, Pod, Take

# How long a worker waits for a job. The real one would wait 90 s; but one that was told to end meanwhile takes a job
# that comes, and may not run it. So it is called before it gets one (`is_there`), unless it has just asked.
_TAKE_S = 5.0
_TRUSTED_S = 0.5
_ASKS_AGAIN_S = 2.0  # within which the real worker asks for jobs when it has none
_SETTLE_S = 1.0  # until a worker that says it has no job, though it was given some, may say it again
_GRACE_S = 5.0
_LOOK_S = 5.0  # how often it is looked who has fallen silent
_FORGET_S = 600.0  # after that of silence nothing is remembered of a worker
#: runs of a job that lost their worker, before it counts as what ends them
MOST_ATTEMPTS = 5
_NO_RESULT = (
    "workers have ended it twice and sent no result; is it JSON, and does every proxy let that many bytes pass? The "
    "worker's log says more"
)
# The real worker hears of a job to stop only when its task is made, 0.1 s after the job came.
_REGISTERED_S = 0.5


class PoolApp(QueueApp):
    """Have workers elsewhere run the jobs.

    Attributes:
        max_workers: how many of them get jobs; those beyond get none.
    """

    max_workers: ClassVar[int | None] = None


def pool_app(endpoint_id: str, **options: Any) -> type[PoolApp]:
    """Return the app whose jobs workers fetch by this id.

    Args:
        options: those of the class, such as `max_workers` and `max_queue`.
    Raises:
        DefinitionError: the id cannot stand in a URL.
    """
    return types.new_class("PoolApp", (PoolApp,), {"name": endpoint_id}, lambda body: body.update(options))


class Pool:
    """Have workers elsewhere run an app's jobs: a `Worker`. All but what `Worker` says is called on the loop."""

    def __init__(self, served: ServedApp) -> None:
        assert isinstance(served.app, PoolApp)
        self.name = served.name
        self.max_workers = served.app.max_workers
        self._settings = served.settings
        self._lane = Lane(served.name, served.settings, max_queue=served.max_queue, on_broken=served.on_broken)
        self.ready = self._lane.ready
        self._pods: dict[str, Pod] = {}
        self._takes: list[Take] = []
        self._given: dict[str, Lease] = {}  # the current leases: as many as run in the lane
        self._turns = itertools.count(1)
        self._streamed: WeakKeyDictionary[Job, Literal["list", "empty"]] = WeakKeyDictionary()
        self._ran_by: WeakKeyDictionary[Job, str] = WeakKeyDictionary()
        self._without_result: WeakSet[Job] = WeakSet()
        self._told_of: WeakSet[Pod] = WeakSet()

    # As every worker.

    @property
    def state(self) -> State:
        """Return what the worker is doing."""
        return self._lane.state

    @property
    def is_idle(self) -> bool:
        """Say whether no job waits or runs; what a pod does with one that is over does not count."""
        return self._lane.is_idle

    def start(self) -> None:
        """Take jobs in; there is nothing to set up here."""
        self._loop = asyncio.get_running_loop()
        self._lane.start()
        self._lane.open()
        self._look()

    def submit(self, job: Job) -> None:
        """Queue a job, or hand it to a pod that waits; raises as `Worker.submit` says."""
        job.on_ended.append(self._note_end)
        self._lane.submit(job)
        self._dispatch()

    def position(self, job: Job) -> int:
        """Return how many jobs are before this one in the queue."""
        return self._lane.position(job)

    def begin_drain(self) -> None:
        """Take no more jobs; end the queued ones with a retryable error, let those of the pods go on."""
        self._lane.begin_drain()
        for take in self._takes:
            take.close()

    def cancel_running(self) -> None:
        """End the jobs that the pods have; the pods are told to stop them."""
        self._lane.cancel_running()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end of the lane's watcher; the pods live on. Blocks."""
        self._lane.close()
        return self._lane.join(timeout_s)

    def statistics(self) -> WorkerStatistics:
        """Return the worker's figures."""
        return self._lane.statistics()

    # For those who answer for its jobs.

    @property
    def is_draining(self) -> bool:
        """Say whether there will be no more jobs."""
        return self._lane.state in ("draining", "stopped")

    def worker_counts(self) -> WorkerCounts:
        """Count the workers that are there; unhealthy are those that stay in a job that they were told to stop."""
        now = time.monotonic()
        pods = list(self._present())
        stuck = sum(pod.is_stuck(now, self._settings.stuck_s) for pod in pods)
        busy = sum(bool(pod.leases) for pod in pods)
        return WorkerCounts(idle=len(pods) - busy, running=busy - stuck, unhealthy=stuck)

    def streamed_output(self, job: Job) -> Literal["list", "empty"] | None:
        """Return what Runpod's clients get as the output of a job that has succeeded: the list of its outputs, an empty
        list, as its handler yields and does not aggregate, or None: its result.
        """
        return self._streamed.get(job)

    def worker_id(self, job: Job) -> str | None:
        """Return the id of the worker that has run a job, or does."""
        return self._ran_by.get(job)

    # Pods come and go.

    @contextmanager
    def visit(self, worker_id: str) -> Iterator[Pod]:
        """Note that a pod asks for something, which no ping is, and for how long it waits for the answer."""
        pod = self._pods.setdefault(worker_id, Pod(worker_id))
        if pod.is_gone:
            logger.info("worker %s of %s has come", worker_id, self.name)
            for job_id in pod.leases:
                pod.stop(job_id)
        pod.is_gone = False
        pod.has_left = pod.has_hung_up  # a request that was under way when it was killed is no sign of life
        pod.asked_at = pod.heard_at = time.monotonic()
        pod.visits += 1
        try:
            yield pod
        finally:
            pod.visits -= 1
            if pod.has_left and not pod.visits:
                self._loop.call_later(_GRACE_S, self._lose_if_silent, pod, pod.asked_at)
            elif pod.stop_polls and not pod.leases:
                self._loop.call_later(_ASKS_AGAIN_S, self._release_if_silent, pod, pod.asked_at)

    def ping(self, worker_id: str, job_ids: Collection[str]) -> None:
        """Take note of which jobs a pod says that it has. By itself that is no sign of life: it may be dead."""
        pod = self._pods.setdefault(worker_id, Pod(worker_id))  # the first ping may come before the first question
        pod.has_pinged, pod.heard_at = True, time.monotonic()
        if pod.is_gone:
            return
        for job_id, lease in list(pod.leases.items()):
            if job_id in job_ids:
                lease.named_at = pod.heard_at
            elif pod.heard_at - lease.named_at > SILENT_S:
                del pod.leases[job_id]
                if self._is_current(lease):
                    self._let_go_of(lease, "does not name it")
        # That ends its question which to stop. A worker that is blocked asks no new one, so that its death would not be
        # noticed; and the job may be one of another's, that is dead and had the same id.
        if not self._has_jobs(pod):
            for job_id in job_ids:
                pod.stop(job_id)

    def _lose_if_silent(self, pod: Pod, since: float) -> None:
        if not pod.visits and pod.asked_at == since:
            self._lose_pod(pod, "has left")

    def _release_if_silent(self, pod: Pod, since: float) -> None:
        """Let a worker end that was told to, asks for no jobs, and waits for the answer which to stop: up to 90 s."""
        if pod.visits == len(pod.stop_polls) and pod.asked_at == since and not pod.leases:
            for poll in pod.stop_polls:
                poll.tell()

    def _look(self) -> None:
        """Lose those who have fallen silent, and forget those who were lost long ago."""
        now = time.monotonic()
        for pod in list(self._pods.values()):
            if not pod.is_gone and pod.is_silent(now):
                self._lose_pod(pod, "is silent")
            if len(pod.stop_polls) > 1 and pod not in self._told_of:
                self._told_of.add(pod)
                logger.warning(
                    "several workers of %s call themselves %s; set RUNPOD_POD_ID for each", self.name, pod.id
                )
            if not pod.visits and not self._has_jobs(pod) and now - pod.heard_at > _FORGET_S:
                del self._pods[pod.id]
        if self._lane.state in ("ready", "draining"):
            self._loop.call_later(_LOOK_S, self._look)

    def _lose_pod(self, pod: Pod, why: str) -> None:
        if pod.is_gone:
            return
        pod.is_gone = True
        logger.info("worker %s of %s %s", pod.id, self.name, why)
        for lease in list(pod.leases.values()):
            if self._is_current(lease):
                self._lose(lease, why)

    def _lose(self, lease: Lease, why: str) -> None:
        """Have a job of a lost worker begin again; the lease stays, as the worker may come back and have it."""
        job = lease.job
        lease.leave()
        if job.is_over:
            return
        logger.warning("job %s: its worker %s %s", job.id, lease.pod.id, why)
        if job.attempt >= MOST_ATTEMPTS:
            job.fail(EndpointFailed(f"endpoint {job.request.path}: {job.attempt} workers were lost while they ran it"))
            return
        if lease.is_begun:
            job.begin_again()
        self._put_back(lease)
        self._dispatch()

    def _let_go_of(self, lease: Lease, why: str) -> None:
        """Have a job begin again that its worker has no more; not a second time where that has ended it itself."""
        job = lease.job
        has_ended = lease.is_watched and len(lease.pod.stop_polls) == 1
        if has_ended and job in self._without_result:
            lease.leave()
            job.fail(EndpointFailed(f"endpoint {job.request.path}: {_NO_RESULT}"))
            return
        if has_ended:
            self._without_result.add(job)
        self._lose(lease, why)

    def _put_back(self, lease: Lease) -> None:
        try:
            self._lane.put_back(lease.job)
        except StreamAppError as error:  # no jobs are taken any more
            lease.job.fail(error)
        else:
            del self._given[lease.id]

    def _present(self) -> Iterator[Pod]:
        return (pod for pod in self._pods.values() if not pod.is_gone)

    def _lease(self, pod: Pod, job_id: str) -> Lease | None:
        """Return where a job is, if it is there."""
        lease = self._given.get(job_id)
        return lease if lease is not None and lease.pod is pod else None

    def _has_jobs(self, pod: Pod) -> bool:
        return any(map(self._is_current, pod.leases.values()))

    def _is_current(self, lease: Lease) -> bool:
        return self._given.get(lease.id) is lease

    # Jobs go out.

    def ask(self, pod: Pod, most: int, *, is_free: bool | None) -> Take:
        """Have a pod wait for jobs, until `collect`.

        Args:
            most: how many it takes.
            is_free: whether it says that it has none; None where it says nothing.
        """
        if is_free:
            self._settle(pod)
        else:
            pod.free_takes = 0
        if is_free and pod.leases:
            return Take(pod, most, patience_s=_SETTLE_S)  # out of line: it may be another process than the one before
        take = Take(pod, most, patience_s=_TAKE_S)
        self._takes.append(take)
        if self.is_draining:
            take.close()
        self._dispatch()
        return take

    async def is_there(self, take: Take) -> bool:
        """Say whether a pod runs what it is given. One that was told to end waits on for an answer, and runs nothing;
        but it does not ask anew which to stop. One that has other jobs is not called, as it may be blocked.
        """
        pod = take.pod
        waited_s = time.monotonic() - take.asked_at
        if len(pod.stop_polls) != 1 or len(pod.leases) > len(take.jobs) or waited_s < _TRUSTED_S:
            return True
        returned = pod.call()
        await asyncio.wait({returned}, timeout=_ASKS_AGAIN_S)
        return returned.done()

    def collect(self, take: Take) -> list[Job]:
        """Return what a pod gets, and end its waiting; those that are over by now are left out."""
        if take in self._takes:
            self._takes.remove(take)
        over = [job for job in take.jobs if job.is_over]
        for job in over:
            take.jobs.remove(job)
            del take.pod.leases[told_id(job)]
        return take.jobs

    def give_back(self, take: Take) -> None:
        """Queue what could not be handed over."""
        for job in self.collect(take):
            self._put_back(take.pod.leases.pop(told_id(job)))
        take.jobs.clear()
        self._dispatch()

    def begin(self, take: Take) -> None:
        """Note that the jobs were handed over."""
        for job in take.jobs:
            lease = take.pod.leases.get(told_id(job))
            if lease is not None and lease.job is job:
                self._ran_by[job] = lease.pod.id
                lease.begin()

    def _settle(self, pod: Pod) -> None:
        """Take note that a pod says that it has no job."""
        pod.free_takes += 1
        current = {job_id: lease for job_id, lease in pod.leases.items() if self._is_current(lease)}
        # Where it asks twice at a time which to stop, another process may have them.
        is_sure = pod.free_takes > 1 and len(pod.stop_polls) < 2
        pod.leases = {} if is_sure else current
        for lease in current.values() if is_sure else ():
            self._let_go_of(lease, "does not know it")

    def _dispatch(self) -> None:
        """Give each job that waits to the pod whose turn it is."""
        while takes := self._takes_with_room():
            jobs = self._lane.take(timeout_s=0)
            if not all(self._give(job, takes) for job in jobs) or not jobs:
                break
        for take in [take for take in self._takes if take.jobs]:
            self._takes.remove(take)
            take.close()

    def _give(self, job: Job, takes: list[Take]) -> bool:
        """Give a job to one of those who ask, but to none that may still have it from an attempt that was lost, and has
        to show first that it has not; False, and it is queued again, where there is no other.
        """
        allowed = [take for take in takes if told_id(job) not in take.pod.leases]
        take = min(allowed or takes, key=lambda take: take.rank)
        lease = Lease(job, take.pod)
        self._given[lease.id] = lease
        if not allowed:
            self._put_back(lease)
            return False
        take.pod.give(lease, next(self._turns))
        take.jobs.append(job)
        return True

    def _takes_with_room(self) -> list[Take]:
        admitted = {pod.id for pod in itertools.islice(self._present(), self.max_workers)}
        return [take for take in self._takes if len(take.jobs) < take.most and take.pod.id in admitted]

    # What comes of them.

    def emit(self, pod: Pod, job_id: str, event: Event) -> Coroutine[Any, Any, None] | None:
        """Take in an output or a progress of a job's; returns what is left to await, where the log is full. What comes
        for a job that the pod has no more, it is told to stop.
        """
        lease = self._lease(pod, job_id)
        if lease is None:
            pod.stop(job_id, again_s=1.0)
            return None
        lease.begin()
        with suppress(Cancelled):
            if not lease.job.channel.emit_at_once(event):
                return self._emit(lease, event)
            lease.note(event)
        return None

    async def _emit(self, lease: Lease, event: Event) -> None:
        """Wait for room; when the pod loses the job, or its request ends, meanwhile, nothing is emitted."""
        emitting = self._loop.create_task(lease.job.channel.aemit(event))
        lease.waiting.add(emitting)
        try:
            await asyncio.wait({emitting})
        finally:
            lease.waiting.discard(emitting)
            emitting.cancel()
        if not emitting.cancelled() and emitting.exception() is None:  # else the job is over
            lease.note(event)

    def finish(
        self,
        pod: Pod,
        job_id: str,
        output: Event | None,
        *,
        error: Any = None,
        streamed: Literal["list", "empty"] | None = None,
        whole: list[Event] | None = None,
    ) -> None:
        """Take in how a job has ended.

        Args:
            output: what its handler has returned.
            whole: all that it has yielded, where that is known and is not what has come.
            error: what it says of its failure; an output with it came before that.
            streamed: what `streamed_output` is to say.
        """
        lease = pod.leases.pop(job_id, None)
        if lease is None or not self._is_current(lease):
            return
        lease.begin()
        job = lease.job
        if error:
            if output is not None:
                with suppress(Cancelled):
                    job.channel.emit(output, waits=False)
            where = f"endpoint {job.request.path}"
            job.fail(read_failure(error, where=where, debug=self._settings.debug))
            return
        if whole is not None:
            self._make_whole(lease, whole)
        if streamed is not None:
            self._streamed[job] = streamed
        # Nothing was yielded: that is no item.
        is_empty = output is None and streamed is not None
        job.succeed(None if is_empty else output or final_event(job, None))

    def outputs_n(self, pod: Pod, job_id: str) -> int:
        """Return how many outputs have come of a pod's attempt at a job."""
        lease = self._lease(pod, job_id)
        return 0 if lease is None else lease.outputs_n

    def _make_whole(self, lease: Lease, outputs: list[Event]) -> None:
        """Emit what was lost on the way: the last ones, or, as none can be put between others, all of them anew."""
        lease.leave()
        job, came = lease.job, lease.outputs_n
        logger.warning("job %s: %d outputs came of the %d that its worker sent", job.id, came, len(outputs))
        kept = [event.data for event in job.channel.events(after=job.attempt_began) if event.kind == "output"]
        if came > len(outputs) or kept != [event.data for event in outputs[came - len(kept) : came]]:
            began = job.started_at
            job.begin_again()
            job.start()
            job.started_at, came = began, 0  # it did not run again
        with suppress(Cancelled):
            for event in outputs[came:]:
                job.channel.emit(event, waits=False)

    # Jobs end.

    def _note_end(self, job: Job) -> None:
        """Hear of a job's end, in any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end, job)

    def _end(self, job: Job) -> None:
        job.returned()
        lease = self._given.get(told_id(job))
        if lease is None or lease.job is not job:
            return
        del self._given[lease.id]
        self._lane.done(job)
        lease.leave()
        lease.stopped_at = time.monotonic()
        if lease.pod.leases.get(lease.id) is lease:
            self._loop.call_later(max(0, lease.given_at + _REGISTERED_S - lease.stopped_at), self._stop, lease)

    def _stop(self, lease: Lease) -> None:
        if lease.pod.leases.get(lease.id) is lease:
            lease.pod.stop(lease.id)


def pool_of(served: ServedApp) -> Workers | None:
    """Return what runs the jobs of a `PoolApp`, None of any other app."""
    if not isinstance(served.app, PoolApp):
        return None
    pool = Pool(served)
    return Workers(pool, TaskWorker(served.name, served.settings, run=served.run, ready=pool.ready))
