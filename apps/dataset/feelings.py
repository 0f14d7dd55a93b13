"""Say how many texts feel, a group at a time, by the model of `apps/text`.

Divergence: its file is loaded by its place. A served app's folder is a package of its own, and imports from no other
one.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from streamapp.loading import load_module

if TYPE_CHECKING:
    from apps.text.models import EMBEDDED, Sentiment
else:
    _models = load_module(str(Path(__file__).parent.parent / "text" / "models.py"))
    EMBEDDED, Sentiment = _models.EMBEDDED, _models.Sentiment

_CHARACTERS = 2048  # of a text; what is longer is judged by its beginning
_AT_ONCE = 32  # on a CPU, too: with the embedded model a third of the time of one after another


class Feelings:
    """Hold the model that `STREAMAPP_TEXT_SENTIMENT` names, else the embedded one.

    Raises:
        DefinitionError: the name leads to none.
    """

    def __init__(self) -> None:
        name = os.environ.get("STREAMAPP_TEXT_SENTIMENT") or str(EMBEDDED / "sentiment")
        self._sentiment = Sentiment(name, at_once=_AT_ONCE)

    def of(self, texts: Sequence[str]) -> list[str]:
        """Return each text's label; texts of about one length are read together."""
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        found = self._sentiment.each([texts[n][:_CHARACTERS] for n in order])
        labels = {n: feeling["label"] for n, feeling in zip(order, found, strict=True)}
        return [labels[n] for n in range(len(texts))]
