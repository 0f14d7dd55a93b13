"""Import what needs torch when it is first asked for: what is asked of a model, and comes of it, is known without."""

import importlib
from typing import Any

_PLACES = {"Engine": ".engine", "EngineStatistics": ".engine", "TokenStream": ".tokenstream"}


def __getattr__(name: str) -> Any:
    """Return what `streamapp.llm` has besides its values; Python calls it with the name.

    Raises:
        ModuleNotFoundError: the extra is not installed; says which it is.
    """
    if name not in _PLACES:
        raise AttributeError(f"streamapp.llm has no {name}", name=name)
    try:
        return getattr(importlib.import_module(_PLACES[name], __package__), name)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        raise ModuleNotFoundError(
            f'streamapp.llm needs {missing}, which an extra brings; write pip install "streamapp-server[llm]"',
            name=missing,
        ) from error
