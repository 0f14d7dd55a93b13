"""Say of many texts at a time how each feels, by any model of transformers' for sequence classification."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForSequenceClassification

from streamapp.loading import load_module

if TYPE_CHECKING:
    from apps.text.checkpoints import load_checkpoint
else:  # by its place: a served app's folder is a package of its own
    load_checkpoint = load_module(str(Path(__file__).parent.parent / "text" / "checkpoints.py")).load_checkpoint

SETTING = "STREAMAPP_DATASET_SENTIMENT"
_TOKENS = 256  # of a text; what is longer is judged by its beginning
_CHARACTERS = 8 * _TOKENS  # which are more than its tokens have, so that a long text is not taken apart whole
_AT_ONCE = 32


class Feelings:
    """Hold a model and its tokenizer.

    Args:
        name: a hub id or a folder.
    Raises:
        DefinitionError: it cannot be loaded.
    """

    def __init__(self, name: str) -> None:
        self._model, self._tokenizer = load_checkpoint(SETTING, AutoModelForSequenceClassification, name)
        self._most_tokens = min(_TOKENS, self._tokenizer.model_max_length)

    @torch.inference_mode()
    def of(self, texts: Sequence[str]) -> list[str]:
        """Return each text's label, in capitals; texts of about one length are read together."""
        labels = [""] * len(texts)
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        for begin in range(0, len(order), _AT_ONCE):
            group = order[begin : begin + _AT_ONCE]
            read = self._tokenizer(
                [texts[n][:_CHARACTERS] for n in group],
                padding=True,
                truncation=True,
                max_length=self._most_tokens,
                return_tensors="pt",
            ).to(self._model.device)
            for n, label in zip(group, self._model(**read).logits.argmax(-1).tolist(), strict=True):
                labels[n] = str(self._model.config.id2label[label]).upper()
        return labels
