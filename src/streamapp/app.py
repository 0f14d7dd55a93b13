"""Define `App`, the class that users subclass: setup, teardown, class options, endpoints. It knows no HTTP: what
`App.serve` leads to is imported when it is called (`serving`).

The options that fal's apps set (`machine_type`, `requirements`, `keep_alive` ...) are kept as they are, for
deployment to read; they change nothing locally.
"""

import contextvars
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic_core import from_json

from .endpoint import EndpointSpec, check_not_hidden, get_mark, get_session_mark, inspect_endpoint
from .errors import DefinitionError
from .serving import Serving, serve_apps
from .session import SessionSpec, inspect_session

_NAME = re.compile(r"[\w.~-]+")
_LIMITS = ("max_queue", "request_timeout", "request_start_timeout", "max_running", "max_multiplexing")


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """Say how often fal's queue repeats a failed request; kept for deployment: nothing is repeated here."""

    timeout: Any = None
    server_error: Any = None
    connection_error: Any = None


_current_request: contextvars.ContextVar["RequestContext | None"] = contextvars.ContextVar(
    "streamapp_request", default=None
)


class RequestContext:
    """Describe the request that started a job.

    Args:
        lines: its headers. In one piece: as they come they would take a kilobyte more for as long as the job runs.
    """

    __slots__ = ("_lines", "endpoint")

    def __init__(self, lines: bytes, endpoint: str) -> None:
        self._lines = lines
        #: the endpoint's path
        self.endpoint = endpoint

    @property
    def headers(self) -> dict[str, str]:
        """Return the request's headers, names in lower case."""
        lines = self._lines.decode("latin-1").split("\n")
        return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}

    @property
    def request_id(self) -> str | None:
        """Return the id of the request, which is its job's as well."""
        return self.headers.get("x-fal-request-id")

    @property
    def lifecycle_preference(self) -> dict[str, Any] | None:
        """Return how long the caller wants results kept, `{"expiration_duration_seconds": ...}`; None where unsaid."""
        try:
            preference = from_json(self.headers.get("x-fal-object-lifecycle-preference", "null"))
        except ValueError:
            return None
        return preference if isinstance(preference, dict) else None


_current_app: contextvars.ContextVar["App | None"] = contextvars.ContextVar("streamapp_app", default=None)
#: the apps that this process serves now
served_apps: list["App"] = []


def enter_app(app: "App") -> None:
    """Make `app` the current one for the rest of this context."""
    _current_app.set(app)


def get_current_app() -> "App | None":
    """Return the app whose setup, job or teardown runs here.

    In other threads of this process it is the only app that is served; None where there is none, or are several.
    """
    app = _current_app.get()
    return served_apps[0] if app is None and len(served_apps) == 1 else app


def enter_request(request: RequestContext) -> None:
    """Make `request` the current one for the rest of this context."""
    _current_request.set(request)


class Declaration:
    """Be, as an attribute of an app's class, what a face answers by for the app, which then may have no endpoint."""

    __slots__ = ()


class App:
    """Serve a generative app: subclass it, load models in `setup`, mark methods with `@endpoint`.

        class Echo(streamapp.App):
            @streamapp.endpoint("/stream")
            def stream(self, text: str):
                for word in text.split():
                    yield {"word": word}

    `setup`, every sync endpoint and `teardown` run in one thread, the app's inference thread.

    Class options, with their defaults. They are written in the class; the limits may be class keywords as well:
    `class Echo(streamapp.App, name="echo", max_queue=8)`.

        app_name = None: the name in URLs; as a keyword it is `name`. Where None, derived from the class's name, as fal
            does it: MyGoodApp is my-good-app, Sdxl2 is sdxl.
        version = 'unknown': shown as the API's version.
        title = None: what people read above the class's docstring, which is Markdown, on the page and in the API's
            description; where None the name.
        max_queue = None: jobs that may wait for the inference thread; where None the deployment's `max_queue`.
        request_timeout = None: seconds that a job may run, for endpoints that do not say; where None the deployment's
            `timeout_s`.
        request_start_timeout = None: seconds that a job may wait for its turn, for endpoints that do not say; where
            None the deployment's `queue_timeout_s`.
        max_running = 1: jobs of sync endpoints that run at a time, others wait: they take turns in the inference
            thread, each for an item that it yields. What yields nothing runs to its end in its first turn.
        max_multiplexing = None: jobs of `async def` endpoints that run at a time, others wait; where None up to the
            deployment's `max_async_jobs`.
        capture_logs = False: turn prints and log records of a running job into its `log` events.
        capture_progress = False: turn tqdm bars, diffusers' own among them, into `progress` events.
        static = None: the folder of the app's own page, beside the file of the class that says so. Its files are served
            at `/{name}/`, of the first app at `/` as well, without a key; `index.html` is the page. Its links are
            relative; `./_streamapp/client.js` is the JavaScript client, as one module.
        static_policy = {}: directives of the page's Content-Security-Policy in the place of the strict ones, which
            allow no inline code, no other host and no frame around it: `{"img-src": "'self' https://example.org"}`.

    Options that change nothing here, kept as fal's apps set them, for deployment to read; the first four and `image`, a
    `ContainerImage`, go into what `streamapp image` writes:

        machine_type = 'S', num_gpus = None: the machine that is asked for.
        requirements = [], local_python_modules = []: what is to be installed there.
        min_concurrency = 0, max_concurrency = None: how many machines.
        app_auth = None: who may call; here that is STREAMAPP_API_KEY.
        host_kwargs = {}: all class keywords but `name`, `class Echo(streamapp.App, keep_alive=300)`, also unknown ones.
    """

    app_name: ClassVar[str | None] = None
    version: ClassVar[str] = "unknown"
    title: ClassVar[str | None] = None
    max_queue: ClassVar[int | None] = None
    request_timeout: ClassVar[float | None] = None
    request_start_timeout: ClassVar[float | None] = None
    max_running: ClassVar[int] = 1
    max_multiplexing: ClassVar[int | None] = None
    capture_logs: ClassVar[bool] = False
    capture_progress: ClassVar[bool] = False
    static: ClassVar[str | PathLike[str] | None] = None
    static_policy: ClassVar[Mapping[str, str]] = {}

    machine_type: ClassVar[str | list[str]] = "S"
    num_gpus: ClassVar[int | None] = None
    requirements: ClassVar[list[Any]] = []
    local_python_modules: ClassVar[list[str]] = []
    min_concurrency: ClassVar[int] = 0
    max_concurrency: ClassVar[int | None] = None
    app_auth: ClassVar[str | None] = None
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
        for option in _LIMITS:
            if option in host_kwargs and option not in cls.__dict__:
                setattr(cls, option, host_kwargs[option])
            value = getattr(cls, option)
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise DefinitionError(
                    f"{cls.__qualname__}: expected {option} to be a number, more than 0, got {value!r}"
                )
        if not isinstance(cls.title, str | None) and not hasattr(cls.title, "__get__"):
            raise DefinitionError(f"{cls.__qualname__}: expected title to be a text, got {cls.title!r}")
        if type(cls.max_running) is not int:
            raise DefinitionError(f"{cls.__qualname__}: expected max_running to be an int, got {cls.max_running!r}")

    @property
    def current_request(self) -> "RequestContext | None":
        """Return the request whose job runs here; None outside of jobs."""
        return _current_request.get()

    def handle_exit(self) -> Any:
        """Hear that the server was told to end: it takes no more jobs, and this has `drain_s` as the running ones have.

        Runs in a thread of its own, or on the loop where it is `async def`. What it raises is logged.
        """

    def health(self) -> Any:
        """Return what `GET /health` answers besides the server's own words: a dict. Runs on the loop."""
        return {"version": self.version}

    def provide_hints(self) -> list[str]:
        """Return what answers to fal's clients carry in `X-Fal-Runner-Hints`, for routers in front of several servers.

        Raises:
            NotImplementedError: there are none.
        """
        raise NotImplementedError

    def setup(self) -> Any:
        """Load models; runs once in the inference thread before the first job. May be `async def` (on the loop)."""

    def teardown(self) -> Any:
        """Release what `setup` took; runs once in the inference thread, after the last job of all endpoints."""

    @classmethod
    def serve(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        log_level: Literal["debug", "info", "warning", "error"] | None = None,
        no_auth: bool = False,
        playground: bool = True,
        debug: bool | None = None,
        block: bool | None = None,
    ) -> Serving:
        """Serve this app from a script, `if __name__ == "__main__": Echo.serve()`, or from a notebook.

        In a script it does what `streamapp serve` does: it blocks until a signal comes, and ends the process. Where an
        event loop runs, as in a notebook, and at Python's prompt, it returns at once; the server then has a thread and
        a loop of its own, and leaves signals and the settings of the process alone. Cells that are run again serve
        anew: a server of this process that has the port, for an app of the same name, is stopped before.

        An app may have a method of its own called `serve`: `streamapp.serve_apps(Echo)` serves that one, and several.

        Args:
            port: 0 takes a free one.
            log_level: where None `info`, beside other code `warning`; there it counts where nothing is set up to log.
            no_auth: serve other machines without a key, STREAMAPP_API_KEY.
            playground: serve the page to try it on.
            debug: tell callers the text and traceback of what the app raises; where None STREAMAPP_DEBUG says.
            block: False has a script go on; True blocks at the prompt, and is refused where an event loop runs.
        Returns:
            A handle: `url`, `stop()`, and `with`, which waits until the app is ready and stops it at the end.
        Raises:
            DefinitionError: the app is written wrongly.
            InvalidInput: the port is taken, by whom, or other machines would be let in.
        """
        return serve_apps(
            cls,
            host=host,
            port=port,
            log_level=log_level,
            no_auth=no_auth,
            playground=playground,
            debug=debug,
            block=block,
        )

    @classmethod
    def endpoint_functions(cls) -> list[Callable[..., Any]]:
        """Return the methods marked by `@endpoint`, in the order of their definition, base classes first."""
        return [function for function in cls._marked() if get_mark(function) is not None]

    @classmethod
    def _marked(cls) -> list[Any]:
        found: dict[str, Any] = {}
        for base in reversed(cls.__mro__):
            for attribute, value in vars(base).items():
                if get_mark(value) or get_session_mark(value) or attribute in found:
                    found[attribute] = value
                else:
                    check_not_hidden(attribute, value)
        return list(found.values())

    @classmethod
    def endpoints(cls) -> list[EndpointSpec]:
        """Return the endpoints with their annotations resolved.

        Raises:
            DefinitionError: there is none, and no session, two share a path, or one is written wrongly.
        """
        specs = [inspect_endpoint(function, cls) for function in cls.endpoint_functions()]
        sessions = cls.session_specs()
        if not specs and not sessions and not any(isinstance(getattr(cls, name), Declaration) for name in dir(cls)):
            raise DefinitionError(
                f'{cls.__qualname__} has no endpoint; mark a method with @streamapp.endpoint("/stream")'
            )
        names: dict[str, str] = {}
        both: list[EndpointSpec | SessionSpec] = [*specs, *sessions]
        for spec in both:
            path = spec.path.rstrip("/")  # served with a slash at its end and without
            if path in names:
                raise DefinitionError(
                    f"{cls.__qualname__}: {names[path]} and {spec.name} are both at {spec.path!r}; change one path"
                )
            names[path] = spec.name
        return specs

    @classmethod
    def page_folder(cls) -> Path | None:
        """Return the folder that `static` names; None where the app has no page. Reads the disk.

        Raises:
            DefinitionError: it holds no page, or more than that.
        """
        owner = next(base for base in cls.__mro__ if "static" in vars(base))
        static = vars(owner)["static"]
        if static is None or hasattr(static, "__get__"):  # a method, or a property, may be called so
            return None
        if not isinstance(static, str | PathLike):
            raise DefinitionError(f"{owner.__qualname__}: expected static to be a folder, got {static!r}")
        return _page_folder(owner, Path(static))

    @classmethod
    def session_specs(cls) -> list[SessionSpec]:
        """Return the methods marked by `@realtime` and `@websocket`, with their annotations resolved.

        Raises:
            DefinitionError: one is written wrongly.
        """
        return [inspect_session(function, cls) for function in cls._marked() if get_session_mark(function) is not None]


def _page_folder(owner: type[App], static: Path) -> Path:
    where = f"{owner.__qualname__}: static = {str(static)!r}"
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    if file is None and not static.is_absolute():
        raise DefinitionError(f"{where} is looked for beside the class's file, and it has none; write the whole path")
    source = Path(file or "/").resolve()
    folder = source.parent / static
    if source.is_relative_to(folder.resolve()):
        raise DefinitionError(f"{where} would serve {source.name} as well; give the page a folder of its own")
    if not (folder / "index.html").is_file():
        raise DefinitionError(f"{where} is no folder with a page in it; beside {source.name} write {static}/index.html")
    return folder


def title_of(app: type[App]) -> str:
    """Return what people read above all else of an app: its `title`, else its name."""
    title: Any = app.title
    return title if title and isinstance(title, str) else str(app.app_name)  # a method may be called so


def description_of(app: type[App]) -> str:
    """Return the docstring of an app, or of a class that it is made of; "" where only classes of ours have one."""
    own = (base for base in app.__mro__ if base is not object and not base.__module__.startswith("streamapp."))
    return next(filter(None, (base.__doc__ and inspect.cleandoc(base.__doc__) for base in own)), "")


def derive_app_name(class_name: str) -> str:
    """Derive the name in URLs from the class name, letter by letter as fal does: MyGoodApp -> my-good-app.

    Of a name with capitals all but these and the small letters behind them is left out, as far as they are ASCII:
    SAM3DStreamApp -> s-a-m-d-stream-app.
    Source: `_to_fal_app_name` of fal 1.83.0.
    """
    parts = re.findall(r"[A-Z][a-z]*", class_name) or [part for part in class_name.split("_") if part]
    return "-".join(parts).lower()


def is_app_class(value: Any) -> bool:
    """Tell whether `value` is an app that can be served."""
    return inspect.isclass(value) and issubclass(value, App) and value is not App
