"""Say what a request of OpenAI's comes to: a job of an endpoint, and how its events are told."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.responses import Response

from ..endpoint import EndpointSpec
from ..jobs.events import Event
from ..jobs.job import Job


class Telling(Protocol):
    """Tell a job's events as one of OpenAI's paths does."""

    def told(self, event: Event) -> bytes:
        """Return the server-sent blocks for an event that is no end, or nothing; on the loop."""
        ...

    def ended(self, job: Job) -> bytes:
        """Return what comes last of a job that has succeeded, before `[DONE]`."""
        ...

    def whole(self, job: Job) -> Response:
        """Return the answer that is no stream, of a job that has succeeded."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Hold what is asked of an app.

    Attributes:
        input: the endpoint's, as a client of its own would send it.
        streams: the events are told as they come.
        says_done: `[DONE]` ends the stream.
    """

    spec: EndpointSpec
    input: Mapping[str, Any]
    telling: Telling
    streams: bool
    says_done: bool = True
