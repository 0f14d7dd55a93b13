"""Make text by language models, for many readers at a time."""

from .generation import Ending, LogProb, Sampling, Token, Usage

__all__ = ["Ending", "LogProb", "Sampling", "Token", "Usage"]
