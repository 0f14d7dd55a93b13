"""Stand in for spaCy, whose models are not on the package index: names by their capital letters.

It has what the example calls: `load`, `explain`, and documents with `ents`. A text that names a pipe (`GATE`) is read
when somebody writes into it: a model that takes as long as a test says, and gives the loop nothing meanwhile.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(?<=[\w,] )[A-Z]\w+(?: [A-Z]\w+)*")


@dataclass(frozen=True, slots=True)
class Entity:
    """Be a name in a text, with spaCy's words for where and what it is."""

    text: str
    label_: str
    start_char: int
    end_char: int


@dataclass(frozen=True, slots=True)
class Document:
    """Hold what was found in a text."""

    ents: list[Entity]


class Model:
    """Take each capitalized word inside a sentence for an organization."""

    def __call__(self, text: str) -> Document:
        """Return the names of a text, in order."""
        gate = os.environ.get("GATE")
        if gate and gate in text:
            Path(gate).read_bytes()
        return Document([Entity(found[0], "ORG", found.start(), found.end()) for found in _NAME.finditer(text)])


def load(name: str) -> Model:
    """Return the one model that there is here."""
    assert name == "en_core_web_sm"
    return Model()


def explain(label: str) -> str | None:
    """Return what a label means."""
    return {"ORG": "Companies, agencies, institutions, etc."}.get(label)
