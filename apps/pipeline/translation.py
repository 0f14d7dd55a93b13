"""Translate by a model of transformers', piece by piece: one that failed at the seventh goes on with the seventh."""

from collections.abc import Iterator, Mapping

import torch
from transformers import AutoModelForSeq2SeqLM

from .texts import Heard, cut_by_length, load_checkpoint

SETTING = "STREAMAPP_PIPELINE_TRANSLATION"
_PIECE = 240  # characters, a sentence or two: what Marian's models were trained on
_MOST_TOKENS = 512


class Translator:
    """Hold a model that translates.

    Args:
        name: a folder or hub id, of Marian's kind, whose models are of one pair of languages, or T5's.
        prefix: what T5 is told to do: "translate English to German: ".
    Raises:
        DefinitionError: it cannot be loaded.
    """

    def __init__(self, name: str, prefix: str = "") -> None:
        self._model, self._tokenizer = load_checkpoint(SETTING, AutoModelForSeq2SeqLM, name)
        self._prefix = prefix
        self._most_tokens = min(
            getattr(self._model.config, "max_position_embeddings", None) or _MOST_TOKENS, _MOST_TOKENS
        )

    def pieces(self, text: str) -> list[str]:
        """Return the pieces of a text that are translated one by one; together they are the text."""
        return list(self._pieces(text, _PIECE))

    def _pieces(self, text: str, size: int) -> Iterator[str]:
        for piece in cut_by_length(text, size):
            count = len(self._tokenizer(self._prefix + piece.text, verbose=False)["input_ids"])
            if size > 1 and count > self._most_tokens:  # signs of many bytes each
                yield from self._pieces(piece.text, size // 2)
            else:
                yield piece.text

    def of(self, piece: str) -> str:
        """Return a piece in the other language, between the same blanks; in the inference thread.

        The job's end is heard after each token.
        """
        said = piece.strip()
        if not said:
            return piece
        given = self._tokenizer(
            self._prefix + said, return_tensors="pt", truncation=True, max_length=self._most_tokens
        ).to(self._model.device)
        ids = {name: given[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            made = self._model.generate(**ids, max_length=self._most_tokens, stopping_criteria=[Heard()])
        translated = str(self._tokenizer.decode(made[0], skip_special_tokens=True)).strip()
        start = piece.index(said)
        return piece[:start] + translated + piece[start + len(said) :]


def load(environment: Mapping[str, str]) -> Translator | None:
    """Load the model that the environment names; None where it names none.

    Raises:
        DefinitionError: it cannot be loaded.
    """
    name = environment.get(SETTING)
    return Translator(name, environment.get(f"{SETTING}_PREFIX", "")) if name else None
