"""The places of a process's sessions: as many as there may be."""

import pytest

from streamapp.errors import Draining, Unavailable
from streamapp.places import Places


def test_when_all_places_are_taken_the_next_is_refused_until_one_is_free() -> None:
    places = Places(1)
    places.take("a", app="app", kind="realtime")
    with pytest.raises(Unavailable, match="all 1 places of sessions are taken") as refused:
        places.check()
    assert refused.value.retry_after_s
    places.leave("a")
    places.leave("a")
    places.check()
    assert (len(places), places.statistics().refused) == (0, 1)


def test_the_sessions_of_each_app_and_kind_are_counted() -> None:
    places = Places(3)
    places.take(1, app="a", kind="realtime")
    places.take(2, app="a", kind="realtime")
    places.take(3, app="b", kind="websocket")
    assert places.statistics().taken == {("a", "realtime"): 2, ("b", "websocket"): 1}


def test_a_drain_ends_those_that_asked_to_hear_of_it_and_gives_no_more_places() -> None:
    places, ended = Places(3), list[str]()
    places.take("job", app="app", kind="realtime")
    places.take("socket", app="app", kind="websocket", end=lambda: ended.append("socket"))
    places.begin_drain()
    places.begin_drain()
    assert ended == ["socket"]
    with pytest.raises(Draining):
        places.take("late", app="app", kind="realtime")
