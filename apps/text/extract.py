"""Say in its own sentences what a text says: until a model chooses them, the first ones."""

from .chunks import cut


class Extractive:
    """Choose sentences of a text.

    Args:
        folder: of the model that chooses.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def of(self, text: str, max_sentences: int = 3) -> str:
        """Return some sentences of a text, in their order."""
        sentences = [chunk.text.strip() for chunk in cut(text, lambda start: start + 200)]
        return " ".join(filter(None, sentences[:max_sentences]))
