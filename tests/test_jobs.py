"""Jobs by id and by key: whose they are, how long they are kept, and what a store keeps of them."""

import asyncio
import gc
import pickle
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.at_work import request
from tests.memory_store import MemoryStore
from tests.waiting import WAIT_S

from streamapp.budget import Budget
from streamapp.errors import ErrorReport, InvalidInput, JobNotFound, JobUnfinished
from streamapp.jobs.events import Event, Preview, to_event
from streamapp.jobs.job import Job, RequestKey
from streamapp.jobs.jobs import Jobs
from streamapp.jobs.store import JobRecord, JobStore
from streamapp.settings import Settings

Advance = Callable[[float], None]
SETTINGS = Settings()


def new(settings: Settings = SETTINGS, **asked: Any) -> Job:
    return Job(request(settings, **asked), settings)


async def ended(jobs: Jobs, **asked: Any) -> Job:
    job = new(**asked)
    await jobs.add(job)
    job.succeed(to_event("x" * 98))  # 100 bytes
    return job


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a store that fails again without a pause."""
    monkeypatch.setattr("streamapp.jobs.jobs._RETRIES_S", (0.0, 0.0))


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Switch the collector of cycles off, which in a server may not run for hours."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# Lookup and expiry


async def test_a_job_is_found_by_its_id() -> None:
    jobs, job = Jobs(Settings()), new()
    await jobs.add(job)
    assert (await jobs.find(job.id, "")) is job
    assert list(jobs) == [job]


async def test_an_unknown_job_is_not_found() -> None:
    with pytest.raises(JobNotFound, match=r"job 'nope' is not here: jobs are kept 600 s after their end"):
        await Jobs(Settings()).find("nope", "")


async def test_a_refused_job_is_forgotten() -> None:
    jobs, job = Jobs(Settings()), new()
    await jobs.add(job)
    jobs.forget(job)
    job.cancel()
    assert (len(list(jobs)), *jobs.statistics()) == (0, 0, 0, 0, 0)
    with pytest.raises(JobNotFound):
        (await jobs.find(job.id, ""))


async def test_ended_jobs_are_counted_by_how_they_ended() -> None:
    jobs = Jobs(Settings())
    for end in (lambda j: j.succeed(None), lambda j: j.fail(ValueError()), lambda j: j.cancel(), lambda j: None):
        job = new()
        await jobs.add(job)
        end(job)
    assert jobs.statistics() == (3, 1, 1, 1)
    assert len(list(jobs)) == 1


async def test_a_job_that_is_over_when_it_is_added_is_counted_once() -> None:
    jobs, job = Jobs(Settings()), new()
    job.cancel()
    await jobs.add(job)
    assert jobs.statistics() == (1, 0, 0, 1)


async def test_a_job_that_ends_while_it_is_added_is_counted_once() -> None:
    for _ in range(100):
        jobs, job = Jobs(Settings()), new()
        together = threading.Barrier(2)

        def end(job: Job = job, together: threading.Barrier = together) -> None:
            together.wait(WAIT_S)
            job.cancel()

        thread = threading.Thread(target=end)
        thread.start()
        together.wait(WAIT_S)
        await jobs.add(job)
        thread.join(WAIT_S)
        assert jobs.statistics() == (1, 0, 0, 1)


async def test_a_finished_job_is_kept_for_its_time(advance: Advance) -> None:
    jobs = Jobs(Settings(job_ttl_s=60))
    job = await ended(jobs)
    advance(59)
    assert (await jobs.find(job.id, "")) is job
    advance(2)
    with pytest.raises(JobNotFound):
        (await jobs.find(job.id, ""))


async def test_a_jobs_time_counts_from_its_end_also_when_nobody_asks_for_long(advance: Advance) -> None:
    jobs = Jobs(Settings(job_ttl_s=60))
    job = await ended(jobs)
    advance(61)
    with pytest.raises(JobNotFound):
        (await jobs.find(job.id, ""))


async def test_the_oldest_finished_jobs_make_room_for_the_bytes_of_new_ones() -> None:
    jobs = Jobs(Settings(max_kept_bytes=3 * 4096 + 500))
    kept = [await ended(jobs) for _ in range(5)]  # 4 096 and about 160 bytes each, the last event included
    assert jobs.statistics().finished == 3
    assert [(await jobs.find(job.id, "")) for job in kept[2:]] == kept[2:]


async def paid(jobs: Jobs, payer: str, size: int = 98) -> Job:
    """End a job that came from an address."""
    job = Job(request(), SETTINGS, share=Budget(2).share(payer, "request"))
    await jobs.add(job)
    job.succeed(to_event("x" * size))
    return job


async def kept(jobs: Jobs, *asked: Job) -> list[bool]:
    jobs.expire()
    return [job.id in jobs._kept for job in asked]


async def test_whoever_has_most_makes_room_for_the_results_of_others() -> None:
    jobs = Jobs(Settings(max_kept_bytes=6 * 4400))
    early = await paid(jobs, "ann")
    many = [await paid(jobs, "bob") for _ in range(10)]
    assert await kept(jobs, early, *many) == [True, *[False] * 5, *[True] * 5]


async def test_who_has_made_room_has_no_longer_most() -> None:
    jobs = Jobs(Settings(max_kept_bytes=80_000))
    ann = [await paid(jobs, "ann", size) for size in (40_000, 98, 98)]
    bob = [await paid(jobs, "bob", size) for size in (20_000, 98, 98)]
    assert await kept(jobs, *ann, *bob) == [False, *[True] * 5]
    await paid(jobs, "cy", 38_000)
    assert await kept(jobs, *ann, *bob) == [False, True, True, False, True, True]


async def test_an_only_result_is_kept_while_another_has_several() -> None:
    jobs = Jobs(Settings(max_kept_bytes=100_000))
    small = [await paid(jobs, "ann") for _ in range(3)]
    large = await paid(jobs, "bob", 90_000)
    assert await kept(jobs, large, *small) == [True, False, False, True]


async def test_only_results_make_room_when_all_are_such() -> None:
    jobs = Jobs(Settings(max_kept_bytes=100_000))
    first, second, third = [await paid(jobs, payer, size) for payer, size in [("a", 9), ("b", 60_000), ("c", 50_000)]]
    assert await kept(jobs, first, second, third) == [True, False, True]


async def test_a_result_that_is_larger_than_all_is_kept_until_the_next() -> None:
    jobs = Jobs(Settings(max_kept_bytes=1))
    large = await ended(jobs)
    assert await kept(jobs, large) == [True]
    assert await kept(jobs, large, await ended(jobs)) == [False, True]


async def test_callers_have_bytes_of_their_own(advance: Advance) -> None:
    jobs = Jobs(Settings(max_kept_bytes=3 * 4400, job_ttl_s=60))
    mine = await ended(jobs, caller="ann")
    others = [await ended(jobs, caller="bob") for _ in range(5)]
    assert await kept(jobs, mine, *others) == [True, *[False] * 3, True, True]
    advance(61)
    assert await kept(jobs, mine, *others) == [False] * 6
    assert (jobs._finished.size, jobs._finished._payers, jobs._finished._alike) == (0, {}, {})


async def test_a_running_job_does_not_expire(advance: Advance) -> None:
    jobs, job = Jobs(Settings(job_ttl_s=1, max_kept_bytes=0)), new()
    await jobs.add(job)
    advance(100)
    assert (await jobs.find(job.id, "")) is job


async def test_ten_thousand_jobs_leave_nothing_behind(advance: Advance, no_collection: None) -> None:
    """Without the collector: a server that has imported torch runs it too rarely to count on it."""
    jobs = Jobs(Settings(job_ttl_s=60))
    left: list[weakref.ref[Job]] = []
    for n in range(10_000):
        job = new(window_s=10)
        await jobs.add(job)
        left.append(weakref.ref(job))
        reader = job.attach(takes_over=True)
        job.start()
        if n % 2:
            job.detach(reader)
        job.succeed(to_event(n))
        reader.take()
        job.detach(reader)
    del job, reader
    advance(61)
    await asyncio.sleep(0.001)  # the timers of the windows
    jobs.expire()
    assert sum(ref() is not None for ref in left) == 0
    assert (list(jobs), *jobs.statistics()[:2]) == ([], 0, 10_000)


async def test_a_job_is_kept_for_the_time_that_its_request_says(advance: Advance) -> None:
    jobs = Jobs(Settings(job_ttl_s=60))
    short, usual, long = [await ended(jobs, kept_s=kept_s) for kept_s in (10, None, 100)]
    for seconds, kept in ((11, [usual, long]), (50, [long]), (50, [])):
        advance(seconds)
        assert jobs.statistics().finished == len(kept)
        assert [job for job in (short, usual, long) if job.id in jobs._kept] == kept


async def test_a_job_is_let_go_of_at_its_ttl_in_whatever_state_it_is(advance: Advance) -> None:
    jobs = Jobs(SETTINGS)
    running, over, lasting = new(ttl_s=10), new(ttl_s=10), new(ttl_s=100)
    for job in (running, over, lasting):
        await jobs.add(job)
    running.start()
    over.succeed(None)
    advance(11)
    await asyncio.sleep(0.001)  # the timers
    assert running.error is not None
    assert running.error.message == "its ttl of 10 s is over"
    assert (list(jobs), jobs.statistics()) == ([lasting], (0, 1, 0, 1))
    for job in (running, over):
        with pytest.raises(JobNotFound):
            await jobs.find(job.id, "")


async def test_a_job_may_end_while_its_ttl_does(advance: Advance) -> None:
    jobs, job = Jobs(SETTINGS), new(ttl_s=10)
    await jobs.add(job)
    job.on_ended.clear()  # they are about to be called
    job.succeed(None)
    advance(11)
    await asyncio.sleep(0.001)  # the timers
    jobs._note_end(job)
    assert jobs.statistics() == (1, 1, 0, 0)
    advance(SETTINGS.job_ttl_s)
    assert jobs.statistics() == (0, 1, 0, 0)


async def test_a_ttl_holds_no_job_that_is_gone(no_collection: None) -> None:
    jobs = Jobs(Settings(job_ttl_s=1e-9))
    job = new(ttl_s=1000)
    await jobs.add(job)
    job.succeed(None)
    left = weakref.ref(job)
    del job
    await asyncio.sleep(0.001)
    jobs.expire()
    assert left() is None


async def test_a_store_lets_go_of_a_job_at_its_ttl(advance: Advance) -> None:
    store = MemoryStore()
    jobs = Jobs(SETTINGS, store)
    running, over = new(ttl_s=10), new(ttl_s=10)
    await jobs.add(running)
    await jobs.add(over)
    over.succeed(None)
    await jobs._writing[over.id]
    advance(11)
    await asyncio.sleep(0.001)  # the timers
    await jobs.close(WAIT_S)
    assert store.records == {}


async def test_a_job_is_not_read_from_the_store_after_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    for asked, is_kept in (({"kept_s": 10}, False), ({"kept_s": 1e9}, True), ({}, True)):
        job = new(**asked)
        before = Jobs(SETTINGS, store)
        await before.add(job)
        job.succeed(None)
        await before.close(WAIT_S)
        record = store._read(store.records[job.id])
        await store.update(replace(record, finished_at=(record.finished_at or 0) - 11))
        after = Jobs(SETTINGS, store)
        if is_kept:
            assert (await after.find(job.id, "")).id == job.id
        else:
            with pytest.raises(JobNotFound):
                await after.find(job.id, "")


async def test_jobs_are_counted_by_their_endpoints() -> None:
    jobs = Jobs(SETTINGS)
    over = [await ended(jobs, endpoint="/a") for _ in range(2)]
    others = [new(endpoint="/a"), new(endpoint="/a"), new(endpoint="/b")]
    for job in others:
        await jobs.add(job)
    others[0].start()
    assert jobs.statistics_of("app", "/a") == (1, 1, len(over), 0, 0, 0)


# Jobs that are run again


def again(job: Job) -> Job:
    return Job(job.request, SETTINGS, attempt=job.attempt + 1)


async def test_a_job_takes_the_place_of_the_one_that_it_repeats() -> None:
    jobs, key = Jobs(SETTINGS), RequestKey("/x k", "1")
    first = new(key=key)
    await jobs.add(first)
    first.fail(ValueError())
    second = again(first)
    await jobs.add(second)
    assert (await jobs.find(first.id, "")) is second
    assert (await jobs.started_by(key, "")) is second
    assert (list(jobs), jobs.statistics()) == ([second], (0, 0, 1, 0))
    second.succeed(None)
    assert jobs.statistics_of("app", "/x") == (0, 0, 1, 1, 0, 1)


async def test_a_job_is_not_repeated_while_it_runs() -> None:
    jobs = Jobs(SETTINGS)
    job = new()
    await jobs.add(job)
    with pytest.raises(JobUnfinished, match="being run again already"):
        await jobs.add(again(job))
    jobs.restore(job)
    assert (await jobs.find(job.id, "")) is job


async def test_a_job_is_kept_on_whose_repetition_was_refused(advance: Advance) -> None:
    jobs = Jobs(Settings(job_ttl_s=60))
    first = new(ttl_s=1000)
    await jobs.add(first)
    first.fail(ValueError())
    advance(50)
    second = again(first)
    await jobs.add(second)
    jobs.forget(second)
    jobs.restore(first)
    assert (await jobs.find(first.id, "")) is first
    advance(11)
    with pytest.raises(JobNotFound):
        await jobs.find(first.id, "")


@pytest.mark.parametrize("is_written", [True, False])
@pytest.mark.parametrize("key", [None, RequestKey("/x k", "1")])
async def test_in_a_store_the_next_attempt_takes_the_place_of_the_one_before(
    key: RequestKey | None, is_written: bool
) -> None:
    store = MemoryStore()
    jobs = Jobs(SETTINGS, store)
    first = new(key=key)
    await jobs.add(first)
    first.fail(ValueError())
    if is_written:
        await jobs._writing[first.id]
    second, third = again(first), again(first)
    added = await asyncio.gather(jobs.add(second), jobs.add(third), return_exceptions=True)
    assert (added[0], type(added[1])) == (second, JobUnfinished)
    second.succeed(to_event("at last"))
    await jobs.close(WAIT_S)
    found = await Jobs(SETTINGS, store).find(first.id, "")
    assert (found.status, found.attempt, found.result and found.result.json()) == ("succeeded", 2, "at last")


async def test_an_input_that_is_kept_to_be_repeated_counts() -> None:
    jobs = Jobs(Settings(max_kept_bytes=100_000))
    for _ in range(3):
        job = new(is_repeatable=True, input=b"x" * 60_000)
        await jobs.add(job)
        job.fail(ValueError())
    assert jobs.statistics().finished == 1


# Requests that come again


async def test_a_request_that_comes_again_finds_its_job() -> None:
    jobs, key = Jobs(SETTINGS), RequestKey("/x k", "1")
    job = new(key=key)
    assert (await jobs.started_by(key, "")) is None
    await jobs.add(job)
    assert (await jobs.started_by(key, "")) is job
    job.succeed(None)
    assert (await jobs.started_by(key, "")) is job


async def test_a_key_that_comes_with_another_input_is_refused() -> None:
    jobs = Jobs(SETTINGS)
    await jobs.add(new(key=RequestKey("/x k", "1")))
    with pytest.raises(InvalidInput, match="another input"):
        await jobs.started_by(RequestKey("/x k", "2"), "")


async def test_a_cancelled_job_gives_its_key_to_the_next() -> None:
    jobs, key = Jobs(SETTINGS), RequestKey("/x k", "1")
    first, second = new(key=key), new(key=key)
    await jobs.add(first)
    first.cancel()
    assert (await jobs.started_by(key, "")) is None
    await jobs.add(second)
    jobs.forget(first)
    assert (await jobs.started_by(key, "")) is second


async def test_a_job_that_answered_itself_answers_no_other_request() -> None:
    jobs, key = Jobs(SETTINGS), RequestKey("/x k", "1")
    job = new(key=key)
    await jobs.add(job)
    job.has_own_answer = True
    job.succeed(None)
    assert (await jobs.started_by(key, "")) is None


async def test_a_key_is_forgotten_with_its_job(advance: Advance) -> None:
    jobs, key = Jobs(SETTINGS), RequestKey("/x k", "1")
    await ended(jobs, key=key)
    advance(SETTINGS.job_ttl_s + 1)
    assert (await jobs.started_by(key, "")) is None
    assert not jobs._by_key


# Whose they are


async def test_what_is_somebody_elses_is_not_found() -> None:
    jobs, job = Jobs(SETTINGS), new(caller="ann")
    await jobs.add(job)
    assert await jobs.find(job.id, "ann") is job
    for caller in ("bob", ""):
        with pytest.raises(JobNotFound):
            await jobs.find(job.id, caller)


async def test_each_caller_has_keys_of_its_own() -> None:
    jobs, key = Jobs(SETTINGS), RequestKey("/x k", "1")
    mine, theirs = new(caller="ann", key=key), new(caller="bob", key=RequestKey("/x k", "2"))
    await jobs.add(mine)
    await jobs.add(theirs)
    assert await jobs.started_by(key, "ann") is mine
    assert await jobs.started_by(RequestKey("/x k", "2"), "bob") is theirs
    assert await jobs.started_by(key, "") is None


# What a store keeps


async def written(jobs: Jobs) -> None:
    """Wait until the logs of all jobs that are over have been written."""
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*jobs._writing.values())


async def run(jobs: Jobs, *outputs: Any, **asked: Any) -> Job:
    job = await jobs.add(new(**asked))
    job.start()
    for output in outputs:
        await job.channel.aemit(to_event(output))
    job.succeed(to_event("end"))
    await written(jobs)
    return job


def told(job: Job) -> Any:
    return [(event.n, event.name, event.data) for event in job.channel.events()]


async def test_a_job_is_read_from_the_store_when_its_process_has_ended() -> None:
    store: JobStore = MemoryStore()
    job = await run(Jobs(SETTINGS, store), *range(3), is_detached=True, input=b"{}" + b" " * 5000)
    found = await Jobs(SETTINGS, store).find(job.id, "")
    assert told(found) == told(job)
    assert (found.status, found.attempt, found.result and found.result.json()) == ("succeeded", 1, "end")
    assert (found.created_at, found.started_at, found.finished_at) == (job.created_at, job.started_at, job.finished_at)
    kept = await store.load(job.id)
    assert kept is not None
    assert (job.request.input, len(kept.request.input or b"")) == (None, 5002)  # as it was added


async def test_the_end_of_a_job_keeps_its_place_also_behind_previews_that_are_not_kept() -> None:
    store = MemoryStore()
    jobs = Jobs(SETTINGS, store)
    job = await jobs.add(new(is_detached=True))
    for step in range(2):
        await job.channel.aemit(to_event(Preview({}, step, 2)))
        await asyncio.sleep(0)
    job.start()
    job.fail(ErrorReport(503, "lost", "gone", True))
    await written(jobs)
    found = await Jobs(SETTINGS, store).find(job.id, "")
    assert (found.error, found.channel.last_n) == (job.error, job.channel.last_n)
    assert [event.kind for event in await store.events(job.id)] == ["started", "error"]


async def test_a_long_log_is_read_in_pages_and_kept_as_far_as_any_other() -> None:
    store, settings = MemoryStore(), Settings(behind_events=1500)
    job = await run(Jobs(settings, store), *range(2200), is_detached=True)
    found = await Jobs(settings, store).find(job.id, "")
    assert (found.channel.last_n, len(found.channel.events())) == (2203, 1501)


async def test_the_joined_text_of_a_long_log_comes_whole_from_the_store() -> None:
    store, settings = MemoryStore(), Settings(behind_events=10)
    jobs = Jobs(settings, store)
    job = await jobs.add(new(settings, is_detached=True, joins=True))
    for n in range(50):
        await job.channel.aemit(to_event(str(n % 10)))
        await asyncio.sleep(0)
    job.succeed(None)
    await written(jobs)
    found = await Jobs(settings, store).find(job.id, "")
    assert found.channel.trimmed_n > 0
    assert found.result is not None
    assert found.result.json() == "0123456789" * 5


async def test_a_job_under_way_elsewhere_is_not_ours_to_show() -> None:
    store = MemoryStore()
    job = await Jobs(SETTINGS, store).add(new(is_detached=True))
    with pytest.raises(JobUnfinished, match="is queued, but not in this process"):
        await Jobs(SETTINGS, store).find(job.id, "")
    with pytest.raises(JobNotFound):  # others do not even hear that it is there
        await Jobs(SETTINGS, store).find(job.id, "bob")
    job.cancel()


async def test_an_unknown_job_is_not_in_the_store_either() -> None:
    with pytest.raises(JobNotFound):
        await Jobs(SETTINGS, MemoryStore()).find("nope", "")


async def test_a_key_is_known_by_the_store_when_its_process_has_ended() -> None:
    store, key = MemoryStore(), RequestKey("/x k", "1")
    job = await run(Jobs(SETTINGS, store), caller="ann", key=key, is_detached=True)
    again = Jobs(SETTINGS, store)
    assert (await again.add(new(caller="ann", key=key))).id == job.id
    with pytest.raises(InvalidInput, match="another input"):
        await again.add(new(caller="ann", key=RequestKey("/x k", "2")))
    other = new(caller="bob", key=key)
    assert await again.add(other) is other
    other.cancel()


async def test_a_refused_job_is_not_kept_in_the_store() -> None:
    store = MemoryStore()
    jobs = Jobs(SETTINGS, store)
    job = await jobs.add(new())
    jobs.forget(job)
    await jobs.close(WAIT_S)
    assert (store.records, await store.unfinished()) == ({}, [])
    assert store.is_closed


async def test_without_a_store_there_is_nothing_to_close() -> None:
    jobs = Jobs(SETTINGS)
    await ended(jobs)
    await jobs.close(WAIT_S)
    assert jobs.statistics().finished == 1


async def test_a_store_keeps_no_job_alive_and_misses_nothing_of_it() -> None:
    class Slow(MemoryStore):
        async def append(self, job_id: str, events: Sequence[Event]) -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            await super().append(job_id, events)

    store, settings = Slow(), Settings(ahead_events=5, behind_events=5)
    job = await run(Jobs(settings, store), *range(300), is_detached=True)
    assert [event.n for event in await store.events(job.id)] == list(range(1, 304))
    jobs = Jobs(settings, store)
    left = await jobs.add(new())
    left.detach(left.attach(takes_over=True))
    assert left.status == "cancelled"
    await jobs.close(WAIT_S)
    assert (await store.load(left.id)).status == "cancelled"  # type: ignore[union-attr]


async def test_a_streamed_job_waits_for_its_owner_also_where_a_store_reads_it_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("streamapp.jobs.delivery._YIELD_EVERY_S", WAIT_S)  # for the owner, not for the loop
    jobs = Jobs(settings := Settings(ahead_events=2), MemoryStore())
    job = await jobs.add(new(settings))
    job.start()
    sent = [job.channel.emit_at_once(to_event(n)) for n in range(3)]
    assert sent == [True, True, False]
    job.cancel()
    await written(jobs)


@pytest.mark.parametrize("fails", ["raises", "stands still"])
async def test_a_store_that_is_out_of_order_stops_no_job(fails: str, caplog: pytest.LogCaptureFixture) -> None:
    goes_on = asyncio.Event()

    class Failing(MemoryStore):
        async def append(self, job_id: str, events: Sequence[Event]) -> None:
            if fails == "raises":
                raise OSError("the disk is gone")
            await goes_on.wait()

    settings = Settings(ahead_events=1, behind_events=1, send_timeout_s=0.01)
    jobs = Jobs(settings, Failing())
    job = await jobs.add(new(settings, is_detached=True))
    job.start()
    for n in range(9):
        await job.channel.aemit(to_event(n))
        await asyncio.sleep(0)
    goes_on.set()
    await written(jobs)
    assert f"job {job.id} is no longer written into the store" in caplog.messages
    assert job.succeed(None)
    assert not job.channel.statistics().subscribers


async def test_a_store_lets_go_of_old_jobs_now_and_then(advance: Advance) -> None:
    store = MemoryStore()
    jobs = Jobs(SETTINGS, store)
    first = await run(jobs, is_detached=True)
    store.records[first.id] = pickle.dumps(replace(await store.load(first.id), finished_at=1.0))  # type: ignore[type-var]
    await run(jobs, is_detached=True)
    assert first.id in store.records
    advance(61)
    await run(jobs, is_detached=True)
    assert first.id not in store.records


async def test_a_job_that_answered_itself_answers_no_request_from_the_store_either() -> None:
    store, key = MemoryStore(), RequestKey("/x k", "1")
    jobs = Jobs(SETTINGS, store)
    job = await jobs.add(new(key=key, is_detached=True))
    job.has_own_answer = True
    job.start()
    job.succeed(None)
    await written(jobs)
    other = new(key=key, is_detached=True)
    assert await Jobs(SETTINGS, store).add(other) is other
    other.cancel()


@pytest.mark.parametrize("fails", ["delete", "expire", "close"])
async def test_what_else_a_store_cannot_do_is_logged_and_stops_nothing(
    fails: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(MemoryStore):
        async def fail(self, *_: Any) -> None:
            raise OSError("the disk is gone")

    store = Failing()
    setattr(store, fails, store.fail)
    jobs = Jobs(SETTINGS, store)
    await run(jobs, is_detached=True)
    refused = await jobs.add(new())
    jobs.forget(refused)
    await jobs.close(WAIT_S)
    assert any("store" in message for message in caplog.messages)


async def test_a_store_that_hangs_is_left_behind_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    class Hanging(MemoryStore):
        async def append(self, job_id: str, events: Sequence[Event]) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            await asyncio.Event().wait()

    jobs = Jobs(SETTINGS, Hanging())
    job = await jobs.add(new())
    job.cancel()
    await asyncio.sleep(0)
    await jobs.close(0.01)
    assert "the store of jobs could not be closed in time" in caplog.messages
    await asyncio.sleep(0)
    assert not job.channel.statistics().subscribers


async def test_of_requests_at_once_with_one_key_the_others_join_the_first() -> None:
    class Slow(MemoryStore):
        async def add(self, record: JobRecord) -> JobRecord:
            kept = await super().add(record)
            await asyncio.sleep(0.001)
            return kept

    jobs, key = Jobs(SETTINGS, Slow()), RequestKey("/x k", "1")
    joined = await asyncio.gather(*(jobs.add(new(key=key, is_detached=True)) for _ in range(9)))
    assert len({job.id for job in joined}) == 1
    assert not jobs._adding
    joined[0].cancel()


async def test_a_store_that_fails_for_a_moment_misses_nothing() -> None:
    class Faltering(MemoryStore):
        failures = 2

        async def append(self, job_id: str, events: Sequence[Event]) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise OSError("for a moment")
            await super().append(job_id, events)

    store = Faltering()
    job = await run(Jobs(SETTINGS, store), 1, 2, is_detached=True)
    assert told(await Jobs(SETTINGS, store).find(job.id, "")) == told(job)
