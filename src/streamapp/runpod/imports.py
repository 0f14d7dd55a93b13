"""Let a served file import `runpod`: the real package, of which two or three functions are ours then, else ours.

Divergence: this is the one place where modules of somebody else are patched. `runpod.serverless.start` would run the
package's own loop while the file is imported, and never return; `progress_update` would send to Runpod; what
`rp_debugger` timed in one job it would refuse to time in the next, as that loop clears it after each. And
`signal.signal`, while a file is imported again.
"""

import importlib
import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from .handlers import note_start, register_fitness_check
from .progress import progress_update

_NAME = "runpod"
_OURS = __package__


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
    if _Finder in sys.meta_path:
        return
    for name in [name for name in _REPLACED if name in sys.modules]:
        _patch(sys.modules[name])
    sys.meta_path.insert(0, _Finder)


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


class _Finder:
    """Find what others find as well, to patch it when it was loaded; where they find no package, find ours."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] != _NAME:
            return None
        if name != _NAME and sys.modules[_NAME] is sys.modules[_OURS]:
            ours = importlib.util.find_spec(_OURS + name.removeprefix(_NAME))
            return None if ours is None else ModuleSpec(name, _Alias())
        spec = _found_by_others(name, path, target)
        if name == _NAME and (spec is None or spec.origin is None):  # a folder that is called so is no package
            return ModuleSpec(name, _Alias())
        if spec is not None and spec.loader is not None and name in _REPLACED:
            spec.loader = _Patching(spec.loader)
        return spec


def _found_by_others(name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    finders = (finder for finder in sys.meta_path if finder is not _Finder)
    return next(filter(None, (finder.find_spec(name, path, target) for finder in finders)), None)


class _Alias(Loader):
    """Load a module of ours under the name of Runpod's: the same one, not a second with a state of its own."""

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        sys.modules[name] = importlib.import_module(_OURS + name.removeprefix(_NAME))


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
