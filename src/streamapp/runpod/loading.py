"""Find what an import string names: an app, or a file that was written for Runpod, which starts its handler.

Such a file is imported, not run as a script, so what stands below its `if __name__ == "__main__":` is run besides: its
author writes the start of the handler there.
"""

import ast
import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from ..app import App
from ..errors import DefinitionError
from ..loading import apps_in, find_app, load_module, modules_of, names_imported
from .handlers import Collected, Handler, HandlerApp, collecting, handler_app
from .imports import leaving_signals, offer_runpod

# What files and folders are called whatever they are about.
_SAY_NOTHING = {
    *("handler", "handlers", "rp_handler", "runpod_handler", "main", "__main__", "__init__", "worker", "app", "start"),
    *("index", "server", "serverless", "runpod", "src", "code", "workspace", "builder", "root", "tmp", ""),
}
_made: "WeakKeyDictionary[ModuleType, type[HandlerApp]]" = WeakKeyDictionary()


def load_served(import_string: str) -> type[App]:
    """Import the app that a string names, as `loading.load_app` does, or make one of the handler that a file starts.

    Raises:
        DefinitionError: there is no such file, module or class, it is no app, and starts no handler, or several.
        Exception: whatever the module itself raises.
    """
    place, _, name = import_string.partition(":")
    offer_runpod()
    with collecting() as collected, _as_script(place):
        module = load_module(place)
        if name or apps_in(module) or not (collected.configs or _imports_runpod(module)):
            return find_app(module, place, name)
        if module not in _made:
            try:
                config = _only_config(module, collected)
                _made[module] = handler_app(config, name=name_of(Path(str(module.__file__))), module=module)
            except DefinitionError as error:
                raise DefinitionError(f"{place}: {error.message}") from None
            _made[module].read_again = _reader_of(module.__name__)
        return _made[module]


def name_of(file: Path) -> str:
    """Return what an app is called that is made of a file: by the file, or the folder that says what it is."""
    names = [file.stem, *(folder.name for folder in file.parents[:2])]
    name = next((name for name in names if name.lower() not in _SAY_NOTHING), file.stem)
    return re.sub(r"[^\w.~]+", "-", name).strip("-") or "handler"


def _reader_of(name: str) -> Callable[[], Handler]:
    def read_again() -> Handler:
        """Import the module anew, and what it has from its folder; packages stay."""
        for own in modules_of(name):
            sys.modules.pop(own, None)
        with collecting() as collected, _as_script(name), leaving_signals():
            return Handler.of(_only_config(importlib.import_module(name), collected))

    return staticmethod(read_again)


@contextmanager
def _as_script(place: str) -> Iterator[None]:
    """Let a file that reads its arguments find none, instead of the server's."""
    before, sys.argv = sys.argv, [place]
    try:
        yield
    finally:
        sys.argv = before


def _only_config(module: ModuleType, collected: Collected) -> Any:
    """Return what a module has started, by now or below its `if __name__ == "__main__":`."""
    if not collected.configs:
        block = _main_block(Path(str(module.__file__)))
        if block is not None:
            try:
                exec(block, vars(module))
            except SystemExit as end:  # `sys.exit(main())`
                if not collected.configs:
                    said = f"as a script it exits, with {end.code!r}, before it starts a handler"
                    raise DefinitionError(said) from None
    match collected.configs:
        case [config]:
            return config
        case []:
            raise DefinitionError(
                'there is no app, and no handler is started; write runpod.serverless.start({"handler": handler}) at '
                'its end, or below if __name__ == "__main__":'
            )
    raise DefinitionError(
        f"runpod.serverless.start is called {len(collected.configs)} times; a file starts one handler: give each a "
        "file of its own"
    )


def _imports_runpod(module: ModuleType) -> bool:
    file = Path(getattr(module, "__file__", None) or "")
    return file.suffix == ".py" and bool({"runpod", "streamapp.runpod"} & {*names_imported(file)})


def _main_block(file: Path) -> CodeType | None:
    """Compile what a file runs as a script only; None where there is nothing, or what a client of Runpod's does."""
    source = file.read_bytes()
    statements = ast.parse(source).body if b"serverless" in source else []
    blocks = [node for node in statements if isinstance(node, ast.If) and any(map(_asks_for_main, ast.walk(node.test)))]
    if not blocks:
        return None
    for block in blocks:
        block.test = _SayingYes().visit(block.test)
    future = [node for node in statements if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    return compile(ast.Module([*future, *blocks], []), str(file), "exec", dont_inherit=True)


def _asks_for_main(node: ast.AST) -> bool:
    return isinstance(node, ast.Compare) and ast.unparse(node) in ("__name__ == '__main__'", "'__main__' == __name__")


class _SayingYes(ast.NodeTransformer):
    """Answer whether this is the script: what else is asked beside it stays a question."""

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        return ast.copy_location(ast.Constant(value=True), node) if _asks_for_main(node) else node
