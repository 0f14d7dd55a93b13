"""Keep torch's modes to the job that has set them.

A generator that yields inside of `torch.no_grad()`, `inference_mode()`, `autocast()` or `torch.device()` leaves the
thread in that mode, and what another job's generator does next would run in it, or end it. So a job's modes are set
aside at the end of its turn, and are back at the beginning of its next one. Torch is not imported for it, and where
another thread is about to import it, it is not there yet.

What sets a mode in torch restores, when it is left, all that it has found, whatever was entered and left meanwhile. So
one that enters the usual mode sets aside another, and brings it back when it is left: in any order of jobs. Those that
see each call, as `torch.device` does, are a stack of the thread's, which is exchanged as a whole.
"""

import sys
from contextlib import ExitStack
from typing import Any

_AUTOCAST = ("cpu", "cuda")


#: with gradients, for inference, with autocast on which devices, what sees each call: a tuple, as each turn makes one
Found = tuple[bool, bool, bool, bool, tuple[Any, ...]]


class Modes:
    """Hold the modes of one job, while it is not its turn.

    Args:
        usual: those of the thread, in which others run.
    """

    __slots__ = ("_aside", "_usual")

    def __init__(self, usual: Found) -> None:
        self._usual = usual
        self._aside: ExitStack | None = None

    def bring_back(self) -> None:
        """Have the job's modes in its turn."""
        if self._aside is not None:
            aside, self._aside = self._aside, None
            aside.close()

    def set_aside(self) -> None:
        """Have the usual ones in the thread, as the job's turn is over."""
        torch = _torch()
        if torch is None or (found := _found(torch)) == self._usual:
            return
        grad, inference, *autocast, calls = self._usual
        self._aside = ExitStack()
        if found[-1] != calls:  # first, and back last: setting the others is such a call
            _exchange(torch, calls)
            self._aside.callback(_exchange, torch, found[-1])
        self._aside.enter_context(torch.inference_mode(inference))
        torch.set_grad_enabled(grad)
        for device, is_usual in zip(_AUTOCAST, autocast, strict=True):
            if torch.is_autocast_enabled(device) != is_usual:
                self._aside.enter_context(torch.autocast(device, enabled=is_usual))

    def end(self) -> None:
        """Have the usual ones in the thread, as the job is over: what its code has not left is left."""
        torch = _torch()
        if torch is not None:
            torch.set_grad_enabled(self._usual[0])


def usual_modes() -> Found:
    """Return the modes that this thread is in."""
    torch = _torch()
    return (True, False, False, False, ()) if torch is None else _found(torch)


def _torch() -> Any:
    """Return torch where it has been imported, whole; None else."""
    torch = sys.modules.get("torch")
    return None if getattr(getattr(torch, "__spec__", None), "_initializing", False) else torch


def _found(torch: Any) -> Found:
    has_autocast, modes = torch.is_autocast_enabled, torch._C
    calls = tuple(modes._get_function_stack_at(at) for at in range(modes._len_torch_function_stack()))
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), has_autocast("cpu"), has_autocast("cuda"), calls


def _exchange(torch: Any, calls: tuple[Any, ...]) -> None:
    for _ in range(torch._C._len_torch_function_stack()):
        torch._C._pop_torch_function_stack()
    for mode in calls:
        torch._C._push_on_torch_function_stack(mode)
