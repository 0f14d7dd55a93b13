"""Watch a diffusers scheduler: hear when its timesteps are set, and of each of its steps.

A watched scheduler is of a subclass of its class, of the same name, whose steps tell the watcher that the scheduler
itself holds. An attribute `step` of the scheduler's own would do until a pipeline copies it (LTX-2 does, for its
sound): the copy would take the attribute along, and its steps would drive the original.

What is made of a watched scheduler, by `copy`, `deepcopy` or `pickle`, is of the plain class and is not watched.

This module knows no torch; what a step says about the picture is `diffusion`'s.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_WATCHER = "_streamapp_watcher"
_PLAIN = "_streamapp_plain"
_STEPS = ("step", "step_pred")  # the second is that of score-based models


class Watcher(Protocol):
    """Hear of a scheduler, in the thread that drives it; what it raises leaves the scheduler's caller."""

    def begin(self) -> None:
        """Hear that the timesteps were set: a denoising loop is about to begin."""

    def on_step(self, call: Mapping[str, Any], output: Any) -> None:
        """Hear of a step just done: its arguments by name, and what it returned."""


class Reference:
    """Hold a watcher, and stay one when the scheduler's `__dict__` is copied, as MultiDiffusion does for each view."""

    __slots__ = ("watcher",)

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher

    def __deepcopy__(self, memo: dict[int, Any]) -> Reference:
        return self


def is_scheduler(value: Any) -> bool:
    """Tell whether this has timesteps, or will have them, and steps that can be watched."""
    has_timesteps = hasattr(type(value), "set_timesteps") or hasattr(value, "timesteps")
    return has_timesteps and any(hasattr(type(value), name) for name in _STEPS)


def watch(scheduler: Any, watcher: Watcher) -> None:
    """Tell `watcher` of this scheduler from now on, instead of who watched it before."""
    scheduler.__class__ = _watched(_plain(type(scheduler)))
    vars(scheduler)[_WATCHER] = Reference(watcher)


def unwatch(scheduler: Any) -> None:
    """Leave the scheduler as it was before it was watched."""
    scheduler.__class__ = _plain(type(scheduler))
    vars(scheduler).pop(_WATCHER, None)


def _plain(cls: type) -> type:
    plain: type = vars(cls).get(_PLAIN, cls)
    return plain


@functools.cache
def _watched(plain: Any) -> type:
    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        return _new, (plain,), {name: value for name, value in vars(self).items() if name != _WATCHER}

    members: dict[str, Any] = {name: getattr(plain, name) for name in ("__module__", "__qualname__", "__doc__")}
    steps = {name: _telling(getattr(plain, name), _tell_step) for name in _STEPS if hasattr(plain, name)}
    begin = {"set_timesteps": _telling(plain.set_timesteps, _tell_begin)} if hasattr(plain, "set_timesteps") else {}
    return type(plain.__name__, (plain,), {**members, **steps, **begin, _PLAIN: plain, "__reduce_ex__": __reduce_ex__})


def _new(cls: Any) -> Any:
    return cls.__new__(cls)


def _telling(method: Callable[..., Any], tell: Callable[[Watcher, Mapping[str, Any], Any], None]) -> Any:
    signature = inspect.signature(method)

    # Pipelines look into the signature of `step`: without `wraps` they would no longer pass `generator` and `eta`,
    # and Euler-a and LCM would ignore the seed.
    @functools.wraps(method)
    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = method(self, *args, **kwargs)
        if (reference := vars(self).get(_WATCHER)) is not None:
            tell(reference.watcher, signature.bind(self, *args, **kwargs).arguments, output)
        return output

    return told


def _tell_step(watcher: Watcher, call: Mapping[str, Any], output: Any) -> None:
    watcher.on_step(call, output)


def _tell_begin(watcher: Watcher, call: Mapping[str, Any], output: Any) -> None:
    watcher.begin()
