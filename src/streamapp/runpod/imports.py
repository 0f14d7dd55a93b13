"""Let a served file import `runpod`: the real package, of which two or three functions are ours then, else ours.

Divergence: this is the one place where modules of somebody else are patched. `runpod.serverless.start` would run the
package's own loop while the file is imported, and never return; `progress_update` would send to Runpod; what
`rp_debugger` timed in one job it would refuse to time in the next, as that loop clears it after each. And
`signal.signal`, while a file is imported again.
"""

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ..aliases import AliasFinder
from .handlers import note_start, register_fitness_check
from .progress import progress_update


def _start(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def start(config: Any) -> Any:
        return None if note_start(config) else real(config)

    return start


def _checkpoints(real: Any) -> Any:
    add = real.add

    def add_anew(self: Any, name: str) -> None:
        if name not in self.name_lookup:
            add(self, name)

    real.add = add_anew
    return real


# By module, what takes the place of a function or a class, made of the real one.
_REPLACED: dict[str, dict[str, Callable[[Any], Any]]] = {
    "runpod.serverless": {"start": _start},
    "runpod.serverless.modules.rp_progress": {"progress_update": lambda real: progress_update},
    "runpod.serverless.modules.rp_fitness": {"register_fitness_check": lambda real: register_fitness_check},
    "runpod.serverless.utils.rp_debugger": {"Checkpoints": _checkpoints},
}


def offer_runpod() -> None:
    """Have `import runpod` find something to serve, from now on in this process; again is without effect."""
    if _FINDER in sys.meta_path:
        return
    for name in [name for name in _REPLACED if name in sys.modules]:
        _patch(sys.modules[name])
    _FINDER.offer()


def _patch(module: ModuleType) -> None:
    for name, replaced in _REPLACED[module.__name__].items():
        setattr(module, name, replaced(getattr(module, name)))


@contextmanager
def leaving_signals() -> Iterator[None]:
    """Leave signals as they are, meanwhile, where they are set beside the main thread, which Python refuses.

    What a file sets, its first import has set; a second one is in the inference thread.
    """
    real = signal.signal

    def set_signal(signalnum: Any, handler: Any) -> Any:
        try:
            return real(signalnum, handler)
        except ValueError:
            return signal.getsignal(signalnum)

    signal.signal = set_signal
    try:
        yield
    finally:
        signal.signal = real


class _Finder(AliasFinder):
    """Patch what others find, when it was loaded."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = super().find_spec(name, path, target)
        if name in _REPLACED and not self.is_ours and spec is not None and spec.loader is not None:
            spec.loader = _Patching(spec.loader)
        return spec


class _Patching(Loader):
    """Load a module as its loader does, and patch it."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _patch(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_FINDER = _Finder("runpod", __package__)
