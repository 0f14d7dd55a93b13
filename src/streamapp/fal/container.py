"""Take the container images that fal's apps describe: `streamapp image` builds upon them, nothing else reads them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ContainerImage:
    """Describe the image that an app runs in.

    Args:
        options: what else fal takes: `build_args`, `registries`, `builder`, `secrets`, `context_dir`, `dockerignore`.
    """

    dockerfile: str
    options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_dockerfile_str(cls, text: str, **options: Any) -> Self:
        """Take a Dockerfile's text."""
        return cls(text, options)

    @classmethod
    def from_dockerfile(cls, path: str | Path, **options: Any) -> Self:
        """Read a Dockerfile. Blocks."""
        return cls(Path(path).read_text(), options)
