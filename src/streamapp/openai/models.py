"""Know the models that are served by their names, as OpenAI's clients ask for them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ModelNotFound, QueueTimeout
from ..runtime import Runtime
from .asked import refusal
from .declared import Model

_MOST_NAMED = 400  # characters of names in a message


class Models:
    """Hold the models that one of the paths is asked for.

    Args:
        created: when the server began, in seconds.
    """

    def __init__(self, models: Sequence[Model], runtime: Runtime, created: int) -> None:
        self._models = models
        self._runtime = runtime
        self._created = created

    async def pick(self, path: str, given: Mapping[str, Any]) -> Model:
        """Return the model that a request is for, once its app is set up: the only one, where it names none.

        Raises:
            ModelNotFound: there is none of that name that answers there.
            RequestValidationError: the name is no text, or is missing where there are several.
            SetupFailed: the app's setup has.
        """
        name = given.get("model")
        if name is not None and not isinstance(name, str):
            raise refusal("model", "expected text")
        able = [model for model in self._models if path in model.asks]
        for model in able:
            await self._ready(model)
        if not name and len(able) == 1:
            return able[0]
        if not name:
            raise refusal("model", f"expected one of {_listed(able)}")
        found = [model for model in able if name in (model.name, model.served.name)]
        if not found:
            raise ModelNotFound(
                f"the model {name[:80]!r} does not exist; write model={_listed(able)}; what an app answers to it says "
                "by streamapp.OpenAI(model=...)"
            )
        return found[0]

    async def _ready(self, model: Model) -> None:
        """Wait for the setup of an app, as its jobs do: only then it has its language model."""
        ready = model.served.ready
        if model.text is None or (ready.done() and ready.exception() is None):
            return
        if not self._runtime.is_draining:
            self._runtime.start()  # mounted in another app, nothing else has
        most_s = model.served.settings.queue_timeout_s
        waiting = asyncio.wrap_future(ready)
        await asyncio.wait({waiting}, timeout=most_s)
        if not waiting.done():
            raise QueueTimeout(f"the app {model.served.name} was not set up within {most_s:g} s")
        waiting.result()

    def listed(self) -> dict[str, Any]:
        """Return what `/v1/models` answers."""
        return {"object": "list", "data": [self._told(name) for name in dict.fromkeys(m.name for m in self._models)]}

    def named(self, name: str) -> dict[str, Any]:
        """Return what `/v1/models/{name}` answers.

        Raises:
            ModelNotFound: there is none.
        """
        if name not in [model.name for model in self._models]:
            raise ModelNotFound(f"the model {name[:80]!r} does not exist; there are {_listed(self._models)}")
        return self._told(name)

    def _told(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "streamapp"}


def _listed(models: Sequence[Model]) -> str:
    return ", ".join(repr(name) for name in dict.fromkeys(model.name for model in models))[:_MOST_NAMED]
