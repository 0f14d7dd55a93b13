"""Checkpoints of the classes that Chutes' documents load, with random weights of a few channels, under the same names.

A folder that is called as a model of the hub is wins over the hub, for a process whose working folder it is in.
"""

from pathlib import Path

import torch
from tests.text_models import save_bart, save_gpt2, save_roberta

SENTIMENT = "cardiffnlp/twitter-roberta-base-sentiment-latest"
SUMMARY = "facebook/bart-large-cnn"
LANGUAGE = "microsoft/DialoGPT-medium"


def save_sentiment(folder: Path) -> None:
    """Save a RoBERTa that tells three labels apart."""
    torch.manual_seed(0)
    save_roberta(folder / SENTIMENT, ("negative", "neutral", "positive"), positions=514)


def save_summary(folder: Path) -> None:
    """Save a BART that writes."""
    torch.manual_seed(0)
    save_bart(folder / SUMMARY, positions=1024)


def save_language(folder: Path) -> None:
    """Save a GPT-2."""
    torch.manual_seed(0)
    save_gpt2(folder / LANGUAGE)
