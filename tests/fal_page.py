"""`@fal-ai/client` for a page: its files as npm has them, CommonJS, and a `require` for them instead of a bundler."""

import json
from pathlib import Path

from tests.fal_packages import JS

_MODULES = JS / "node_modules"
_MAINS = {
    "@fal-ai/client": "@fal-ai/client/src/index.js",
    "@msgpack/msgpack": "@msgpack/msgpack/dist.cjs/index.cjs",
    "eventsource-parser": "eventsource-parser/dist/index.cjs",
    "robot3": "robot3/dist/machine.js",
}
_LOADER = """
const loaded = {};
const load = (name, folder = "") => {
  const named = mains[name] ?? new URL(name, `https://x/${folder}/`).pathname.slice(1);
  const path = [named, `${named}.js`].find((path) => path in modules);
  if (!(path in loaded)) {
    const module = (loaded[path] = { exports: {} });
    const within = (other) => load(other, path.slice(0, path.lastIndexOf("/")));
    if (path.endsWith(".json")) module.exports = JSON.parse(modules[path]);
    else new Function("module", "exports", "require", modules[path])(module, module.exports, within);
  }
  return loaded[path].exports;
};
const { fal } = load("@fal-ai/client");
"""


def script() -> str:
    """Return a script that defines `fal`."""
    modules = {str(path.relative_to(_MODULES)): path.read_text() for path in _files()}
    return f"const mains = {json.dumps(_MAINS)}, modules = {json.dumps(modules)};{_LOADER}".replace("</", "<\\/")


def _files() -> list[Path]:
    folders = [(_MODULES / main).parent for main in _MAINS.values()]
    files = [path for folder in folders for path in folder.rglob("*.*js")]
    return [*files, _MODULES / "@fal-ai" / "client" / "package.json"]
