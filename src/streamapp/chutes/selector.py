"""Note what machine a chute asks for, as Chutes' own class does: it stays readable, and chooses nothing here."""

from typing import Any


class NodeSelector:
    """Hold what was asked for."""

    def __init__(self, gpu_count: int = 1, min_vram_gb_per_gpu: int = 16, **others: Any) -> None:
        self.gpu_count, self.min_vram_gb_per_gpu = gpu_count, min_vram_gb_per_gpu
        self.others = others
