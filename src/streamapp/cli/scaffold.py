"""Write the folder that a new app starts from: an app that needs no GPU, its test, settings, README, and its image."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from ..errors import InvalidInput
from .dockerfile import Image, docker_name, dockerfile
from .requirements import server

_APP = '''"""Draw a Julia set: a picture that gets sharper with every step."""

import PIL.Image
from pydantic import BaseModel, ConfigDict, Field

import streamapp


class PictureInput(BaseModel):
    """Say what to draw."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"x": -0.4, "y": 0.6}, {"x": 0.285, "y": 0.01}]})
    x: float = Field(default=-0.8, ge=-2, le=2, description="The real part of the set's constant.")
    y: float = Field(default=0.156, ge=-2, le=2, description="The imaginary part.")
    steps: int = Field(default=9, ge=1, le=10, description="Each step doubles the sharpness.")


class CLASS(streamapp.App):
    """Draw pictures that get sharper with every step."""  # what its page says of it: replace it with the drawing

    def setup(self):
        """Load models here: it runs once, in the inference thread, before the first job."""
        self.colours = [(n * 5 % 256, n * 9 % 256, 64 + n * 3 % 192) for n in range(64)]

    @streamapp.endpoint("/stream")
    def stream(self, input: PictureInput, stream: streamapp.Stream):
        """Draw a picture and show it after every step."""
        size = 2**input.steps
        for step in range(1, input.steps + 1):
            image = self.draw(complex(input.x, input.y), 2**step, stream)
            stream.preview(image.resize((size, size)), step=step, total=input.steps)
        return {"image": image}

    def draw(self, constant: complex, size: int, stream: streamapp.Stream) -> PIL.Image.Image:
        """Draw size x size pixels; `stream.check()` ends the work when nobody waits for it any more."""
        image = PIL.Image.new("RGB", (size, size))
        for row in range(size):
            stream.check()
            for column in range(size):
                point = complex(3.2 * column / size - 1.6, 3.2 * row / size - 1.6)
                image.putpixel((column, row), self.colours[escape_time(point, constant)])
        return image


def escape_time(point: complex, constant: complex) -> int:
    """Return how many rounds, at most 63, a point stays near the origin."""
    for rounds in range(63):
        if abs(point) > 2:
            return rounds
        point = point * point + constant
    return 63
'''

_TEST = """import app
from streamapp.testing import TestClient


def test_the_picture_comes_after_its_previews():
    with TestClient(app.CLASS) as client:
        *previews, output = client.stream("/stream", {"steps": 4})
    assert {event.name for event in previews} == {"preview"}
    assert output.image().size == (16, 16)
"""

_PYPROJECT = """[project]
name = "NAME"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["streamapp-server"] # what is imported as streamapp; where no index has it, install its wheel first

[project.optional-dependencies]
test = ["pytest"]

[tool.streamapp]
apps = ["app.py:CLASS"]

# `pip install .` brings what the app needs; the app itself is served from this folder.
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
bypass-selection = true
"""

_README = """# NAME

Serve it, and open http://127.0.0.1:8000/playground; it starts anew with each change of `app.py`:

```sh
streamapp serve --reload
```

Call it, from another terminal, or run it once without a server; the picture is saved in `out/`:

```sh
streamapp call http://127.0.0.1:8000 /stream x=-0.4 y=0.6
streamapp run app.py /stream
```

Test it:

```sh
pip install ".[test]"
python -m pytest
```

Put it into a container. What the app imports belongs into `dependencies` in `pyproject.toml`; the first line writes
`Dockerfile` anew for them:

```sh
streamapp image --out Dockerfile
docker build -t IMAGE .
docker run -p 8000:8000 -e STREAMAPP_API_KEY=<key> IMAGE
```
"""

_DOCKER_IGNORED = """.git
.venv
venv
.env
.env.*
out
**/__pycache__
.pytest_cache
"""

_GIT_IGNORED = """.venv/
venv/
.env
.env.*
out/
__pycache__/
.pytest_cache/
build/
dist/
*.egg-info/
"""

_FILES = {
    "app.py": _APP,
    "test_app.py": _TEST,
    "pyproject.toml": _PYPROJECT,
    "README.md": _README,
    ".dockerignore": _DOCKER_IGNORED,
    ".gitignore": _GIT_IGNORED,
}
# An app imports them, also where they are not installed yet.
_MODEL_PACKAGES = {"accelerate", "diffusers", "fal", "numpy", "safetensors", "torch", "torchvision", "transformers"}


def write_app(name: str, parent: Path) -> Path:
    """Write the folder `parent/name` and return it.

    Raises:
        InvalidInput: the name cannot be one, or is taken, or the folder is there already.
    """
    if not re.fullmatch(r"[a-z]([a-z0-9_-]{0,62}[a-z0-9])?", name):
        raise InvalidInput(
            f"Expected a name of small letters, digits, and - and _ between them, like my-app; got {name!r}"
        )
    if name in _MODEL_PACKAGES or _is_module(name.replace("-", "_")) or _is_distribution(name):
        raise InvalidInput(
            f"{name} is a package's name, whose place the app would take; choose another, like my-{name}"
        )
    folder = parent / name
    if folder.exists():
        raise InvalidInput(f"{folder} is there already; choose another name")
    folder.mkdir()
    class_name = "".join(word.capitalize() for word in re.split(r"[-_]+", name))
    image = Image(docker_name(name), served=(), installs=((server([], []),),))
    for file_name, text in _FILES.items():
        text = text.replace("CLASS", class_name).replace("NAME", name).replace("IMAGE", image.name)
        (folder / file_name).write_text(text)
    (folder / "Dockerfile").write_text(dockerfile(image))
    return folder


def _is_module(name: str) -> bool:
    """Tell whether a name can be imported; a folder without `__init__.py` is no module of anybody's."""
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None


def _is_distribution(name: str) -> bool:
    """Tell whether a package is installed; one that holds nothing is an app that was written here, and made anew."""
    try:
        files = importlib.metadata.distribution(name).files
    except importlib.metadata.PackageNotFoundError:
        return False
    return files is None or any(not file.parts[0].endswith(".dist-info") for file in files)
