"""Have FastAPI read what a route takes when it is first asked, or described: `LaterRoute`.

A server has dozens of routes that most clients never ask. To read one takes half a millisecond of the start, and with
the first one that has parameters FastAPI imports pydantic's version 1, which takes twelve.
"""

from collections.abc import Callable, Collection
from typing import Any

from fastapi.routing import APIRoute
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..process.threads import in_pool


class LaterRoute(APIRoute):
    """Be a route of FastAPI's, also where another app includes it, whose own attributes are there when they are read.

    Args:
        described: what FastAPI is told of it.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], *, methods: Collection[str], **described: Any) -> None:
        is_shown = described.get("include_in_schema", True)
        Route.__init__(self, path, endpoint, name=described.get("name"), include_in_schema=is_shown)
        self.methods = {*methods}  # without HEAD beside GET, which Starlette adds
        self._described = {"methods": [*methods], "response_model": None, **described}
        self.app = self._serve

    def __getattr__(self, name: str) -> Any:
        if "_described" in vars(self):  # and not while it is being copied
            self.make()
        if name not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return vars(self)[name]

    def make(self) -> None:
        """Have FastAPI read it; again is without effect. Any thread may ask."""
        if "_made_app" in vars(self):
            return
        made = object.__new__(type(self))
        APIRoute.__init__(made, self.path, self.endpoint, **self._described)
        own = vars(self) if self.app != self._serve else {**vars(self), "app": made.app}
        vars(self).update({**vars(made), **own, "_made_app": made.app})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "_made_app" not in vars(self):
            await self._make_beside()
        await self._made_app(scope, receive, send)

    async def _make_beside(self) -> None:
        if self.endpoint.__code__.co_argcount > 1:
            await in_pool(self.make)
        else:  # what takes nothing but the request is read at once: probes are answered where no thread is to be had
            self.make()
