"""Show a job in the terminal: progress, logs and previews on stderr, media saved as files; stdout is for the result."""

import json
import mimetypes
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import typer

from ..jobs.events import ABOUT_STREAM, BEGINNINGS
from ..later import module
from ..media import File

if TYPE_CHECKING:
    from rich import console, progress, text
else:  # a server that starts shows nothing by it
    console, progress, text = (module(f"rich.{name}") for name in ("console", "progress", "text"))


class Display:
    """Show one job's events as they come; use it as a context manager.

    Args:
        folder: where media are saved; made when there is something to save.
        saves_previews: save each preview that comes, as `preview-<step>`.
    """

    def __init__(self, folder: Path, *, saves_previews: bool) -> None:
        self._folder = folder
        self._saves_previews = saves_previews
        self._previews = 0
        self._outputs = 0
        self._last_output: Any = None
        self._console = console.Console(stderr=True)
        self._progress = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the progress off the screen, and give the cursor back."""
        self._progress.stop()

    def show(self, name: str, data: Any) -> None:
        """Show an event."""
        match name:
            case "progress" if _tells_step(data):
                self._advance(data)
            case "preview":
                self._preview(data)
            case "progress" | "log" if isinstance(data, dict) and "message" in data:
                self._print(str(data["message"]))
            case "progress" | "log" | "input_error":  # the first two are another server's
                self._print(f"{name}: {json.dumps(data)}")
            case _ if name in ABOUT_STREAM:
                if name in BEGINNINGS:
                    self._outputs = 0  # the one held back was of the attempt that is lost
                self._print(f"{name}: {json.dumps(data)}")
            case _:
                self._output(data)

    def finish(self, result: Any) -> Any:
        """Save the result's media, and return the result with their paths in their places."""
        return self._save(result, "")

    def finish_output(self, output: Any) -> Any:
        """Do so with an output that is shown elsewhere."""
        self._outputs += 1
        return self._save(output, f"output-{self._outputs:03}")

    def _advance(self, data: dict[str, Any]) -> None:
        total, message = data.get("total"), data.get("message", "")
        self._progress.update(self._task, completed=data["step"], total=total, description=str(message))

    def _preview(self, data: Any) -> None:
        self._previews += 1
        number = self._previews
        if _tells_step(data):
            number = data["step"]
            self._advance(data)
        if self._saves_previews:
            self._save(data["image"] if isinstance(data, dict) and "image" in data else data, f"preview-{number:03}")

    def _output(self, data: Any) -> None:
        """Show the output before this one: the last is the result, which is not shown twice."""
        if self._outputs:
            shown = self._save(self._last_output, f"output-{self._outputs:03}")
            self._print(json.dumps(shown, ensure_ascii=False))
        self._outputs += 1
        self._last_output = data

    def _save(self, value: Any, stem: str) -> Any:
        """Save all media in a value as files, named by where they stand in it."""
        match value:
            case {"url": str() as url, "content_type": str()} if url.startswith("data:"):
                with suppress(ValueError):  # nothing that can be read: it is shown as it came
                    return self._save_file(File.from_data_uri(url), stem or "result")
            case dict():
                return {key: self._save(item, _join(stem, key)) for key, item in value.items()}
            case list():
                return [self._save(item, _join(stem or "result", str(n))) for n, item in enumerate(value)]
        return value

    def _save_file(self, file: File, stem: str) -> str:
        subtype = re.sub(r"\W", "", file.content_type.partition("/")[2].partition(";")[0])
        path = self._folder / (stem + (mimetypes.guess_extension(file.content_type) or f".{subtype}"))
        path.parent.mkdir(parents=True, exist_ok=True)
        file.save(path)
        self._print(f"saved {path}")
        return str(path)

    def _print(self, line: str) -> None:
        self._console.print(text.Text(line), soft_wrap=True)


def print_result(result: Any) -> None:
    """Print a result as JSON on stdout."""
    written = json.dumps(result, indent=2, ensure_ascii=False)
    typer.echo(written.encode("utf-8", "replace").decode())  # without lone surrogates, which no terminal takes


def print_error(message: str) -> None:
    """Print a message as one red line on stderr."""
    console.Console(stderr=True).print(text.Text(" ".join(message.split()), style="red"), soft_wrap=True)


def _tells_step(data: Any) -> bool:
    """Say whether data are a step's as a server of ours tells it; another's may be anything."""
    return isinstance(data, dict) and isinstance(data.get("step"), int) and isinstance(data.get("total"), int | None)


def _join(stem: str, key: str) -> str:
    """Add a key to a file's name; it comes from a server, and must not lead to another folder."""
    return "-".join(part for part in (stem, re.sub(r"[^\w-]", "_", key)) if part)
