"""Find jobs by id and by key, for those whose they are, and let go of them in time.

Jobs of this process are kept in memory, finished ones for a while. With a `JobStore` they are kept there as well, from
before they are queued: each job's log is written as it grows, and a job that is no longer here is read from there.
"""

import asyncio
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, NamedTuple

from ..errors import InvalidInput, JobNotFound, JobUnfinished, StreamAppError
from ..process.logs import logger
from ..process.threads import ends_within
from ..settings import Settings
from .events import BEGINNINGS, REPLACEABLE, TERMINAL, Event
from .job import KEPT_REQUEST, Job, RequestKey, request_bytes
from .store import JobRecord, JobStore

_JOB_BYTES = 4096  # what a finished job takes besides its events: 3.6 kB measured
_LOOK_S = 60.0  # how often a job's log is looked at where nothing happens, and the store told to let go of old jobs
_RETRIES_S = (0.1, 1.0, 5.0)  # after which a store that fails is asked again
_PAGE = 1000
_STATES = TERMINAL | BEGINNINGS  # events after which a job's record has changed


class JobsStatistics(NamedTuple):
    """Count jobs by state."""

    #: over, and still kept
    finished: int
    #: ended in each way since the start
    succeeded: int
    failed: int
    cancelled: int


class EndpointStatistics(NamedTuple):
    """Count the jobs of one endpoint."""

    queued: int
    running: int
    #: ended in each way since the start
    succeeded: int
    failed: int
    cancelled: int
    #: of those that have ended, how many were no first attempt
    repeated: int


class _Kept(NamedTuple):
    """Hold a job that is over, until a moment."""

    job: Job
    until: float
    size: int


class _Payer:
    """Hold what one payer has of the jobs that are over: them, oldest first, and their bytes."""

    __slots__ = ("kept", "name", "rank", "size")

    def __init__(self, name: str) -> None:
        self.name = name
        self.kept: OrderedDict[str, _Kept] = OrderedDict()
        self.size = 0
        self.rank: tuple[bool, int] | None = None

    def own_rank(self) -> tuple[bool, int] | None:
        """Return where it stands by what it has now; None where that is nothing."""
        return (len(self.kept) > 1, self.size.bit_length()) if self.kept else None


class _Finished:
    """Hold the jobs that are over, by how long they are kept the oldest first, and what each payer has of them.

    Attributes:
        size: bytes of all.
    """

    def __init__(self) -> None:
        self.size = self._count = 0
        #: by for how long they are kept, of which there are few
        self._by_time: defaultdict[float | None, OrderedDict[str, _Kept]] = defaultdict(OrderedDict)
        self._payers: dict[str, _Payer] = {}
        # Payers of about as much: to look at all would take 5 ms for 10 000 of them, at each end of a job.
        self._alike: dict[tuple[bool, int], dict[_Payer, None]] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, kept: _Kept) -> None:
        job, size = kept.job, kept.size
        self._by_time[job.request.kept_s][job.id] = kept
        self.size += size
        self._count += 1
        payer = self._payers.get(job.payer)
        if payer is None:
            payer = self._payers[job.payer] = _Payer(job.payer)
        payer.kept[job.id] = kept
        payer.size += size
        rank = payer.own_rank()
        if rank != payer.rank:
            self._move(payer, rank)

    def pop_old(self, now: float) -> Job | None:
        """Let go of a job that need not be kept any more, if there is one."""
        for jobs in self._by_time.values():
            kept = next(iter(jobs.values()), None)
            if kept is not None and kept.until < now:
                return self._pop(kept)
        return None

    def remove(self, job: Job) -> None:
        """Let go of a job, unless it has just ended and is not here yet."""
        kept = self._by_time[job.request.kept_s].get(job.id)
        if kept is not None:
            self._pop(kept)

    def pop_of_largest(self) -> Job:
        """Let go of the oldest job of a payer that has most, to the power of two, but rather of one that has several.

        So whoever fills the memory does so at their own cost, and an only result is there for whom it was made.
        """
        payer = next(iter(self._alike[max(self._alike)]))
        return self._pop(next(iter(payer.kept.values())))

    def _pop(self, kept: _Kept) -> Job:
        job, payer = kept.job, self._payers[kept.job.payer]
        del self._by_time[job.request.kept_s][job.id], payer.kept[job.id]
        self.size -= kept.size
        self._count -= 1
        payer.size -= kept.size
        self._move(payer, payer.own_rank())
        if not payer.kept:
            del self._payers[payer.name]
        return job

    def _move(self, payer: _Payer, rank: tuple[bool, int] | None) -> None:
        """Put a payer behind those of its rank."""
        if payer.rank is not None:
            alike = self._alike[payer.rank]
            del alike[payer]
            if not alike:
                del self._alike[payer.rank]
        if rank is not None:
            self._alike.setdefault(rank, {})[payer] = None
        payer.rank = rank


class Jobs:
    """Keep jobs: those that are over for `job_ttl_s`, or as their requests say, in memory at most `max_kept_bytes` of
    them, or the last one.

    Every method runs on the loop; a job's end arrives from any thread through an atomic `deque.append`.

    Args:
        store: keeps them beyond this process; nothing does when None.
    """

    def __init__(self, settings: Settings, store: JobStore | None = None) -> None:
        self._settings = settings
        self._store = store
        self._kept: dict[str, Job] = {}
        self._active: dict[str, Job] = {}
        self._by_key: dict[tuple[str, str], Job] = {}
        self._ended: deque[tuple[float, Job]] = deque()
        self._finished = _Finished()
        self._counts: Counter[tuple[str, str, str]] = Counter()  # by app, endpoint, and how they ended
        self._leaving: dict[str, asyncio.TimerHandle] = {}  # of jobs that are let go of in any state
        self._adding: dict[tuple[str, str], asyncio.Lock] = {}
        self._writing: dict[str, asyncio.Task[None]] = {}
        self._expired_at = 0.0

    async def add(self, job: Job) -> Job:
        """Keep a job from now on; returns it, or that of an earlier request with the same key that only the store knew.

        A later attempt takes the place of the job that it repeats.

        Raises:
            StreamAppError: the store cannot keep it.
            JobUnfinished: the job that it repeats is not over.
        """
        self.expire()
        if self._store is None:
            return self._keep(job)
        key, caller, repeats = job.request.key, job.request.caller, job.attempt > 1
        if key is None and not repeats:
            return await self._add(self._store, job)
        name = job.id if key is None or repeats else key.key
        turn = self._adding.setdefault((caller, name), asyncio.Lock())
        try:
            async with turn:  # of several that come at once, the others wait for the first to be known
                earlier = None if key is None or repeats else await self.started_by(key, caller)
                return await self._add(self._store, job) if earlier is None else earlier
        finally:
            if not turn.locked():
                self._adding.pop((caller, name), None)

    async def _add(self, store: JobStore, job: Job) -> Job:
        if job.attempt > 1:
            self._refuse_unfinished(job)
            if (writing := self._writing.get(job.id)) is not None:
                writing.cancel()
            await store.delete(job.id)  # the log of what is repeated has an end
        kept = await store.add(_record(job))
        if kept.request.id != job.id:
            return _checked(job.request.key, await self.find(kept.request.id, job.request.caller))
        self._write(store, job)
        return self._keep(job)

    def _keep(self, job: Job) -> Job:
        if (earlier := self._kept.get(job.id)) is not None:  # which this one repeats
            self._refuse_unfinished(job)
            self._finished.remove(earlier)
            self._delete(earlier)
        self._active[job.id] = job
        self._note(job)
        job.on_ended.append(self._note_end)
        if job.is_over:
            self._note_end(job)
        return job

    def _refuse_unfinished(self, job: Job) -> None:
        self._collect()
        if job.id in self._active:
            raise JobUnfinished(f"job {job.id} is being run again already")

    def _note(self, job: Job) -> None:
        self._kept[job.id] = job
        key = _key(job)
        if key is not None:
            self._by_key[key] = job
        if (ttl_s := job.request.ttl_s) is not None:
            left_s = max(0, job.created_at + ttl_s - job.now())
            self._leaving[job.id] = asyncio.get_running_loop().call_later(left_s, self._let_go, job)

    def restore(self, job: Job) -> None:
        """Keep a job that is over as before: the one that was to repeat it was refused."""
        if job.id in self._kept:
            return
        self._note(job)
        assert job.finished_at is not None
        self._finish(job, time.monotonic() - (job.now() - job.finished_at))

    def _let_go(self, job: Job) -> None:
        """Let go of a job whose time is over, in whatever state it is."""
        del self._leaving[job.id]
        job.cancel(f"its ttl of {job.request.ttl_s:g} s is over")
        self._collect()
        self._finished.remove(job)
        self._delete(job)
        if self._store is not None:
            self._forget_in(self._store, job)

    async def find(self, job_id: str, caller: str) -> Job:
        """Return a job of a caller's.

        Raises:
            JobNotFound: there never was such a job, it is no longer kept, or it is somebody else's.
            JobUnfinished: it is under way in another process.
        """
        self.expire()
        job = self._kept.get(job_id)
        if job is None and self._store is not None:
            job = await self._load(self._store, job_id, caller)
        if job is None or job.request.caller != caller:
            raise JobNotFound(
                f"job {job_id[:64]!r} is not here: jobs are kept {self._settings.job_ttl_s:g} s after their end"
            )
        return job

    async def started_by(self, key: RequestKey, caller: str) -> Job | None:
        """Return the job that a caller's request started when it came before, unless that has nothing to answer it
        with.

        Raises:
            InvalidInput: the key came with another input.
        """
        self.expire()
        job = self._by_key.get((caller, key.key))
        if job is None or job.status == "cancelled" or job.has_own_answer:
            return None
        return _checked(key, job)

    def forget(self, job: Job) -> None:
        """Let go of a job that was refused; nobody waits for a store to do so."""
        self._active.pop(job.id, None)
        self._delete(job)
        if self._store is not None:
            self._forget_in(self._store, job)

    async def close(self, timeout_s: float) -> None:
        """Wait until the logs of jobs that are over have been written, and end the store, within `timeout_s` each."""
        if self._writing:
            _, late = await asyncio.wait(self._writing.values(), timeout=timeout_s)
            for task in late:
                task.cancel()
        if self._store is not None:
            closing = asyncio.ensure_future(self._store.close())
            if not await ends_within(timeout_s, closing):
                logger.error("the store of jobs could not be closed in time")
            elif closing.exception() is not None:
                logger.error("the store of jobs could not be closed", exc_info=closing.exception())

    def __iter__(self) -> Iterator[Job]:
        """Iterate over the jobs that are queued or running."""
        self.expire()
        return iter(list(self._active.values()))

    def expire(self) -> None:
        """Let go of finished jobs that are too old or too many."""
        self._collect()
        now = time.monotonic()
        while (job := self._finished.pop_old(now)) is not None:
            self._delete(job)
        while self._finished.size > self._settings.max_kept_bytes and len(self._finished) > 1:
            self._delete(self._finished.pop_of_largest())

    def statistics(self) -> JobsStatistics:
        """Count the jobs."""
        self.expire()
        ended: Counter[str] = Counter()
        for (_, _, state), count in self._counts.items():
            ended[state] += count
        return JobsStatistics(len(self._finished), ended["succeeded"], ended["failed"], ended["cancelled"])

    def statistics_of(self, app: str, endpoint: str) -> EndpointStatistics:
        """Count the jobs of one endpoint."""
        states = [job.status for job in self if (job.request.app, job.request.endpoint) == (app, endpoint)]
        return EndpointStatistics(
            queued=states.count("queued"),
            running=states.count("running"),
            succeeded=self._counts[app, endpoint, "succeeded"],
            failed=self._counts[app, endpoint, "failed"],
            cancelled=self._counts[app, endpoint, "cancelled"],
            repeated=self._counts[app, endpoint, "repeated"],
        )

    def _delete(self, job: Job) -> None:
        if self._kept.get(job.id) is job:
            del self._kept[job.id]
        if job.request.ttl_s is not None and (timer := self._leaving.pop(job.id, None)) is not None:
            timer.cancel()
        key = _key(job)
        if key is not None and self._by_key.get(key) is job:
            del self._by_key[key]

    def _note_end(self, job: Job) -> None:
        self._ended.append((time.monotonic(), job))

    def _collect(self) -> None:
        while self._ended:
            ended, job = self._ended.popleft()
            if self._active.pop(job.id, None) is None:
                continue
            request = job.request
            self._counts[request.app, request.endpoint, job.status] += 1
            if job.attempt > 1:
                self._counts[request.app, request.endpoint, "repeated"] += 1
            self._finish(job, ended)

    def _finish(self, job: Job, ended: float) -> None:
        request = job.request
        kept_s = self._settings.job_ttl_s if request.kept_s is None else request.kept_s
        size = job.channel.kept_bytes + _JOB_BYTES
        if request.is_repeatable:  # of others no more than that is kept
            size += max(0, request_bytes(request) - KEPT_REQUEST)
        self._finished.add(_Kept(job, ended + kept_s, size))

    # The store.

    def _write(self, store: JobStore, job: Job) -> None:
        """Have a job's log written; the reader that does it is there before the first event."""
        reader = job.channel.subscribe(shows_previews=False, hears_start=True, is_counted=False, holds=True)

        async def write() -> None:
            try:
                while not await self._write_patiently(store, job, reader.take()):
                    reader.settle(reader.n)
                    await reader.wait(_LOOK_S)
            except Exception:  # a store that is out of order: the job goes on, for those who read it here
                logger.exception("job %s is no longer written into the store", job.id)
            finally:
                reader.close()

        self._work(job, write())

    def _work(self, job: Job, work: Coroutine[Any, Any, None]) -> None:
        """Have the store do something about a job; `close` waits for it."""
        task = self._writing[job.id] = asyncio.create_task(work, name=f"store-{job.id}")
        task.add_done_callback(partial(self._has_worked, job.id))

    def _has_worked(self, job_id: str, task: asyncio.Task[None]) -> None:
        if self._writing.get(job_id) is task:
            del self._writing[job_id]

    def _forget_in(self, store: JobStore, job: Job) -> None:
        if (writing := self._writing.get(job.id)) is not None:
            writing.cancel()
        self._work(job, self._delete_from(store, job))

    async def _delete_from(self, store: JobStore, job: Job) -> None:
        try:
            await store.delete(job.id)
        except Exception:  # of a job that was refused, its caller hears why
            logger.exception("job %s was let go of, and is still in the store", job.id)

    async def _write_patiently(self, store: JobStore, job: Job, events: list[Event]) -> bool:
        """Do as `_write_next` does, again where that fails: the same events may come twice."""
        if any(event.kind == "lagged" for event in events):
            raise StreamAppError("the store was behind for longer than a reader may be")
        for pause_s in _RETRIES_S:
            try:
                return await self._write_next(store, job, events)
            except Exception as error:  # the store's own, of whatever kind
                logger.warning("the store cannot write job %s yet: %r", job.id, error)
                await asyncio.sleep(pause_s)
        return await self._write_next(store, job, events)

    async def _write_next(self, store: JobStore, job: Job, events: list[Event]) -> bool:
        """Write what is new in a job's log; True when it has ended."""
        lasting = [event for event in events if event.kind not in REPLACEABLE]
        if not lasting:
            return False
        await store.append(job.id, lasting)
        if any(event.kind in _STATES for event in lasting):
            await store.update(_record(job))
        if not lasting[-1].is_terminal:
            return False
        if time.monotonic() - self._expired_at > _LOOK_S:
            self._expired_at = time.monotonic()
            try:
                await store.expire(time.time() - self._settings.job_ttl_s)
            except Exception:  # this job is written; the next one tries again
                logger.exception("the store did not let go of old jobs")
        return True

    async def _load(self, store: JobStore, job_id: str, caller: str) -> Job | None:
        """Return a caller's job that is over, as it was when it ended; of a long log, the end."""
        record = await store.load(job_id)
        if record is None or record.request.caller != caller or _is_gone(record):
            return None
        if record.finished_at is None:
            raise JobUnfinished(f"job {record.request.id} is {record.status}, but not in this process; ask again later")
        job = Job(record.request, self._settings, attempt=record.attempt, is_live=False)
        job.created_at, job.started_at = record.created_at, record.started_at
        after = 0
        while page := await store.events(job_id, after=after, limit=_PAGE):
            job.channel.take_in(page)
            after = page[-1].n
        job.finished_at = record.finished_at
        return job


def _key(job: Job) -> tuple[str, str] | None:
    key = job.request.key
    return None if key is None else (job.request.caller, key.key)


def _checked(key: RequestKey | None, job: Job) -> Job:
    """Return the job of an earlier request with this key."""
    if job.request.key != key:
        raise InvalidInput("Idempotency-Key: it was sent with another input before; make up a new one per input")
    return job


def _is_gone(record: JobRecord) -> bool:
    """Say whether a job was to be kept for a shorter time than the store keeps all."""
    kept_s = record.request.kept_s
    return kept_s is not None and record.finished_at is not None and record.finished_at + kept_s < time.time()


def _record(job: Job) -> JobRecord:
    finished_at = job.finished_at or job.now()  # it is noted a moment after the job is over
    return JobRecord(
        request=job.request.without_secrets(),
        created_at=job.created_at,
        status=job.status,
        attempt=job.attempt,
        started_at=job.started_at,
        finished_at=finished_at if job.is_over else None,
        has_own_answer=job.has_own_answer,
    )
