"""Know the models that are served by their names, as OpenAI's clients ask for them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ModelNotFound, QueueTimeout, StreamAppError
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

    def known_name(self, path: str) -> str:
        """Return what the first model that answers at a path may be called, before its app is set up as well."""
        return next(model.known_name for model in self._models if path in model.asks)

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
            raise refusal("model", f"expected one of {_listed(await _names_of(able))}")
        found = [model for model in able if name in (model.name, model.served.name)]
        found = found or [model for model in able if name in await model.names()]
        if not found:
            named = _listed(await _names_of(able))
            raise ModelNotFound(
                f"the model {name[:80]!r} does not exist; there are {named}; what an app answers to it says by "
                "streamapp.OpenAI(model=...)"
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

    async def listed(self) -> dict[str, Any]:
        """Return what `/v1/models` answers."""
        return {"object": "list", "data": [self._told(name) for name in await _names_of(self._models)]}

    async def named(self, name: str) -> dict[str, Any]:
        """Return what `/v1/models/{name}` answers.

        Raises:
            ModelNotFound: there is none.
        """
        names = await _names_of(self._models)
        if name not in names:
            raise ModelNotFound(f"the model {name[:80]!r} does not exist; there are {_listed(names)}")
        return self._told(name)

    def _told(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": "streamapp"}


async def _names_of(models: Sequence[Model]) -> list[str]:
    """Return the names of models; of a server elsewhere that does not answer what it is called here."""
    names: list[str] = []
    for model in models:
        try:
            names += await model.names()
        except StreamAppError:  # which has logged it
            names.append(model.name)
    return list(dict.fromkeys(names))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))[:_MOST_NAMED]
