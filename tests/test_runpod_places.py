"""Which endpoint an id of Runpod's kind means."""

from collections.abc import Iterator

import streamapp
from streamapp.jobs.job import Job, JobRequest, new_job_id
from streamapp.runpod.endpoints import Endpoint
from streamapp.runpod.places import Place, places_of
from streamapp.runtime import Runtime
from streamapp.settings import Settings


class Many(streamapp.App, name="many"):
    @streamapp.endpoint("/")
    def home(self) -> int:
        return 0

    @streamapp.endpoint("/a/b")
    def below(self) -> int:
        return 1

    @streamapp.endpoint("/flow")
    def flow(self) -> Iterator[int]:
        yield 2

    @streamapp.endpoint("/flow/{name}")
    def named(self, name: str) -> Iterator[int]:
        yield 3


class Plain(streamapp.App, name="plain"):
    @streamapp.endpoint("/a")
    def a(self) -> int:
        return 0

    @streamapp.endpoint("/")
    def home(self) -> int:
        return 1


class Lone(streamapp.App, name="lone"):
    @streamapp.endpoint("/only")
    def only(self) -> int:
        return 0


class Closed(streamapp.App, name="closed"):
    @streamapp.endpoint("/{name}")
    def named(self, name: str) -> int:
        return 0


def runtime() -> Runtime:
    return Runtime([Many(), Plain(), Lone(), Closed()], Settings())


def paths(places: dict[str, Place]) -> dict[str, str]:
    return {id: place.path for id, place in places.items()}


def test_an_app_is_its_first_stream_else_what_is_at_its_root_else_its_first_endpoint() -> None:
    assert paths(places_of(runtime(), {})) == {
        "many": "/many/flow",
        "many--": "/many",
        "many--a--b": "/many/a/b",
        "many--flow": "/many/flow",
        "plain": "/plain",
        "plain--": "/plain",
        "plain--a": "/plain/a",
        "lone": "/lone/only",
        "lone--only": "/lone/only",
    }


def test_what_the_deployment_names_goes_before_and_has_its_bounds() -> None:
    named = {
        "mine": Endpoint(app="lone", execution_timeout_s=5.0, ttl_s=60.0),
        "plain": Endpoint(app="many"),
        "many": Endpoint(),
    }
    places = places_of(runtime(), named)
    assert {id: paths(places)[id] for id in named} == {
        "mine": "/lone/only",
        "plain": "/many/flow",
        "many": "/many/flow",
    }
    assert (places["mine"].said, places["lone"].said) == (named["mine"], Endpoint())


def test_a_place_has_the_jobs_of_its_endpoint() -> None:
    place = places_of(runtime(), {})["many"]
    jobs = [
        Job(JobRequest(id=new_job_id(), app=app, endpoint=path), Settings())
        for app, path in (("many", "/flow"), ("many", "/"), ("plain", "/flow"))
    ]
    assert [place.has(job) for job in jobs] == [True, False, False]
    assert place.worker is place.served.workers.sync
