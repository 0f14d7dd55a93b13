"""Note what an image is to be built of, as Chutes' own class does; `str(image)` is its Dockerfile.

Nothing here builds it: `docker build` does, of that text. The methods are Chutes'; what they write is sound where
theirs is not, so the text is another one than Chutes would build of.

Divergence: `with_python` installs by uv, which knows the newest patch of "3.11" and compiles nothing; Chutes downloads
the sources of a version in full, and there are none of "3.11". It is at `/opt/python`, as there, and found first.
Without a version it is 3.12, there 3.10.15, which this server does not run on.
Divergence: `apt_install` asks for the lists of packages itself: without them it fails on nearly every base.
Divergence: a command of several lines runs each of them, and stops at the first that fails; in Chutes' text only the
first one is the command.
"""

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any, Self

from ..errors import DefinitionError
from ..process.logs import logger

#: what Chutes builds upon where nothing is said
DEFAULT_BASE = "parachutes/python:3.12"
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PYTHON = re.compile(r"\d+(\.\d+){0,2}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*(:[a-z0-9*]+)?(=[A-Za-z0-9.+:~*_-]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_QUOTED = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.""", re.DOTALL)
# A requirement, up to the version that a shell takes for the name of a file: torch>=2.4, numpy<2.
_REDIRECTED = re.compile(r"(?<!\S)[A-Za-z][^\s;&|<>]*[<>]=?\d[^\s;&|]*")


class Image:
    """Name an image and note its steps, in their order.

        image = Image(username="me", name="words", tag="1.0").with_python("3.11").run_command("pip install torch")
        print(image)

    Args:
        readme: kept as it is.
        others: what a later version of Chutes' class may take; kept.
    Raises:
        DefinitionError: the name or the tag can be none.
    """

    def __init__(
        self, username: str = "", name: str = "chute", tag: str = "latest", readme: str = "", **others: Any
    ) -> None:
        for what, given in (("name", name), ("tag", tag), *([("username", username)] if username else [])):
            if not isinstance(given, str) or not _WORD.fullmatch(given):
                raise DefinitionError(f"Image: expected {what} to be letters, digits, ., _ and -, got {given!r}")
        self.username, self.name, self.tag, self.readme, self.others = username, name, tag, readme, others
        self._base = DEFAULT_BASE
        self._steps: list[str] = []
        self._entrypoint: list[str] = []
        self._user = ""

    @property
    def reference(self) -> str:
        """Return what `docker build -t` takes, `me/words:1.0`; a repository has no capitals."""
        return f"{'/'.join(filter(None, (self.username, self.name))).lower()}:{self.tag}"

    def __str__(self) -> str:
        """Return the Dockerfile; the log says of which words a shell makes something else than is meant."""
        for step in self._steps:
            _warn_of_redirections(step)
        entrypoint = [f"ENTRYPOINT {json.dumps(self._entrypoint)}"] if self._entrypoint else []
        newer = ["# syntax=docker/dockerfile:1"] if any(" --exclude=" in step for step in self._steps) else []
        return "\n".join([*newer, f"FROM {self._base}", *self._steps, *entrypoint])

    def __repr__(self) -> str:
        return f"<Image {self.reference}>"

    def dockerfile_for(self, file: str) -> str:
        """Return a Dockerfile of which an image comes that serves the chute in a file, with `streamapp serve`.

        `streamapp-server` is installed from the package index that pip knows there; it needs Python 3.11 or newer.

        Args:
            file: its path in the folder that is built from; what else it imports `add` brings to /app.
        """
        back = [f"USER {self._user}"] if self._user else []
        lines = [
            *(["USER root"] if self._user else []),
            "RUN python3 -m pip install streamapp-server",
            "WORKDIR /app",
            f"COPY {json.dumps([file, './'])}",
            *back,
            "EXPOSE 8000",
            f"ENTRYPOINT {json.dumps(['streamapp', 'serve', PurePath(file).name, '--host', '0.0.0.0'])}",
        ]
        return "\n".join([str(self), *lines])

    def from_base(self, base_image: str) -> Self:
        """Build upon another image than `parachutes/python:3.12`."""
        self._base = _one_word("from_base", base_image)
        return self

    def with_python(self, version: str = "3.12") -> Self:
        """Have this Python, and pip, before any other that the base has: "3.11", or "3.11.9"."""
        if not isinstance(version, str) or not _PYTHON.fullmatch(version):
            raise DefinitionError(f'with_python: expected a version like "3.11" or "3.11.9", got {version!r}')
        making = f"uv venv --managed-python --seed --python {version} /opt/python"
        return self._add(
            "COPY --from=astral/uv /uv /usr/local/bin/uv",
            f"RUN UV_PYTHON_INSTALL_DIR=/opt/pythons {making}",
            'ENV PATH="/opt/python/bin:$PATH"',
        )

    def run_command(self, command: str) -> Self:
        """Run a command in the image's shell; of several lines each, up to the first that fails."""
        command = _text("run_command", command).strip()
        if not command:
            raise DefinitionError("run_command: expected a command, got an empty text")
        is_long = "\n" in command or command.endswith("\\")
        return self._add("RUN " + (json.dumps(["/bin/sh", "-ec", command]) if is_long else command))

    def with_env(self, key: str, value: str) -> Self:
        """Set an environment variable, for all that follows and for what runs; `$NAME` in it is that one's value."""
        if not isinstance(key, str) or not _VARIABLE.fullmatch(key):
            raise DefinitionError(f"with_env: expected a name of letters, digits and _, got {key!r}")
        escaped = _line("with_env", str(value)).replace("\\", "\\\\").replace('"', '\\"')
        return self._add(f'ENV {key}="{escaped}"')

    def add(
        self,
        source: str,
        dest: str,
        keep_git_dir: bool = False,
        checksum: str | None = None,
        chown: str | None = None,
        chmod: str | None = None,
        exclude: Sequence[str] | None = None,
        build_dir: str | None = None,
    ) -> Self:
        """Add files of the folder that is built from, or those at a URL, as Docker's ADD does.

        Args:
            build_dir: without effect: that folder is what `docker build` is given.
        """
        told = {"checksum": [checksum], "chown": [chown], "chmod": [chmod], "exclude": exclude or []}
        given = [(name, value) for name, values in told.items() for value in values if value is not None]
        options = [f"--{name}={_one_word(f'add: {name}', value)} " for name, value in given]
        if keep_git_dir:
            options.insert(0, "--keep-git-dir=true ")
        return self._add(f"ADD {''.join(options)}{json.dumps([_text('add', source), _text('add', dest)])}")

    def apt_install(self, package: str | Iterable[str]) -> Self:
        """Install packages of Debian's or Ubuntu's: one, or a list of them."""
        return self._add(f"RUN apt-get update && {_APT} install {_packages('apt_install', package)}")

    def apt_remove(self, package: str | Iterable[str]) -> Self:
        """Remove such packages."""
        return self._add(f"RUN {_APT} remove {_packages('apt_remove', package)}")

    def set_user(self, user: str) -> Self:
        """Be this user from here on."""
        self._user = _one_word("set_user", user)
        return self._add(f"USER {user}")

    def set_workdir(self, directory: str) -> Self:
        """Be in this folder from here on."""
        return self._add(f"WORKDIR {_line('set_workdir', directory)}")

    def with_maintainer(self, maintainer: str) -> Self:
        """Say whose image it is."""
        escaped = _line("with_maintainer", maintainer).replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        return self._add(f'LABEL maintainer="{escaped}"')

    def with_entrypoint(self, *args: str) -> Self:
        """Run this when the image is started: `with_entrypoint("python", "app.py")`. The last one counts."""
        words = [_text("with_entrypoint", word) for word in args]
        if len(words) == 1 and len(split := words[0].split()) > 1:
            raise DefinitionError(
                f"with_entrypoint: expected a word each, got {words[0]!r}; write with_entrypoint"
                f"({', '.join(json.dumps(word) for word in split)})"
            )
        self._entrypoint = words
        return self

    def _add(self, *steps: str) -> Self:
        self._steps += steps
        return self


_APT = "DEBIAN_FRONTEND=noninteractive apt-get -y"


def _packages(method: str, package: str | Iterable[str]) -> str:
    packages = [package] if isinstance(package, str) else list(package)
    for name in packages:
        if not isinstance(name, str) or not _PACKAGE.fullmatch(name):
            raise DefinitionError(f'{method}: expected packages like "git", or ["git", "curl"], got {name!r}')
    return " ".join(map(shlex.quote, packages))


def _warn_of_redirections(step: str) -> None:
    """Say which requirements of a `pip install` would be written to a file: it is the author who has to quote them."""
    if not step.startswith("RUN ") or not re.search(r"\binstall\b", step):
        return
    command = json.loads(step[4:])[-1] if step.startswith('RUN ["/bin/sh"') else step[4:]
    bare = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), command)
    for found in _REDIRECTED.finditer(bare):
        word = command[found.start() : found.end()]
        file = re.split("[<>]", word, maxsplit=1)[1]
        logger.warning(
            "run_command: a shell takes %s for a file to write to or to read, called %s, and installs another version; "
            "write '%s', in quotes",
            word,
            file,
            word,
        )


def _one_word(method: str, given: str) -> str:
    if _line(method, given).split() != [given]:
        raise DefinitionError(f"{method}: expected one word, got {given!r}")
    return given


def _line(method: str, given: str) -> str:
    if "\n" in _text(method, given):
        raise DefinitionError(f"{method}: expected one line, got {given!r}")
    return given


def _text(method: str, given: str) -> str:
    if not isinstance(given, str):
        raise DefinitionError(f"{method}: expected a text, got {given!r}")
    return given
