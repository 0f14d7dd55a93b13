"""Have the reference's generator see `Raises:` and the like right behind `Args:`, as this project writes them."""

import re
from typing import Any

import griffe


class Sections(griffe.Extension):  # type: ignore[misc] # griffe is in tests/.venvs/docs alone
    """Put the empty line before each section that the parser of Google's style looks for."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change an object's docstring when it has been read."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"(?<=\S)\n(Returns|Raises|Yields):\n", r"\n\n\1:\n", obj.docstring.value)
