"""Say what an endpoint of Runpod's kind is here: an app with one streaming endpoint, which takes any JSON.

Who runs its jobs is another matter: a handler in this process (`handlers`), or workers that fetch them (`pool`).
"""

from collections.abc import Iterator
from dataclasses import replace
from inspect import Parameter
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from fastapi import Body
from pydantic import AfterValidator, WithJsonSchema
from starlette.exceptions import HTTPException

from ..app import App
from ..endpoint import EndpointSpec, endpoint
from ..jobs.job import Job
from ..jobs.stream import Stream


def _check_json(value: Any) -> Any:
    """Refuse a body that came as another type, which `Body()` gives as its bytes."""
    if isinstance(value, bytes):
        raise HTTPException(
            415,
            "Expected a body of application/json, got another type; with curl add -H 'Content-Type: application/json'",
        )
    return value


class QueueApp(App):
    """Take any JSON, and stream what comes of it.

    Attributes:
        aggregates: the `output` that Runpod's clients get is the list of all that was yielded.
        input_schema: what the input is said to be, as a JSON schema; any JSON is taken all the same, since what is
            wrong in it the handler says.
    """

    aggregates: ClassVar[bool] = False
    input_schema: ClassVar[dict[str, Any] | None] = None

    @endpoint("/stream")
    def stream(self, input: Annotated[Any, Body(), AfterValidator(_check_json)], stream: Stream) -> Iterator[Any]:
        """Run one job."""
        result: Iterator[Any] = self.run_job({"id": stream.job_id, "input": input})
        return result

    def run_job(self, job: dict[str, Any]) -> Any:
        """Return what comes of a job, as Runpod has it: `{"id", "input"}`."""
        raise NotImplementedError

    @classmethod
    def endpoints(cls) -> list[EndpointSpec]:
        """Return the endpoints, with the schema of the input where there is one."""
        specs = super().endpoints()
        return specs if cls.input_schema is None else [_described(spec, cls.input_schema) for spec in specs]


def _described(spec: EndpointSpec, schema: dict[str, Any]) -> EndpointSpec:
    def described(parameter: Parameter) -> Parameter:
        return parameter.replace(annotation=Annotated[parameter.annotation, WithJsonSchema(schema)])

    return replace(spec, parameters=tuple(map(described, spec.parameters)))


class WorkerCounts(NamedTuple):
    """Count the workers of an endpoint as Runpod's `/health` does."""

    idle: int = 0
    running: int = 0
    initializing: int = 0
    throttled: int = 0
    unhealthy: int = 0


@runtime_checkable
class Streams(Protocol):
    """Be a worker whose jobs may stream, as Runpod understands it."""

    def streamed_output(self, job: Job) -> Literal["list", "empty"] | None:
        """Say what is the `output` of a job that is over: the list of its outputs, `[]`, or its result, when None."""
        ...
