"""Which app the code is of that asks."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.served import serving

import streamapp.fal as fal
from streamapp.fal.ref import get_current_app


class Asking(fal.App):
    """Asks everywhere."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.told = []

    told: list[Any]

    def setup(self) -> None:
        self.told.append(get_current_app())

    def teardown(self) -> None:
        self.told.append(get_current_app())

    def handle_exit(self) -> None:
        self.told.append(get_current_app())

    @fal.endpoint("/sync")
    def sync(self) -> bool:
        return fal.ref.get_current_app() is self

    @fal.endpoint("/async")
    async def on_loop(self) -> list[bool]:
        return [get_current_app() is self, await asyncio.to_thread(get_current_app) is self]

    @fal.endpoint("/thread")
    def thread(self) -> bool:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(get_current_app()))
        thread.start()
        thread.join()
        return found == [self]

    @fal.endpoint("/pool")
    def pool(self) -> str:
        with ThreadPoolExecutor(1) as pool:
            return type(pool.submit(get_current_app).result()).__name__


def test_outside_of_any_app_there_is_none() -> None:
    assert get_current_app() is None


def test_hooks_endpoints_and_threads_find_the_app_that_they_are_of() -> None:
    class Alone(Asking): ...

    with serving(app := Alone()) as client:
        assert client.post("/sync").json() is True
        assert client.post("/async").json() == [True, True]
        assert client.post("/thread").json() is True
    assert app.told == [app, app, app]
    assert get_current_app() is None


@pytest.mark.parametrize("is_async", [True, False])
def test_of_several_apps_each_finds_its_own_and_a_thread_of_no_jobs_none(is_async: bool) -> None:
    class First(Asking): ...

    class Second(Asking):
        if is_async:

            async def setup(self) -> None:  # type: ignore[override]
                self.told.append(get_current_app())

    with serving(First, second := Second()) as client:
        assert [client.post(path).json() for path in ("/sync", "/second/sync")] == [True, True]
        assert client.post("/second/async").json() == [True, True]
        assert client.post("/pool").json() == "NoneType"
    assert second.told == [second, second, second]
