"""Give handlers the name of Runpod's checks at start."""

from ...handlers import register_fitness_check

__all__ = ["register_fitness_check"]
