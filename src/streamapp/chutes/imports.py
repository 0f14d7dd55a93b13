"""Import what is to be served, a file that imports `chutes` among others: where that is not installed, it finds ours.

So a file that was written for Chutes is served as it stands. Where Chutes' own package is installed it gets that one,
as it would as a script; what is served then has to say that it means ours.
"""

import re
import sys
from pathlib import Path

from ..aliases import AliasFinder
from ..app import App
from ..errors import DefinitionError
from ..loading import names_imported
from ..runpod.loading import load_served as load_others

_FINDER = AliasFinder("chutes", __package__)
_HERE = "from streamapp.chutes import Chute, Image, NodeSelector"
_UPSTREAM = "start vLLM or SGLang yourself, and serve an App that has it as its language model, streamapp.Upstream(url)"
# By what is imported, up to the first that fits, what to do instead.
_INSTEAD = {
    "chute.template": _UPSTREAM,
    "image.standard": 'Image(...).run_command("pip install ...") says what has to be there',
    "chute.Job": "a long task is a cord, which Prefer: respond-async runs as a job with a queue, progress and a result",
    "chute.Port": "a socket of your own is @streamapp.websocket",
    "chute.ChutePack": "a chute is all that a file needs",
}


def offer_chutes() -> None:
    """Have `import chutes` find ours, where none is installed, from now on in this process."""
    _FINDER.offer()


def load_served(import_string: str) -> type[App]:
    """Import the app that a string names, as `runpod.loading.load_served` does, or make one of the chute in it.

    Raises:
        DefinitionError: there is no such file, module, class or chute; it is no app, or cannot be one; or it imports
            what our `chutes` has not.
        Exception: whatever the module itself raises.
    """
    offer_chutes()
    place = import_string.partition(":")[0]
    try:
        return load_others(import_string)
    except ImportError as error:
        instead = _instead_of(error)
        if instead is None:
            raise
        raise DefinitionError(f"{place}: {error.msg}: {instead}; see docs/migrate/chutes.md") from error
    except DefinitionError as error:
        if _imports_theirs(place):
            raise DefinitionError(f"{error.message.partition('; write ')[0]}; {_said_of_theirs()}") from None
        raise
    except Exception as error:
        if _imports_theirs(place):
            error.add_note(_said_of_theirs())
        raise


def _said_of_theirs() -> str:
    where = getattr(sys.modules.get("chutes"), "__file__", None) or "a module of another's"
    return f"chutes is {where} here, whose Chute cannot be served: to serve one write {_HERE}"


def _imports_theirs(place: str) -> bool:
    """Say whether a file has got Chutes' own package, or what else is called so, when it imported `chutes`."""
    if "chutes" not in sys.modules or _is_ours():
        return False
    file = Path(place) if place.endswith(".py") else Path(getattr(sys.modules.get(place), "__file__", None) or "")
    return file.is_file() and "chutes" in names_imported(file)


def _instead_of(error: ImportError) -> str | None:
    """Say what to do where a module or a name is imported that `chutes` has not; None where it is another's."""
    said = error.name or ""
    package, _, module = said.removeprefix("streamapp.").partition(".")
    if package != "chutes":
        return None
    if said.startswith(package) and not _is_ours():
        return _said_of_theirs()
    name = re.match("cannot import name '(.+?)'", error.msg)
    asked = ".".join(filter(None, (module, name and name[1])))
    return next(
        (said for what, said in _INSTEAD.items() if f"{asked}.".startswith(f"{what}.")), f"what is here: {_HERE}"
    )


def _is_ours() -> bool:
    return "chutes" in sys.modules and _FINDER.is_ours
