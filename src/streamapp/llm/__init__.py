"""Make text by language models, for many readers at a time."""

from .engine import Engine, EngineStatistics
from .generation import Ending, LogProb, Sampling, TextModel, Token, Usage
from .named import named
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
    "named",
]
