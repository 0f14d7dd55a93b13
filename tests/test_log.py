"""The log alone: numbered events in order, slots for replaceable ones, and what is let go of."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamapp.jobs.events import ATTEMPT, Event, Log, Preview, Progress, to_event
from streamapp.jobs.log import MAX_TEXT, EventLog, TrimmedText


def log_of(*values: Any, joins: bool = False) -> EventLog:
    log = EventLog(joins=joins)
    for value in values:
        log.append(to_event(value))
    return log


def beginning(attempt: int) -> Event:
    event = Event("started" if attempt == 1 else "restarted", b"{}")
    event.n = (attempt - 1) * ATTEMPT + 1
    return event


def numbers(events: list[Event]) -> list[int]:
    return [event.n for event in events]


def trim(log: EventLog, max_events: int) -> None:
    log.trim(log.next_index - max_events, 0, log.next_index)


def test_events_are_numbered_in_order() -> None:
    log = log_of("a", Preview({}), "b")
    assert numbers(log.past(0, 0)) == [1, 2, 3]
    assert (log.n, log.next_index, log.kept_events) == (3, 2, 2)


def test_a_newer_one_takes_the_slot_of_its_kind_and_key() -> None:
    log = log_of(Preview({}, key="a"), Preview({}, key="b"), Progress(1, 2), Preview({}, key="a"), Progress(2, 2))
    assert numbers(log.past(0, 0)) == [2, 4, 5]
    assert (log.replaced, log.previews, log.preview_n) == (2, 3, 4)


def test_of_replaceable_events_those_past_a_number_are_returned_among_the_lasting_ones() -> None:
    log = log_of(Preview({}, key="a"), "x", Preview({}, key="b"), "y")
    assert numbers(log.past(0, 1)) == [2, 3, 4]
    assert numbers(log.past(log.index_after(2), 3)) == [4]
    assert numbers(log.past(log.index_after(4), 4)) == []


def test_bytes_are_counted_as_events_come_and_go() -> None:
    log = log_of("ab", "cd")
    assert (log.bytes, log.kept_bytes) == (8, 8)
    log.append(to_event(Preview({})))
    assert (log.bytes, log.kept_bytes) == (8, 10)
    trim(log, 1)
    assert (log.bytes, log.kept_bytes, log.trimmed_bytes) == (8, 6, 4)
    assert [log.bytes_before(index) for index in (1, 2)] == [4, 8]


def test_what_an_event_holds_as_msgpack_counts_as_well() -> None:
    log = EventLog()
    for value in (1, Preview(2)):
        event = to_event(value)
        event.pack(b"0123456789")
        log.append(event)
    assert (log.bytes, log.bytes_before(0), log.bytes_before(1), log.kept_bytes) == (11, 0, 11, 22)
    log.append(to_event(3))
    log.trim(1, 0, until=2)
    assert (log.trimmed_bytes, log.kept_bytes) == (11, 12)


def test_the_newest_progress_is_that_of_any_key_in_this_attempt() -> None:
    log = EventLog()
    assert log.newest_progress is None
    for value in (Progress(1, key="a"), Progress(1, key="b"), Preview({"i": 1}), Progress(2, key="a")):
        log.append(to_event(value))
    assert log.newest_progress is not None
    assert log.newest_progress.json()["step"] == 2
    log.begin(beginning(2))
    assert log.newest_progress is None


def test_the_newest_output_is_the_last_one() -> None:
    log = log_of("a", Progress(1))
    log.append(Event("log", b"{}"))
    assert log.last_output is not None
    assert log.last_output.n == 1


def test_the_terminal_event_is_the_last() -> None:
    log = log_of("a")
    assert log.terminal is None
    log.end(Event("done", b"{}"))
    assert log.terminal is not None
    assert (log.terminal.n, numbers(log.past(0, 1))) == (2, [1, 2])


def test_an_attempt_begins_at_its_own_number_and_what_came_before_is_no_result() -> None:
    log = EventLog()
    log.begin(beginning(1))
    assert (log.start_n, log.preview_n) == (1, 1)
    log.append(to_event("a"))
    log.append(to_event(Preview({})))
    log.begin(beginning(2))
    assert numbers(log.past(0, 0)) == [1, 2, ATTEMPT + 1]
    assert (log.last_output, log.preview_n, log.start_n) == (None, ATTEMPT + 1, 1)
    log.append(to_event("b"))
    assert log.n == ATTEMPT + 2


def test_a_number_from_elsewhere_is_kept() -> None:
    log, event = EventLog(), to_event("a")
    event.n = 7
    log.append_numbered(event)
    assert (log.n, log.index_after(6), log.index_after(7)) == (7, 0, 1)


@pytest.mark.parametrize(("index", "trimmed_bytes"), [(2, 0), (0, 6), (2, 6), (0, 4)])
def test_the_oldest_go_up_to_an_index_and_until_enough_bytes_are_gone(index: int, trimmed_bytes: int) -> None:
    log = log_of(*"abcde")
    log.trim(index, trimmed_bytes, 5)
    assert (numbers(log.past(log.first_index, 0)), log.trimmed_n) == ([3, 4, 5], 2)
    log.trim(index, trimmed_bytes, 5)
    assert log.first_index == 2


def test_nothing_goes_that_somebody_holds_nor_the_newest() -> None:
    log = log_of(*"abcde")
    log.trim(5, 15, 1)
    assert log.first_index == 1
    log.trim(9, 99, 9)
    assert numbers(log.past(log.first_index, 0)) == [5]


def test_what_is_trimmed_is_deleted_in_bulk_and_places_stay_what_they_are() -> None:
    log = log_of(*range(3000))
    trim(log, 1990)
    assert (len(log.lasting), log.lasting[1009]) == (3000, None)
    trim(log, 100)
    assert (len(log.lasting), log.kept_events, log.next_index) == (100, 100, 3000)
    assert (log.index_after(2990), numbers(log.past(2998, 2998))) == (2990, [2999, 3000])
    assert log.index_after(5) == log.first_index == 2900


STEPS = st.one_of(
    st.sampled_from(["output", "log", "preview a", "preview b", "progress", "restart"]),
    st.tuples(st.sampled_from(["trim", "hold"]), st.integers(0, 6)),
)


@given(st.lists(STEPS, max_size=60))
def test_a_log_is_a_list_of_all_that_was_appended_without_what_was_replaced_or_trimmed(steps: list[Any]) -> None:
    log, lasting, slots, trimmed = EventLog(), [], {}, 0  # type: tuple[EventLog, list[Event], dict[str, Event], int]
    for step in steps:
        match step:
            case "restart":
                event = beginning(log.n // ATTEMPT + 2)
                log.begin(event)
                lasting.append(event)
                slots.clear()
            case "output" | "log":
                event = Event("output" if step == "output" else "log", b"x" * len(lasting))
                log.append(event)
                lasting.append(event)
            case str():
                event = to_event(Progress(1) if step == "progress" else Preview({}, key=step[-1]))
                log.append(event)
                slots[step] = event
            case how, count:
                until = len(lasting) if how == "trim" else count
                log.trim(log.next_index - count, 0, until)
                trimmed = max(trimmed, min(len(lasting) - count, until, len(lasting) - 1))
        kept = lasting[trimmed:]
        assert log.past(log.first_index, 0) == sorted([*kept, *slots.values()], key=lambda event: event.n)
        assert (log.next_index, log.kept_events) == (len(lasting), len(kept))
        assert log.kept_bytes == sum(len(event.data) for event in [*kept, *slots.values()])
        assert log.trimmed_n == (lasting[trimmed - 1].n if trimmed else 0)
        assert all(a < b for a, b in pairwise(numbers(log.past(log.first_index, 0))))
        for index, event in enumerate(kept, trimmed):
            assert log.index_after(event.n - 1) == index
            assert log.bytes_before(index) == sum(len(event.data) for event in lasting[:index])


# Text that is joined


def test_outputs_are_joined_whether_they_are_kept_or_not() -> None:
    log = log_of("a", Log("no output"), "b", {"n": 1}, Preview({}), "c", joins=True)
    for kept in (5, 3, 1):
        trim(log, kept)
        assert log.text() == "abc"


def test_a_log_that_is_not_to_be_joined_has_no_text() -> None:
    assert log_of("a").text() is None


@pytest.mark.parametrize(("values", "text"), [((), ""), (({"n": 1},), None), (({"n": 1}, "a"), "a")])
def test_what_has_no_text_in_it_joins_to_nothing(values: tuple[Any, ...], text: str | None) -> None:
    assert log_of(*values, joins=True).text() == text


def test_what_a_lost_attempt_said_is_not_joined() -> None:
    log = log_of("a", "b", joins=True)
    trim(log, 1)
    log.begin(beginning(2))
    log.append(to_event("c"))
    trim(log, 1)
    assert log.text() == "c"


def test_of_more_text_than_is_kept_the_end_is() -> None:
    text = TrimmedText()
    for _ in range(9 * 1024):
        text.add("x" * 1024)
    text.add("end")
    assert text.size == len("".join(text.pieces)) <= MAX_TEXT
    assert len(text.pieces) < 10
    assert text.pieces[-1] == "end"


def test_joined_text_counts_as_kept_bytes() -> None:
    log = log_of("ab", "cd", joins=True)
    trim(log, 1)
    assert log.kept_bytes == 2 + 4
    ending = Event("done", b"{}", text=log.text())
    log.end(ending)
    assert log.kept_bytes == 4 + 2 + 4
