"""Note what an image is to be built of, as Chutes' own class does; `str(image)` is its Dockerfile."""

from typing import Any, Self


class Image:
    """Name an image and note its steps, in their order."""

    def __init__(self, username: str = "", name: str = "", tag: str = "", readme: str = "", **others: Any) -> None:
        self.username, self.name, self.tag, self.readme = username, name, tag, readme
        self._lines: list[str] = []

    def from_base(self, base: str) -> Self:
        """Build upon another image."""
        self._lines.insert(0, f"FROM {base}")
        return self

    def with_python(self, version: str) -> Self:
        """Have this Python in it."""
        return self

    def run_command(self, command: str) -> Self:
        """Run a shell command."""
        self._lines.append(f"RUN {command}")
        return self

    def with_env(self, name: str, value: str) -> Self:
        """Set an environment variable."""
        self._lines.append(f"ENV {name}={value}")
        return self
