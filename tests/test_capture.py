"""Capture: what a job prints, logs and shows as bars becomes its events, and nobody else's output changes."""

import asyncio
import contextvars
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rich.console
import tqdm  # type: ignore[import-untyped]
import tqdm.auto  # type: ignore[import-untyped]
from tests.waiting import WAIT_S

from streamapp.errors import Cancelled, ErrorReport
from streamapp.jobs.channel import Channel
from streamapp.jobs.events import Event
from streamapp.settings import Settings
from streamapp.workers.capture import capture

STOPPED = ErrorReport(499, "cancelled", "the job was cancelled")
logger = logging.getLogger("somewhere.deep")


Screen = pytest.CaptureFixture[str]
Interrupting = Callable[[Callable[[], None]], Event]


@pytest.fixture(autouse=True)
def screen(capsys: Screen) -> Iterator[Screen]:
    logger.setLevel(logging.DEBUG)
    yield capsys
    logger.setLevel(logging.NOTSET)


@pytest.fixture
def channel() -> Channel:
    return Channel(Settings())


def lines(channel: Channel) -> list[tuple[str, str, str]]:
    """Return the job's log as (level, source, message)."""
    found = [event.json() for event in channel.events() if event.kind == "log"]
    return [(line["level"], line["source"], line["message"]) for line in found]


def messages(channel: Channel) -> list[str]:
    return [message for _, _, message in lines(channel)]


def write(*words: str, end: str = "\n", file: Any = None) -> None:
    (file or sys.stdout).write(" ".join(words) + end)


def bars(channel: Channel) -> list[dict[str, Any]]:
    return [event.json() for event in channel.events() if event.kind == "progress"]


# Prints


def test_what_a_finalizer_prints_in_the_midst_of_the_channel_is_nobodys(
    channel: Channel, screen: Screen, interrupted_by: Interrupting
) -> None:
    bar = tqdm.tqdm(total=2, file=io.StringIO())

    def finalize() -> None:
        write("late")
        bar.close()

    with capture(channel, logs=True, progress=True):
        channel.emit(interrupted_by(finalize))
    assert (channel.last_n, lines(channel), bars(channel)) == (1, [], [])
    assert "late" in screen.readouterr().out


def test_a_job_that_did_not_ask_is_left_alone(channel: Channel, screen: Screen) -> None:
    with capture(channel, logs=False, progress=False):
        write("hello")
    assert (channel.last_n, screen.readouterr().out) == (0, "hello\n")


def test_what_a_job_prints_becomes_its_log_line_by_line(channel: Channel, screen: Screen) -> None:
    with capture(channel, logs=True, progress=False):
        write("one\ntwo", end="")
        write("", "three")
        write("broken", file=sys.stderr)
    assert lines(channel) == [
        ("STDOUT", "stdout", "one"),
        ("STDOUT", "stdout", "two three"),
        ("STDERR", "stderr", "broken"),
    ]
    assert screen.readouterr() == ("one\ntwo three\n", "broken\n")


def test_a_last_line_without_an_end_is_not_lost_also_when_the_endpoint_raises(channel: Channel) -> None:
    with pytest.raises(ValueError, match="why"), capture(channel, logs=True, progress=False):
        sys.stdout.writelines(["one\n", "about to ", "fail"])
        raise ValueError("why")
    assert messages(channel) == ["one", "about to fail"]


def test_of_a_line_that_is_drawn_over_the_last_state_counts(channel: Channel) -> None:
    with capture(channel, logs=True, progress=False):
        write("10 %\r50 %\r100 %\n\n")
    assert messages(channel) == ["100 %"]


def test_a_line_without_end_takes_bounded_memory(channel: Channel) -> None:
    with capture(channel, logs=True, progress=False):
        write("x" * 100_000)
        for _ in range(100):
            write("y" * 1000, end="")
    assert [len(message) for message in messages(channel)] == [8192, 8192]


def test_after_the_job_prints_are_nobodys(channel: Channel, screen: Screen) -> None:
    with capture(channel, logs=True, progress=False):
        pass
    write("later")
    assert messages(channel) == []
    assert screen.readouterr().out == "later\n"


def test_other_threads_output_is_untouched(channel: Channel, screen: Screen) -> None:
    def elsewhere() -> None:
        write("elsewhere")
        logger.error("elsewhere")

    with capture(channel, logs=True, progress=False):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join(WAIT_S)
    assert messages(channel) == []
    assert screen.readouterr().out == "elsewhere\n"


def test_a_thread_with_a_copy_of_the_jobs_context_belongs_to_it(channel: Channel) -> None:
    with capture(channel, logs=True, progress=False):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(write, "helping"))
        thread.start()
        thread.join(WAIT_S)
    assert messages(channel) == ["helping"]


def test_nested_jobs_do_not_mix(channel: Channel) -> None:
    inner = Channel(Settings())
    with capture(channel, logs=True, progress=False):
        write("outer", end="")
        with capture(inner, logs=True, progress=False):
            write("inner")
        write("outer again")
    assert messages(channel) == ["outer", "outer again"]
    assert messages(inner) == ["inner"]


async def test_jobs_at_the_same_time_do_not_mix() -> None:
    turn = asyncio.Barrier(2)

    async def job(name: str) -> list[str]:
        channel = Channel(Settings())
        with capture(channel, logs=True, progress=False):
            for n in range(3):
                write(name, end=" ")
                await turn.wait()
                write(str(n))
        return messages(channel)

    assert [*await asyncio.gather(job("a"), job("b"))] == [["a 0", "a 1", "a 2"], ["b 0", "b 1", "b 2"]]


async def test_a_print_on_the_loop_does_not_wait_for_a_slow_reader() -> None:
    channel = Channel(Settings(ahead_events=1))
    reader = channel.subscribe(is_owner=True)
    task = asyncio.create_task(reader.wait(WAIT_S))
    await asyncio.sleep(0)
    with capture(channel, logs=True, progress=False):
        for n in range(5):
            write(str(n))
    assert await task
    assert len(reader.take()) == 5


def test_the_streams_keep_their_other_faces(channel: Channel) -> None:
    encoding = sys.stdout.encoding
    with capture(channel, logs=True, progress=False):
        assert sys.stdout.encoding == encoding
        sys.stdout.buffer.write(b"bytes")
        sys.stdout.flush()


def test_a_job_may_put_a_stream_of_its_own_in_their_place(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture(channel, logs=True, progress=False):
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        write("into the void")
    assert messages(channel) == []


def test_a_print_after_the_end_stops_the_job(channel: Channel) -> None:
    with pytest.raises(Cancelled), capture(channel, logs=True, progress=False):
        channel.cancel(STOPPED)
        write("too late")


async def test_a_print_after_the_end_of_a_job_on_the_loop_stops_nothing() -> None:
    """It can be that of a task which the job has started for all; its own task is cancelled."""
    channel = Channel(Settings())
    with capture(channel, logs=True, progress=False):
        channel.cancel(STOPPED)
        write("too late")
    assert messages(channel) == []


def draw_a_bar() -> None:
    for _ in tqdm.tqdm(range(3), mininterval=0):
        pass


USES = pytest.mark.parametrize(
    "use", [lambda: write("x"), lambda: logger.info("x"), draw_a_bar], ids=["print", "log", "bar"]
)


@USES
def test_a_thread_that_a_job_has_left_behind_goes_on(channel: Channel, use: Callable[[], None]) -> None:
    """All jobs may use it: a batcher that the first one has started."""
    used = threading.Event()

    def run() -> None:
        use()
        used.set()

    with capture(channel, logs=True, progress=True):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
        channel.cancel(STOPPED)
        thread.start()
        thread.join(WAIT_S)
    assert used.is_set()


@USES
def test_what_a_later_job_runs_in_the_context_of_one_that_is_over_goes_on(
    channel: Channel, use: Callable[[], None]
) -> None:
    """Both are in the inference thread, as are the tasks of a loop that the app keeps there."""
    with capture(channel, logs=True, progress=True):
        context = contextvars.copy_context()
    channel.finish()
    with capture(Channel(Settings()), logs=True, progress=True):
        context.run(use)


def test_what_is_left_on_a_line_when_the_job_is_over_hides_no_error(channel: Channel) -> None:
    with pytest.raises(ValueError, match="why"), capture(channel, logs=True, progress=False):
        write("half", end="")
        channel.cancel(STOPPED)
        raise ValueError("why")
    with capture(Channel(Settings()), logs=True, progress=False):
        write("a new line")


# Log records


@pytest.mark.parametrize(
    ("level", "shown"), [(10, "DEBUG"), (20, "INFO"), (25, "INFO"), (30, "WARN"), (40, "ERROR"), (50, "ERROR")]
)
def test_a_log_record_keeps_its_level_and_source(channel: Channel, level: int, shown: str) -> None:
    with capture(channel, logs=True, progress=False):
        logger.log(level, "%d steps", 3)
    assert lines(channel) == [(shown, "somewhere.deep", "3 steps")]


def test_a_record_comes_once_whoever_writes_it_to_the_screen(
    channel: Channel, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # then logging's last resort writes to stderr
    with capture(channel, logs=True, progress=False):
        logger.warning("hello")
        logger.addHandler(handler := logging.StreamHandler())
        logger.warning("again")
        logger.removeHandler(handler)
    assert messages(channel) == ["hello", "again"]
    assert screen.readouterr().err == "hello\nagain\n"


def test_a_record_shows_its_exception(channel: Channel) -> None:
    with capture(channel, logs=True, progress=False):
        try:
            raise ValueError("too wide")
        except ValueError:
            logger.exception("failed")
    assert messages(channel)[0].startswith("failed\nTraceback")
    assert messages(channel)[0].endswith("ValueError: too wide")


def test_a_logger_that_does_not_propagate_is_heard_too(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of diffusers and transformers do not."""
    monkeypatch.setattr(logger, "propagate", False)
    with capture(channel, logs=True, progress=False):
        logger.info("loaded")
    assert messages(channel) == ["loaded"]


def test_a_record_below_its_loggers_level_is_not_made(channel: Channel) -> None:
    logger.setLevel(logging.ERROR)
    with capture(channel, logs=True, progress=False):
        logger.info("quiet")
    assert messages(channel) == []


def test_the_servers_own_records_are_not_the_jobs(channel: Channel) -> None:
    with capture(channel, logs=True, progress=False):
        logging.getLogger("streamapp").error("of the server")
        logging.getLogger("streamapp.serve.server").error("of the server")
        logging.getLogger("streamapplication").error("of the app")
        logging.makeLogRecord({"msg": "not logged yet"})
    assert messages(channel) == ["of the app"]


def test_a_record_whose_arguments_do_not_fit_does_not_break_the_job(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    with capture(channel, logs=True, progress=False):
        logger.error("%d steps", "three")
    assert messages(channel) == ["%d steps"]


def loguru_like(line: str) -> None:
    with LOCK:
        write(line)


LOCK = threading.Lock()
CONSOLE = rich.console.Console(force_terminal=False)


@pytest.mark.parametrize(
    "say",
    [CONSOLE.print, loguru_like, tqdm.tqdm.write, logger.warning, write],
    ids=["rich", "a lock of one's own", "tqdm.write", "logging", "print"],
)
async def test_a_line_never_waits_for_the_reader(say: Callable[[str], None]) -> None:
    """Whoever prints may hold a lock: the loop that prints there too would stand still, and with it the reader."""
    channel = Channel(Settings(ahead_events=2, behind_events=4), awaits_owner=True)
    reader = channel.subscribe(is_owner=True)

    def job() -> None:
        with capture(channel, logs=True, progress=False):
            for n in range(9):
                say(f"line {n}")

    await asyncio.to_thread(job)
    say("from the loop")
    told = [event.json()["message"] for event in reader.take()]
    assert told == [*(f"line {n}" for n in range(4)), "5 lines left out: the reader is too far behind"]


async def test_lines_left_out_are_told_before_the_next_one_that_finds_room() -> None:
    channel = Channel(Settings(ahead_events=2, behind_events=2), awaits_owner=True)
    reader = channel.subscribe(is_owner=True)
    with capture(channel, logs=True, progress=False):
        for n in range(4):
            write(str(n))
        assert len(reader.take()) == 2
        write("after")
    assert [event.json()["message"] for event in reader.take()] == [
        "2 lines left out: the reader is too far behind",
        "after",
    ]


def test_what_was_left_out_of_a_job_that_is_over_is_not_told() -> None:
    channel = Channel(Settings(ahead_events=1, behind_events=1), awaits_owner=True)
    with capture(channel, logs=True, progress=False):
        write("kept")
        write("left out")
        channel.cancel(STOPPED)
    assert messages(channel) == ["kept"]


def test_what_a_forked_child_prints_goes_to_the_screen_alone(channel: Channel, screen: Screen) -> None:
    with capture(channel, logs=True, progress=True):
        write("of the parent")
        child = os.fork()
        if child == 0:
            write("of the child")
            os._exit(len(messages(channel)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


# Progress bars


@pytest.mark.parametrize("make", [tqdm.tqdm, tqdm.auto.tqdm])
def test_a_bar_becomes_progress(channel: Channel, make: Any) -> None:
    with capture(channel, logs=False, progress=True), make(total=4, desc="denoise", mininterval=0) as bar:
        bar.update(1)
        bar.update(2)
    assert bars(channel) == [{"step": 3, "total": 4, "message": "denoise"}]


def test_a_bar_without_an_end_has_no_total(channel: Channel) -> None:
    with capture(channel, logs=False, progress=True):
        for _ in tqdm.tqdm(iter("abc"), mininterval=0, miniters=1):
            pass
    assert bars(channel) == [{"step": 3, "total": None}]


@pytest.mark.parametrize("progress", [True, False])
def test_a_bar_is_no_log_line(channel: Channel, screen: Screen, progress: bool) -> None:
    with capture(channel, logs=True, progress=progress):
        for _ in tqdm.tqdm(range(3), mininterval=0):
            for _ in tqdm.tqdm(range(2), mininterval=0):
                pass
    assert messages(channel) == []
    assert "100%" in screen.readouterr().err


def test_a_bar_elsewhere_is_untouched(channel: Channel, screen: Screen) -> None:
    with capture(channel, logs=False, progress=True):
        pass
    for _ in tqdm.tqdm(range(3), mininterval=0):
        pass
    assert bars(channel) == []
    assert "3/3" in screen.readouterr().err


def test_a_cancelled_job_stops_at_its_bars_next_step_and_leaves_tqdm_usable(channel: Channel) -> None:
    """`tqdm.refresh` does not release its global lock when drawing raises."""
    with pytest.raises(Cancelled), capture(channel, logs=False, progress=True):
        bar = tqdm.tqdm(total=3, mininterval=0)
        channel.cancel(STOPPED)
        bar.update()
    bar.close()
    elsewhere = threading.Thread(target=lambda: list(tqdm.tqdm(range(3))), daemon=True)
    elsewhere.start()
    elsewhere.join(WAIT_S)
    assert not elsewhere.is_alive()


def test_without_tqdm_there_are_no_bars_to_capture(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tqdm.std")
    with capture(channel, logs=False, progress=True):
        write("works")
    assert channel.last_n == 0


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_prints_without_a_console_go_nowhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    channel = Channel(Settings())
    monkeypatch.setattr(sys, name, None)
    with capture(channel, logs=True, progress=False):
        print("nobody sees it", file=getattr(sys, name))
    assert getattr(sys, name) is None
