"""Declare a chute: what `@chute.cord`, `@chute.on_startup` and `@chute.websocket` say. Nothing runs here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ..app import App
from .apps import app_of
from .selector import NodeSelector as NodeSelector

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Cord:
    """Hold what was written in `@chute.cord(...)`."""

    function: Callable[..., Any]
    path: str
    method: str = "POST"
    stream: bool = False
    input_schema: Any = None
    output_content_type: str | None = None


class Chute:
    """Hold what was written for Chutes; it is the `self` of its functions, and keeps what they set on it."""

    def __init__(
        self,
        username: str = "",
        name: str = "chute",
        image: Any = None,
        *,
        tagline: str = "",
        readme: str = "",
        node_selector: Any = None,
        concurrency: int | None = None,
        **others: Any,
    ) -> None:
        self.username, self.name, self.image = username, name, image
        self.tagline, self.readme, self.node_selector, self.concurrency = tagline, readme, node_selector, concurrency
        self._cords: list[Cord] = []
        self._app: type[App] | None = None

    def cord(
        self,
        *,
        path: str | None = None,
        public_api_path: str | None = None,
        public_api_method: str | None = None,
        method: str = "POST",
        stream: bool = False,
        input_schema: Any = None,
        output_content_type: str | None = None,
        **others: Any,
    ) -> Callable[[F], F]:
        """Serve a function."""

        def decorate(function: F) -> F:
            where = public_api_path or path or f"/{function.__name__}"
            asked = (public_api_method or method).upper()
            self._cords.append(Cord(function, where, asked, stream, input_schema, output_content_type))
            return function

        return decorate

    def __streamapp_app__(self) -> type[App]:
        """Return the app that serves it; made once, when all is declared."""
        if self._app is None:
            self._app = app_of(self, self._cords)
        return self._app
