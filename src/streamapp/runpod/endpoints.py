"""Say what Runpod's console asks for an endpoint: `[tool.streamapp.endpoints.<id>]`, or `compile_app(endpoints=...)`.

    [tool.streamapp.endpoints.image-chunks]
    app = "handler.py"             # without it, workers elsewhere take its jobs
    type = "Queue"
    max_workers = 3
    gpu = "16 GB"
    image = "docker.io/me/image-chunks:latest"

An id without such a table is there for each endpoint of each app (`own_ids`). Several may lead to one app, whose one
queue is theirs together.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ..app import App
from ..endpoint import EndpointSpec
from ..errors import DefinitionError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: as Runpod has it: how long a job may run, and be kept
MOST_S = 7 * 24 * 3600.0


def check_id(endpoint_id: str) -> str:
    """Return an id that can stand in a URL's path as it is.

    Raises:
        ValueError: it is none.
    """
    if not _ID.fullmatch(endpoint_id):
        raise ValueError(
            f"{endpoint_id!r} is no endpoint id; write up to 64 letters, digits, '-' and '_', a letter or digit first"
        )
    return endpoint_id


def _queue(type_: Any) -> Any:
    if isinstance(type_, str) and type_.lower() != "queue":
        raise ValueError(f"Expected 'queue', got {type_!r}; what answers requests itself is an app, without an id")
    return type_.lower() if isinstance(type_, str) else type_


def _a_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"Expected one line of text, got {text!r}")
    return text


Id = Annotated[str, AfterValidator(check_id)]
_Line = Annotated[str, Field(min_length=1), AfterValidator(_a_line)]
_Seconds = Annotated[float, Field(gt=0, le=MOST_S)]


class Endpoint(BaseModel):
    """Hold what is said of one endpoint; what is left out has no bound, or that of its app.

    Attributes:
        app: in a pyproject.toml its file, its module, or the name of one of `apps`; for `compile_app` the name. None:
            the app that is called like the endpoint, which `serve` makes for workers elsewhere.
        max_workers: how many workers elsewhere get jobs; those beyond get none.
        max_queue: jobs that may wait for the app.
        execution_timeout_s: how long a job may run, where its caller does not ask for less.
        ttl_s: how long a job is kept from when it was made, where its caller does not ask for less.
        gpu: the class of GPU that its workers need, to be shown.
        image: the container image of its workers, to be shown.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    app: _Line | None = None
    type: Annotated[Literal["queue"], BeforeValidator(_queue)] = "queue"
    max_workers: int | None = Field(default=None, ge=1)
    max_queue: int | None = Field(default=None, ge=1)
    execution_timeout_s: _Seconds | None = None
    ttl_s: _Seconds | None = None
    gpu: _Line | None = None
    image: _Line | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_the_nearest(cls, given: Any) -> Any:
        """Say of a key that is not known which one may be meant."""
        for key in given if isinstance(given, dict) else ():
            if key not in cls.model_fields:
                nearest = [f"write {name!r}; " for name in difflib.get_close_matches(key, cls.model_fields, 1, 0.5)]
                raise ValueError(f"there is no {key!r}; {''.join(nearest)}there are {', '.join(cls.model_fields)}")
        return given

    @property
    def needs(self) -> str:
        """Return in words what its workers need; empty where nothing is said."""
        named = {"GPU": self.gpu, "image": self.image}
        return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)


def own_ids(app: type[App]) -> dict[str, EndpointSpec]:
    """Return the endpoints of an app by the ids that they have without being asked.

    The app's name is its first streaming endpoint, else that at `/`, else its first; `{app}--{endpoint}` is any other,
    with `--` for the slashes in its path, `{app}--` that at `/`. One whose path has parameters has none.
    """
    specs = [spec for spec in app.endpoints() if "{" not in spec.path]
    named = {f"{app.app_name}--{spec.path.strip('/').replace('/', '--')}": spec for spec in specs}
    return {str(app.app_name): spec for spec in sorted(specs, key=_rank)[:1]} | named


def _rank(spec: EndpointSpec) -> tuple[bool, bool]:
    return spec.kind != "stream", spec.path != "/"


def check_endpoints(endpoints: Mapping[str, Endpoint], apps: Iterable[type[App]]) -> None:
    """Refuse endpoints that no app is there for, and ids that mean something else already.

    Raises:
        DefinitionError: says which, and what to write.
    """
    own = {str(app.app_name): own_ids(app) for app in apps} if endpoints else {}
    owners = {own_id: name for name, ids in own.items() for own_id in ids}
    for endpoint_id, endpoint in endpoints.items():
        name = endpoint.app or endpoint_id
        where = f"endpoint {endpoint_id!r} of the app {name!r}"
        try:
            check_id(endpoint_id)
        except ValueError as error:
            raise DefinitionError(str(error)) from None
        if name not in own:
            raise DefinitionError(f"{where}: there is none; there are {', '.join(own)}")
        if name not in own[name]:
            raise DefinitionError(f"{where}: every path of the app has parameters; an id leads to one without")
        if endpoint_id in owners and endpoint_id != name:
            raise DefinitionError(f"{where}: {owners[endpoint_id]!r} has an endpoint of that id; choose another id")


def words_about(app: type[App], path: str, endpoints: Mapping[str, Endpoint]) -> str:
    """Return a line for each endpoint that leads to what an app has at a path; empty where none does."""
    meant = {own_id: each for own_id, each in endpoints.items() if (each.app or own_id) == app.app_name}
    if not meant or own_ids(app)[str(app.app_name)].path != path:
        return ""
    return "\n\n".join(
        f"Runpod endpoint {own_id}" + (each.needs and f": {each.needs}") for own_id, each in meant.items()
    )


def queue_limits(endpoints: Mapping[str, Endpoint]) -> dict[str, int]:
    """Return by the names of apps how many jobs may wait for them, where it is said.

    Raises:
        DefinitionError: two endpoints of one app say different things.
    """
    limits: dict[str, int] = {}
    for endpoint_id, endpoint in endpoints.items():
        name = endpoint.app or endpoint_id
        if endpoint.max_queue is not None and limits.setdefault(name, endpoint.max_queue) != endpoint.max_queue:
            raise DefinitionError(
                f"endpoint {endpoint_id!r}: max_queue is {endpoint.max_queue}, and another endpoint of {name!r} says "
                f"{limits[name]}; they have one queue, so write it once"
            )
    return limits
