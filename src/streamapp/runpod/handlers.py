"""Make an app of a handler that was written for Runpod.

`collecting` is how a file is read that calls `runpod.serverless.start(config)`: the call only notes the config. Who
runs handlers is `runner`, and which files are read so, `loading`.

Divergence: whether a handler streams is seen by what comes back, not by what the function is, so a decorated one does
as well. A chunk with an error and other keys is streamed before it ends the job: Runpod's package drops them.
"""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, ClassVar

from ..errors import DefinitionError
from ..workers.results import empty_gpu_cache
from .apps import QueueApp
from .schema import schema_of

Config = MutableMapping[str, Any]
# What the flags of a script say where none is given: `config["rp_args"]`, which handlers may read.
_NO_FLAGS = {
    "rp_log_level": None,
    "rp_debugger": None,
    "rp_serve_api": None,
    "rp_api_port": 8000,
    "rp_api_concurrency": 1,
    "rp_api_host": "localhost",
    "test_input": None,
}


@dataclass(slots=True)
class Collected:
    """Hold what a module says of itself while it is imported.

    Attributes:
        configs: of each call of `start`.
        checks: what `register_fitness_check` was given.
    """

    configs: list[Any] = field(default_factory=list)
    checks: list[Callable[[], Any]] = field(default_factory=list)


# What a script registers, which is not read but runs, is the process's own.
_of_script = Collected()
_collected: ContextVar[Collected] = ContextVar("streamapp_collected", default=_of_script)


@contextmanager
def collecting() -> Iterator[Collected]:
    """Have `runpod.serverless.start(config)` note its config meanwhile, in this context, and return at once."""
    token = _collected.set(Collected())
    try:
        yield _collected.get()
    finally:
        _collected.reset(token)


def note_start(config: Any) -> bool:
    """Take note of a call of `start`; False where it is a script's, which wants to run."""
    collected = _collected.get()
    if collected is _of_script:
        return False
    if isinstance(config, MutableMapping):
        config.setdefault("rp_args", dict(_NO_FLAGS))
    collected.configs.append(config)
    return True


def register_fitness_check(check: Callable[[], Any]) -> Callable[[], Any]:
    """Run a function, which may be `async def`, before the first job; what it raises keeps the server from serving."""
    _collected.get().checks.append(check)
    return check


def registered_checks() -> tuple[Callable[[], Any], ...]:
    """Return what `register_fitness_check` was given, by the module that is being read, or by a script."""
    return tuple(_collected.get().checks)


@dataclass(frozen=True, slots=True)
class Handler:
    """Say how a handler is called, as its config does.

    Attributes:
        call: takes a job, `{"id", "input"}`.
        aggregates: Runpod's clients get the list of all that it yields.
        refreshes: its module is imported anew after each job.
        concurrency_modifier: takes how many jobs may run at a time, and returns how many may.
        checks: run before the first job.
    """

    call: Callable[[dict[str, Any]], Any]
    aggregates: bool = False
    refreshes: bool = False
    concurrency_modifier: Callable[[int], Any] | None = None
    checks: tuple[Callable[[], Any], ...] = ()

    @classmethod
    def of(cls, config: Any) -> "Handler":
        """Read a config.

        Raises:
            DefinitionError: it has no handler that takes a job.
        """
        write = 'write runpod.serverless.start({"handler": handler})'
        if not isinstance(config, Mapping):
            raise DefinitionError(f"runpod.serverless.start takes a dict, got {config!r}; {write}")
        call, modifier = config.get("handler"), config.get("concurrency_modifier")
        if not callable(call):
            raise DefinitionError(f'runpod.serverless.start: expected a function as "handler", got {call!r}; {write}')
        _check_takes(call, "a job", "handler(job)", "handler")
        if modifier is not None:
            _check_takes(modifier, "the current concurrency", "modifier(current)", "concurrency_modifier")
        return cls(
            call,
            aggregates=bool(config.get("return_aggregate_stream")),
            refreshes=bool(config.get("refresh_worker")),
            concurrency_modifier=modifier,
            checks=registered_checks(),
        )


def _check_takes(function: Any, what: str, write: str, key: str) -> None:
    """Refuse what cannot be called with one argument."""
    if not callable(function):
        raise DefinitionError(f'runpod.serverless.start: expected a function as "{key}", got {function!r}')
    try:
        signature = inspect.signature(function)
    except ValueError:  # of what is not written in Python, nobody knows
        return
    try:
        signature.bind(None)
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise DefinitionError(f'"{key}": {name}{signature} cannot take {what} ({error}); write def {write}') from None


_NO_HANDLER = Handler(lambda job: None)


class HandlerApp(QueueApp):
    """Run the jobs of a handler: `HandlerWorker` calls it.

    Attributes:
        handler: how it is called.
        read_again: imports its file anew, for a handler whose module has its first state; None where there is no file.
    """

    handler: ClassVar[Handler]
    read_again: ClassVar[Callable[[], Handler] | None] = None

    @classmethod
    def refresh(cls) -> None:
        """Let go of the handler, with all that its module holds, and read it again; raises what the module raises."""
        assert cls.read_again is not None
        cls.handler = _NO_HANDLER
        empty_gpu_cache()
        cls.handler = cls.read_again()

    def run_job(self, job: dict[str, Any]) -> Any:
        """Give the job to the worker, which has the handler, and knows what to do with what comes of it."""
        return job


def handler_app(config: Any, *, name: str, module: ModuleType | None = None) -> type[HandlerApp]:
    """Make an app of what `runpod.serverless.start` was given.

    Args:
        name: in URLs: the endpoint's id.
        module: what has started it; says what the input is, where the handler's own does not, or is a decorator's.
    Raises:
        DefinitionError: the config has no handler that takes a job.
    """
    handler = Handler.of(config)
    function = innermost(handler.call)
    told = {
        "handler": handler,
        "aggregates": handler.aggregates,
        "input_schema": schema_of(inspect.getmodule(function)) or schema_of(module),
        "__doc__": (inspect.getdoc(function) if inspect.isroutine(function) else None) or "",
        "__module__": getattr(function, "__module__", None) or __name__,
    }
    return type("Handled", (HandlerApp,), told, name=name)


def innermost(function: Any) -> Any:
    """Return what a partial, a decorator or an object that can be called is about."""
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not inspect.isclass(function):
        return type(function)
    return inspect.unwrap(function)
