"""Know the endpoints by the ids that Runpod's clients call them by.

What the deployment names itself goes before the ids that each app's endpoints have (`endpoints.own_ids`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fastapi.params import Query

from ..endpoint import EndpointSpec
from ..inputs import markers_of
from ..jobs.job import Job
from ..runtime import Runtime, ServedApp
from ..workers.worker import Worker
from .endpoints import Endpoint, own_ids

_NOTHING = Endpoint()


@dataclass(frozen=True, slots=True)
class Place:
    """Hold an endpoint that has an id, and what the deployment says of it by that."""

    served: ServedApp
    spec: EndpointSpec
    said: Endpoint = _NOTHING

    @property
    def path(self) -> str:
        """Return the path that its own route is at, whichever app is the first."""
        return f"/{self.served.name}{self.spec.path}".rstrip("/")

    @property
    def worker(self) -> Worker:
        """Return what runs its jobs."""
        return self.served.worker_of(self.spec)

    @property
    def takes_query(self) -> bool:
        """Say whether a part of the input comes in the query, of which a job keeps nothing."""
        injected = self.served.reader_of(self.spec).injected
        return any(isinstance(marker, Query) for parameter in injected for marker in markers_of(parameter))

    def has(self, job: Job) -> bool:
        """Say whether a job is one of this endpoint's."""
        return (job.request.app, job.request.endpoint) == (self.served.name, self.spec.path)


def places_of(runtime: Runtime, named: Mapping[str, Endpoint]) -> dict[str, Place]:
    """Return all endpoints that have an id; `check_endpoints` has seen what the deployment names."""
    apps = {served.name: served for served in runtime.served}
    own = {name: own_ids(type(served.app)) for name, served in apps.items()}
    places = {own_id: Place(apps[name], spec) for name, ids in own.items() for own_id, spec in ids.items()}
    for endpoint_id, endpoint in named.items():
        name = endpoint.app or endpoint_id
        places[endpoint_id] = Place(apps[name], own[name][name], endpoint)
    return places
