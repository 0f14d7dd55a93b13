"""Stand for `fal.app`: what apps are written with, and `wrap_app`, which a script calls to have its app served.

Divergence: `wrap_app` imports the command line when it is called, by its name: with it comes a web server, which nobody
needs who only imports an app, and rooms to the right of this one.
"""

import importlib
from collections.abc import Callable
from typing import Any, NoReturn

from ..app import App, get_current_app, is_app_class
from ..endpoint import endpoint
from ..errors import DefinitionError

__all__ = ["App", "endpoint", "get_current_app", "realtime", "wrap_app"]


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
        importlib.import_module("streamapp.cli.main").main(["serve", f"{cls.__module__}:{cls.__qualname__}", *port])
        raise AssertionError  # it has ended the process

    return serve


def realtime(path: str, **options: Any) -> NoReturn:
    """Refuse an endpoint of fal's realtime protocol.

    Raises:
        DefinitionError: in any case; says what to write instead.
    """
    raise DefinitionError(
        f"@realtime({path!r}): websockets are not served; stream with yield from an @endpoint instead, or take each "
        "message by a POST of its own. Without this endpoint the rest of the app is served"
    )
