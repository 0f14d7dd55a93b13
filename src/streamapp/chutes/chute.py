"""Declare a chute: what `@chute.cord`, `@chute.on_startup` and `@chute.websocket` say. Nothing runs here.

A chute is the `self` of its functions, and keeps what they set on it. Functions of its module whose first parameter is
`self` are its methods as well, as Chutes' guide writes them.

Divergence: Chutes' own is a `FastAPI`; this one is not, and says of what is missing what to write instead.
"""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, MethodType
from typing import Any, TypeVar

from ..app import App
from ..errors import DefinitionError
from .apps import Hook, Socket, app_of
from .cords import Cord
from .selector import NodeSelector as NodeSelector  # as Chutes' own module has it

F = TypeVar("F", bound=Callable[..., Any])

_NAME = re.compile(r"[\w.~-]+")
# What Chutes' own class takes besides, with its defaults; for deployment.
_OPTIONS: Mapping[str, Any] = MappingProxyType(
    {
        "standard_template": None,
        "revision": None,
        "max_instances": 1,
        "shutdown_after_seconds": 300,
        "scaling_threshold": 0.75,
        "allow_external_egress": False,
        "encrypted_fs": False,
        "passthrough_headers": MappingProxyType({}),
        "tee": False,
        "lock_modules": None,
    }
)
_OWN_OPTIONS = ("username", "name", "image", "tagline", "readme", "node_selector", "concurrency")
_CORD_OPTIONS = (
    *("path", "public_api_path", "public_api_method", "method", "stream", "input_schema", "output_content_type"),
    *("minimal_input_schema", "output_schema", "provision_timeout", "passthrough", "passthrough_path"),
    *("passthrough_port", "sglang_passthrough"),
)
_ROUTES = ("get", "post", "put", "patch", "delete", "head", "options", "route", "api_route", "add_api_route")
_ABSENT = {
    "job": "write a cord, which Prefer: respond-async runs as a job in the queue",
    **dict.fromkeys(_ROUTES, "a chute here is no FastAPI; write @chute.cord(public_api_path=...)"),
    **dict.fromkeys(
        ("middleware", "add_middleware", "mount", "include_router"),
        "a chute here is no FastAPI; add it to streamapp.compile_app(chute)",
    ),
}


class Chute:
    """Hold what was written for Chutes: the `self` of its functions.

    Args:
        name: the name in URLs, of letters, digits, - and _.
        image, node_selector: kept as they are, for deployment.
        tagline: the title of its page and of the API's description.
        readme: the text below it, as Markdown.
        concurrency: how many jobs run at a time; where None as many as of any app.
        others: what else Chutes' own class takes, kept as it is: `revision`, `shutdown_after_seconds` ...
    Raises:
        DefinitionError: there is no name, or an option that is none; says what to write.
    """

    def __init__(
        self,
        username: str | None = None,
        name: str | None = None,
        image: Any = None,
        tagline: str | None = "",
        readme: str | None = "",
        node_selector: Any = None,
        concurrency: int | None = None,
        **others: Any,
    ) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError(
                f"Chute(name={name!r}): the name is a part of URLs; write letters, digits, - and _: "
                f'Chute(username="me", name="my-chute")'
            )
        if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
            raise DefinitionError(f"Chute({name!r}): expected concurrency as a number from 1 on, got {concurrency!r}")
        for option in others:
            if option not in _OPTIONS:
                known = (*_OWN_OPTIONS, *_OPTIONS)
                near = _near(option, known) or f"; what it has: {', '.join(known)}"
                raise DefinitionError(f"Chute({name!r}) has no {option!r}{near}")
        self.username, self.name, self.image = username, name, image
        self.tagline, self.readme = tagline or "", readme or ""
        self.node_selector, self.concurrency = node_selector, concurrency
        self.__dict__.update({**_OPTIONS, **others})
        self._declared = _Declared()

    def cord(
        self,
        *misplaced: Any,
        path: str | None = None,
        public_api_path: str | None = None,
        public_api_method: str | None = None,
        method: str = "POST",
        stream: bool = False,
        input_schema: Any = None,
        output_content_type: str | None = None,
        **others: Any,
    ) -> Callable[[F], F]:
        """Serve a function at `public_api_path`, else at `path`, else at its name.

        Args:
            public_api_method, method: POST, or GET, with the input in the query; the first of them counts. What
                answers GET answers POST as well.
            stream: what it yields is sent as it comes, and a `StreamingResponse` that it returns as it is.
            input_schema: a model for a function whose one parameter has no type, or is a dict.
            output_content_type: `application/json` makes lines of JSON of a stream's values, `text/plain` text;
                otherwise they are server-sent events. Bytes are sent as what it says.
            others: what else Chutes' own takes, without effect.
        Raises:
            DefinitionError: something of it cannot be served; says what to write.
        """
        if misplaced:
            got = misplaced[0]
            given = f"public_api_path={got!r}" if isinstance(got, str) else ""
            raise DefinitionError(f"@chute.cord takes names alone, got {_shown(got)}; write @chute.cord({given})")
        said = public_api_path or path
        _check_cord(said, others)
        asked = str(public_api_method or method).upper()
        if asked not in ("GET", "POST"):
            raise DefinitionError(f"@chute.cord(method={asked!r}) is asked by nobody here; write POST or GET")

        def decorate(function: F) -> F:
            where = said or f"/{function.__name__}"
            self._declared.cords.append(Cord(function, where, asked, stream, input_schema, output_content_type, others))
            return function

        return decorate

    def on_startup(self, priority: int = 50) -> Callable[[F], F]:
        """Run a function, `async` or not, before anything is served; those of a lower priority first."""
        _check_priority(priority, "on_startup")

        def decorate(function: F) -> F:
            self._declared.startup.append(Hook(function, priority))
            return function

        return decorate

    def on_shutdown(self, priority: int = 50) -> Callable[[F], F]:
        """Run a function, `async` or not, when nothing is served any more; those of a lower priority first."""
        _check_priority(priority, "on_shutdown")

        def decorate(function: F) -> F:
            self._declared.shutdown.append(Hook(function, priority))
            return function

        return decorate

    def websocket(self, path: str) -> Callable[[F], F]:
        """Serve an `async def` function over a WebSocket that it gets itself: `(self, websocket: WebSocket)`.

        Path parameters, the query, headers and dependencies come as FastAPI fills them.
        """
        if not isinstance(path, str):
            raise DefinitionError(f'@chute.websocket takes a path, got {_shown(path)}; write @chute.websocket("/ws")')

        def decorate(function: F) -> F:
            self._declared.sockets.append(Socket(function, path))
            return function

        return decorate

    def __getattr__(self, name: str) -> Any:
        """Return a function of the chute's module as its method.

        Raises:
            AttributeError: there is none; says what to write.
        """
        declared = self.__dict__.get("_declared")
        if declared is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        function = declared.find(name)
        if function is not None:
            return MethodType(function, self)
        if name in _ABSENT:
            raise AttributeError(f"chute.{name} is not here: {_ABSENT[name]}")
        raise AttributeError(
            f"self.{name} is not there: set it in @chute.on_startup(), or write async def {name}(self, ...) "
            f"in {declared.file or 'the file of the chute'}"
        )

    def __streamapp_app__(self) -> type[App]:
        """Return the app that serves it; made once, when all is declared."""
        declared = self._declared
        if declared.app is None:
            declared.app = app_of(self, declared.cords, declared.sockets, declared.startup, declared.shutdown)
        return declared.app


class _Declared:
    """Hold the functions that were decorated."""

    def __init__(self) -> None:
        self.cords: list[Cord] = []
        self.sockets: list[Socket] = []
        self.startup: list[Hook] = []
        self.shutdown: list[Hook] = []
        self.app: type[App] | None = None

    @property
    def _functions(self) -> list[Callable[..., Any]]:
        declared: list[Cord | Socket | Hook] = [*self.cords, *self.sockets, *self.startup, *self.shutdown]
        return [each.function for each in declared]

    @property
    def file(self) -> str:
        """Return the name of the file that the chute's functions are in; "" where there is none yet."""
        code = next((code for f in self._functions if (code := getattr(inspect.unwrap(f), "__code__", None))), None)
        return "" if code is None else Path(code.co_filename).name

    def find(self, name: str) -> Callable[..., Any] | None:
        """Return a function that was decorated, or one beside it whose first parameter is `self`; None of others."""
        functions = self._functions
        for function in functions:
            if function.__name__ == name:
                return function
        for function in functions:
            found = getattr(inspect.unwrap(function), "__globals__", {}).get(name)
            if inspect.isfunction(found) and next(iter(inspect.signature(found).parameters), None) == "self":
                return found
        return None


def _check_cord(path: str | None, others: Mapping[str, Any]) -> None:
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise DefinitionError(f'@chute.cord: a path starts with "/", got {path!r}')
    if others.get("passthrough"):
        raise DefinitionError(
            "@chute.cord(passthrough=True) is not here: another server's model is openai = "
            "streamapp.OpenAI(text=streamapp.Upstream(url, model)) of a streamapp.App"
        )
    for option in others:  # others may be what the call of a cord takes elsewhere, `pass_chute` say
        if option not in _CORD_OPTIONS and (near := _near(option, _CORD_OPTIONS)):
            raise DefinitionError(f"@chute.cord has no {option!r}{near}")


def _check_priority(priority: Any, name: str) -> None:
    if type(priority) is not int:
        raise DefinitionError(f"@chute.{name} takes a priority, got {_shown(priority)}; write @chute.{name}()")


def _near(option: str, options: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(option, options, n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def _shown(value: Any) -> str:
    return str(getattr(value, "__qualname__", repr(value)))
