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


def crowded(**options: bool) -> Places:
    """Return eight places, four of them taken by one network, and two by others."""
    places = Places(8, **options)
    for number, network in enumerate(["10.0.0.1"] * 4 + ["10.0.0.2", ""]):
        places.take(number, app="app", kind="realtime", network=network)
    return places


def test_one_network_does_not_take_all_places_where_anybody_may_come() -> None:
    places = crowded(is_open=True)
    with pytest.raises(Unavailable, match="your address has half of all 8 places of sessions"):
        places.take("more", app="app", kind="websocket", network="10.0.0.1")
    places.take("another's", app="app", kind="websocket", network="10.0.0.2")
    places.take("a proxy's", app="app", kind="websocket")
    assert places.statistics().refused == 1


def test_who_has_half_of_the_places_gets_more_while_many_are_free() -> None:
    places = crowded(is_open=True)
    places.leave(5)
    places.take("more", app="app", kind="realtime", network="10.0.0.1")


def test_where_all_have_a_key_all_places_are_anybodys() -> None:
    places = crowded()
    places.take("more", app="app", kind="realtime", network="10.0.0.1")
    places.take("and more", app="app", kind="realtime", network="10.0.0.1")


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
