"""Make text by language models, for many readers at a time."""

from typing import TYPE_CHECKING

from .extra import __getattr__
from .generation import Ending, LogProb, Sampling, TextModel, Token, Usage
from .named import named

if TYPE_CHECKING:
    from .engine import Engine, EngineStatistics
    from .tokenstream import TokenStream

__all__ = [
    "Ending",
    "Engine",
    "EngineStatistics",
    "LogProb",
    "Sampling",
    "TextModel",
    "Token",
    "TokenStream",
    "Usage",
    "__getattr__",
    "named",
]
