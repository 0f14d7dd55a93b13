"""Say what a request of OpenAI's comes to: a job of an endpoint, and how its events are told."""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.responses import Response

from ..endpoint import EndpointSpec
from ..jobs.events import Event
from ..jobs.job import Job
from ..media import File, is_data_uri, shown
from ..settings import MediaForm, Settings
from ..stores.files import FileStore

M = TypeVar("M", bound=BaseModel)


class Telling(Protocol):
    """Tell a job's events as one of OpenAI's paths does; on the loop, but where `Asked.encodes_media`.

    Each may raise an error of ours, which is told as that of a job that has failed.
    """

    def told(self, event: Event) -> bytes:
        """Return the server-sent blocks for an event that is no end, or nothing."""
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
        shows_previews: says whether the endpoint is to make previews, as they are told; asked before and behind events.
        encodes_media: the telling takes long: its methods are called in a thread, by `in_encoder`, one at a time.
        media: where the job's files are, as `JobRequest.media` says.
        answer: makes the answer instead of the telling: what is no event stream, and sent while it is made.
    """

    spec: EndpointSpec
    input: Mapping[str, Any]
    telling: Telling
    streams: bool
    says_done: bool = True
    shows_previews: Callable[[], bool] = lambda: False
    encodes_media: bool = False
    media: MediaForm | None = None
    answer: Callable[[Job, Settings], Response] | None = None


#: takes a request's body, and the id that its job will have: what one path below `/v1` makes of it
#:
#: It raises RequestValidationError (`refusal`) or InvalidInput: a field is not as documented, or cannot be honoured.
Ask = Callable[[Mapping[str, Any], str], Asked]


def read_body(model: type[M], given: Mapping[str, Any]) -> M:
    """Return a request's body as what OpenAI documents.

    Raises:
        RequestValidationError: a field is not as documented.
    """
    try:
        return model.model_validate(given)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        raise RequestValidationError([{**each, "loc": ("body", *each["loc"])} for each in errors]) from None


def refusal(field: str, message: str) -> RequestValidationError:
    """Say of one field of a request's body why it cannot be taken, as pydantic says it of others."""
    return RequestValidationError([{"type": "value_error", "loc": ("body", field), "msg": message, "input": None}])


def own_fields(given: Mapping[str, Any], fields: Set[str], documented: Set[str]) -> dict[str, Any]:
    """Return what a body says beside what is documented, for the fields of the endpoint's input, as `extra_body` has
    it.

    Raises:
        RequestValidationError: the input has no such field.
    """
    own = {name: value for name, value in given.items() if name not in documented and value is not None}
    for name in own.keys() - fields:
        raise refusal(name, f"unknown parameter; besides OpenAI's the model takes {', '.join(sorted(fields))}")
    return own


def fields_of(adapter: TypeAdapter[Any]) -> frozenset[str]:
    """Return the names that an endpoint's input has, as clients write them; none where it is no object."""
    return frozenset(_schema_of(adapter).get("properties", ()))


def needed_of(adapter: TypeAdapter[Any]) -> frozenset[str]:
    """Return those of these names that have to be there."""
    return frozenset(_schema_of(adapter).get("required", ()))


def _schema_of(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    schema = adapter.json_schema()
    named = schema.get("$ref", "").rpartition("/")[2]
    described: dict[str, Any] = schema.get("$defs", {}).get(named, schema)
    return described


def file_at(url: str, files: FileStore) -> File:
    """Return a picture or a sound that an endpoint has told by its URL; blocks.

    Raises:
        ValueError: it is neither a data URI nor a file of this server's.
    """
    if is_data_uri(url):
        return File.from_data_uri(url)
    stored = files.find(url)
    if stored is None:
        raise ValueError(f"expected the bytes of a file or a file of this server, got {shown(url)}")
    return File(stored.path.read_bytes(), stored.content_type)
