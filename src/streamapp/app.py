"""Define `App`, the class that users subclass: setup, teardown, class options, endpoints. It knows no HTTP.

The options that fal's apps set (`machine_type`, `requirements`, `keep_alive` ...) are kept as they are, for
deployment to read; they change nothing locally.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any, ClassVar

from .endpoint import EndpointSpec, get_mark, inspect_endpoint
from .errors import DefinitionError

_NAME = re.compile(r"[\w.~-]+")


class App:
    """Serve a generative app: subclass it, load models in `setup`, mark methods with `@endpoint`.

        class Echo(streamapp.App):
            @streamapp.endpoint("/stream")
            def stream(self, text: str):
                for word in text.split():
                    yield {"word": word}

    `setup`, every sync endpoint and `teardown` run in one thread, the app's inference thread. Class keywords
    (`class Echo(streamapp.App, name="echo", keep_alive=300)`) other than `name` are kept in `host_kwargs`.
    """

    #: the name in URLs; derived from the class name when None: MyGoodApp -> my-good-app
    app_name: ClassVar[str | None] = None
    #: shown as the API's version
    version: ClassVar[str] = "unknown"
    #: jobs that may wait for the inference thread; the deployment's `max_queue` when None
    max_queue: ClassVar[int | None] = None
    #: seconds that a job may run, for endpoints that do not say; the deployment's `timeout_s` when None
    request_timeout: ClassVar[float | None] = None
    #: turn prints and log records of a running job into its `log` events
    capture_logs: ClassVar[bool] = False
    #: turn tqdm bars, diffusers' own among them, into `progress` events
    capture_progress: ClassVar[bool] = False

    machine_type: ClassVar[str | list[str]] = "S"
    num_gpus: ClassVar[int | None] = None
    requirements: ClassVar[list[Any]] = []
    host_kwargs: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, *, name: str | None = None, **host_kwargs: Any) -> None:
        super().__init_subclass__()
        if cls.__init__ is not App.__init__:
            raise DefinitionError(
                f"{cls.__qualname__} overrides __init__, which runs in the wrong thread; write setup(self) instead"
            )
        cls.host_kwargs = {**cls.host_kwargs, **host_kwargs}
        if "app_name" not in cls.__dict__:
            cls.app_name = name or derive_app_name(cls.__name__)
        if not _NAME.fullmatch(str(cls.app_name)):
            raise DefinitionError(
                f"{cls.__qualname__}: the name {cls.app_name!r} is a part of URLs; write letters, digits, - and _"
            )
        for option in ("max_queue", "request_timeout"):
            value = getattr(cls, option)
            if value is not None and value <= 0:
                raise DefinitionError(f"{cls.__qualname__}: expected {option} more than 0, got {value!r}")

    def setup(self) -> Any:
        """Load models; runs once in the inference thread before the first job. May be `async def` (on the loop)."""

    def teardown(self) -> Any:
        """Release what `setup` took; runs once in the inference thread after the last job."""

    @classmethod
    def endpoint_functions(cls) -> list[Callable[..., Any]]:
        """Return the marked methods, in the order of their definition, base classes first."""
        found: dict[str, Callable[..., Any]] = {}
        for base in reversed(cls.__mro__):
            for attribute, value in vars(base).items():
                if get_mark(value) is not None or attribute in found:
                    found[attribute] = value
        return [function for function in found.values() if get_mark(function) is not None]

    @classmethod
    def endpoints(cls) -> list[EndpointSpec]:
        """Return the endpoints with their annotations resolved.

        Raises:
            DefinitionError: there is none, two share a path, or one is written wrongly.
        """
        specs = [inspect_endpoint(function) for function in cls.endpoint_functions()]
        if not specs:
            raise DefinitionError(
                f'{cls.__qualname__} has no endpoint; mark a method with @streamapp.endpoint("/stream")'
            )
        paths: dict[str, str] = {}
        for spec in specs:
            if spec.path in paths:
                raise DefinitionError(
                    f"{cls.__qualname__}: {paths[spec.path]} and {spec.name} are both at {spec.path!r}; change one path"
                )
            paths[spec.path] = spec.name
        return specs


def derive_app_name(class_name: str) -> str:
    """Derive the name in URLs from the class name, as fal does: MyGoodApp -> my-good-app, my_app -> my-app."""
    if "_" in class_name:
        return class_name.replace("_", "-").lower()
    parts = re.findall(r"[A-Z][a-z0-9]*", class_name)
    return "-".join(parts).lower() if "".join(parts) == class_name else class_name.lower()


def is_app_class(value: Any) -> bool:
    """Tell whether `value` is an app that can be served."""
    return inspect.isclass(value) and issubclass(value, App) and value is not App
