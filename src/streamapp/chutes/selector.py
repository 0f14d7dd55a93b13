"""Note what machine a chute asks for, as Chutes' own class does: it stays readable, and chooses nothing here."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import DefinitionError

_MOST_GPUS = 8


@dataclass(frozen=True, slots=True)
class NodeSelector:
    """Say on which machines a chute may run; here it runs on this one.

    Args:
        min_vram_gb_per_gpu: any number of gigabytes; Chutes takes 16 to 140.
        include: kinds of GPUs, one of which it has to be, like "h100".
        exclude: those that it must not be.
    Raises:
        DefinitionError: a value says nothing about machines.
    """

    gpu_count: int = 1
    min_vram_gb_per_gpu: int = 16
    max_hourly_price_per_gpu: float | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if type(self.gpu_count) is not int or not 1 <= self.gpu_count <= _MOST_GPUS:
            self._refuse("gpu_count", f"1 to {_MOST_GPUS}")
        if not _is_positive(self.min_vram_gb_per_gpu):
            self._refuse("min_vram_gb_per_gpu", "a number of gigabytes, more than 0")
        if self.max_hourly_price_per_gpu is not None and not _is_positive(self.max_hourly_price_per_gpu):
            self._refuse("max_hourly_price_per_gpu", "a price in dollars, more than 0, or None")
        for name in ("include", "exclude"):
            kinds = getattr(self, name)
            if kinds is not None and (isinstance(kinds, str) or not all(isinstance(kind, str) for kind in kinds)):
                self._refuse(name, 'a list of kinds of GPUs like ["h100"], or None')

    def _refuse(self, name: str, expected: str) -> None:
        raise DefinitionError(f"NodeSelector: expected {name} to be {expected}, got {getattr(self, name)!r}")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
