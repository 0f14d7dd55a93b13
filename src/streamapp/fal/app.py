"""Stand for `fal.app`: what apps are written with, and `wrap_app`, which a script calls to have its app served.

Divergence: `wrap_app` imports the command line when it is called: with it comes a web server, which nobody needs who
only imports an app, and rooms to the right of this one.
"""

import inspect
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from .. import session
from ..app import App, get_current_app, is_app_class
from ..endpoint import endpoint
from ..errors import DefinitionError
from ..later import module

__all__ = ["App", "endpoint", "get_current_app", "realtime", "wrap_app"]

_command_line = module("..cli.main", __package__)
F = TypeVar("F", bound=Callable[..., Any])
_ANNOTATED: Any = object()  # where fal goes by the annotations: None says something else there


def wrap_app(cls: type[App], **options: Any) -> Callable[..., NoReturn]:
    """Return what serves an app from its own script, `fal.wrap_app(Painter)()`: as `streamapp serve` does, and here.

    Call that in the main thread, under `if __name__ == "__main__":`; it takes `exposed_port`, 8000 if not given, serves
    until a signal comes, and ends the process.

    Args:
        cls: stands at the top of its module.
        options: choose machines; without effect here.
    Raises:
        DefinitionError: it is no app.
    """
    if not is_app_class(cls):
        raise DefinitionError(f"Expected a subclass of fal.App, got {cls!r}; write fal.wrap_app(Painter)()")

    def serve(*, exposed_port: int | None = None, **options: Any) -> NoReturn:
        port = () if exposed_port is None else (f"--port={exposed_port}",)
        _command_line.main(["serve", f"{cls.__module__}:{cls.__qualname__}", *port])
        raise AssertionError  # it has ended the process

    return serve


def realtime(
    path: str,
    *,
    buffering: int | None = None,
    session_timeout: float | None = None,
    input_modal: Any = _ANNOTATED,
    output_modal: Any = _ANNOTATED,
    max_batch_size: int = 1,
    content_type: str = "application/msgpack",
    encode_message: Callable[[Any], bytes] | None = None,
    decode_message: Callable[[bytes], Any] | None = None,
) -> Callable[[F], F]:
    """Serve a method as `streamapp.realtime` does, which says what each argument is.

    Args:
        input_modal, output_modal: None takes what comes as it is, and so does a method that has no annotation for it.
    Raises:
        DefinitionError: an argument is not of that form; says what to write.
    """

    def decorate(function: F) -> F:
        is_bare = input_modal is _ANNOTATED and _takes_anything(function)
        return session.realtime(
            path,
            buffering=buffering,
            session_timeout=session_timeout,
            input_modal=Any if is_bare else _type(input_modal),
            output_modal=_type(output_modal),
            max_batch_size=max_batch_size,
            content_type=content_type,
            encode_message=encode_message,
            decode_message=decode_message,
        )(function)

    return decorate


def _type(modal: Any) -> Any:
    """Return what stands here for a modal of fal's: None for what the annotations say."""
    return Any if modal is None else None if modal is _ANNOTATED else modal


def _takes_anything(function: Any) -> bool:
    parameters = list(inspect.signature(function).parameters.values())[1:] if callable(function) else []
    return len(parameters) == 1 and parameters[0].annotation is inspect.Parameter.empty
