"""Know what a diffusers pipeline is made of: pipelines inside it, their schedulers, and how long their loops are.

A pipeline's steps are what its own progress bar counts, n of the n that were asked for, however often it calls its
scheduler for one of them: twice with Heun, once more in all with PNDM, once for each view with MultiDiffusion.

This module knows no torch; what the latents of a step look like is `diffusion`'s.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .schedulers import is_scheduler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PREPARING = ("progress_bar", "prepare_latents", "get_views")
_ROOT = ""
View = tuple[int, int, int, int]  # top, bottom, left, right


class Loop(NamedTuple):
    """Say how a denoising loop counts its steps."""

    #: how often it goes round
    turns: int
    #: the steps that were asked for
    total: int
    #: turns more than the steps need: the warm-up of PNDM
    idle: int
    #: turns that a step takes: 2 with Heun, of which the last step needs but one
    order: int

    def step(self, turn: int) -> int:
        """Return the step that a turn belongs to; both count from 1."""
        return max(1, math.ceil((turn - self.idle) / self.order))

    def begins_step(self, turn: int) -> bool:
        """Tell whether a turn is the first of its step."""
        return turn == 1 or self.step(turn) != self.step(turn - 1)


class Listener(Protocol):
    """Hear of the parts of a job, in its thread."""

    def on_preparing(self, part: Part) -> None:
        """Hear that this part prepares its loop: the steps that come are its own."""

    def on_update(self, part: Part, count: int, total: int) -> None:
        """Hear of a progress bar that goes on without a step of the part's schedulers: SkyReels takes copies."""


class Part:
    """Hear from one pipeline what its scheduler does not know: how long its loop is, and what its latents cover.

    A job has one for its pipeline, and one for each pipeline inside that.
    """

    def __init__(self, pipe: Any, name: str = _ROOT) -> None:
        self.pipe = pipe
        #: "prior" of an attribute `prior_pipe`; empty for the pipeline itself
        self.name = name
        #: whether it has a model that decodes latents; what has none makes embeddings, or pixels
        self.decodes = any(hasattr(value, "decode") and hasattr(value, "parameters") for value in vars(pipe).values())
        #: (height, width) of the image that latents were prepared for; packed ones do not tell
        self.size: tuple[int, ...] = ()
        #: of the latents that it prepared
        self.shape: tuple[int, ...] = ()
        #: what of the latents each call of the scheduler sees, where that is not the whole
        self.views: list[View] = []
        #: whether a step of its own schedulers was seen since its progress bar began
        self.is_seen = False
        self._bar: Any = None
        self._bar_turns: int | None = None
        self._bar_total: int | None = None

    def listen(self, listener: Listener) -> None:
        """Hear how the pipeline prepares its loop, until `leave`."""
        for name in _PREPARING:
            if hasattr(self.pipe, name):
                vars(self.pipe)[name] = self._telling(name, listener)

    def leave(self) -> None:
        """Hear no more; what it heard by are also reference cycles, which would keep the job's tensors."""
        for name in _PREPARING:
            vars(self.pipe).pop(name, None)
        self._drop_bar()

    def begin(self) -> None:
        """Forget the progress bar of the loop before."""
        self._bar_turns = self._bar_total = None

    def loop(self, scheduler: Any) -> Loop:
        """Return the loop that begins now: its timesteps are set, and its progress bar is there if it has one."""
        order = getattr(scheduler, "order", 1)
        length, idle = len(scheduler.timesteps), 0
        turns = self._bar_turns
        if turns is None:
            asked = getattr(scheduler, "num_inference_steps", None) or length
            idle = max(0, length - asked * order)
            turns = self._turns_of(scheduler, order, idle)
        return Loop(turns, max(1, math.ceil((turns - idle) / order)), idle, order)

    def _turns_of(self, scheduler: Any, order: int, idle: int) -> int:
        length = len(scheduler.timesteps)
        if known := getattr(self.pipe, "num_timesteps", None):  # what an image to begin with leaves of them
            return min(int(known), length)
        if self._bar_total is not None:
            return min(self._bar_total * order + idle, length)
        return length - (getattr(scheduler, "begin_index", None) or 0)

    def _telling(self, name: str, listener: Listener) -> Any:
        method = getattr(self.pipe, name)
        signature = inspect.signature(method)

        @functools.wraps(method)
        def told(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            call = signature.bind(*args, **kwargs).arguments
            match name:
                case "progress_bar":
                    self._on_progress_bar(call, result, listener)
                case "prepare_latents":
                    self._on_prepare_latents(call, result)
                case _:
                    self.views = result
            listener.on_preparing(self)
            return result

        return told

    def _on_progress_bar(self, call: Mapping[str, Any], bar: Any, listener: Listener) -> None:
        iterable: Any = call.get("iterable")
        self._bar_turns = len(iterable) if hasattr(iterable, "__len__") else None
        self._bar_total = call.get("total")
        if self._bar_total is not None and hasattr(bar, "update"):
            self._follow(bar, self._bar_total, listener)

    def _follow(self, bar: Any, total: int, listener: Listener) -> None:
        self._drop_bar()
        update, count = bar.update, 0

        def updated(n: int = 1) -> Any:
            nonlocal count
            count += n
            result = update(n)
            if not self.is_seen:
                listener.on_update(self, count, total)
            return result

        bar.update = updated
        self._bar, self.is_seen = bar, False

    def _drop_bar(self) -> None:
        if self._bar is not None:
            vars(self._bar).pop("update", None)
            self._bar = None

    def _on_prepare_latents(self, call: Mapping[str, Any], latents: Any) -> None:
        self.size = tuple(call[name] for name in ("height", "width") if name in call)
        self.shape = tuple(getattr(latents, "shape", ()))


def lend(pipe: Any) -> tuple[Any, list[Part]]:
    """Return a copy of a pipeline with schedulers of its own, and its parts, innermost first; the models are shared."""
    copies: dict[int, Any] = {}
    names = []
    for name, inner in pipelines(pipe):
        names.append((name, id(inner)))
        copies[id(inner)] = copy.copy(inner)
        for scheduler in schedulers(inner):
            copies.setdefault(id(scheduler), copy.deepcopy(scheduler))
    for _, key in names:
        twin = vars(copies[key])
        twin.update({name: copies[id(value)] for name, value in twin.items() if id(value) in copies})
    return copies[id(pipe)], [Part(copies[key], name) for name, key in names]


def pipelines(pipe: Any, name: str = _ROOT, seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Yield the pipelines inside a pipeline, each once and with its name, and it last."""
    seen = set() if seen is None else seen
    seen.add(id(pipe))
    for attribute, value in vars(pipe).items():
        if id(value) not in seen and _is_pipeline(value):
            yield from pipelines(value, attribute.removesuffix("_pipe"), seen)
    yield name, pipe


def schedulers(pipe: Any) -> list[Any]:
    """Return the schedulers that a pipeline holds."""
    return [value for value in vars(pipe).values() if is_scheduler(value)]


def _is_pipeline(value: Any) -> bool:
    return hasattr(value, "__dict__") and not isinstance(value, type) and is_scheduler(vars(value).get("scheduler"))
