"""Serve the SDXL app, ask it for an image over SSE, and show every preview as it arrives.

`make demo` runs it. In a terminal each preview is drawn in place; elsewhere each is a line. All of them, and the
finished image, are saved in `out/demo`. With `--picture FILE` the previews are also set side by side in one image.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from streamapp_client import Client, Event

APP = Path(__file__).with_name("app.py")
OUT = Path("out/demo")
START_TIMEOUT_S = 120
SHOWN = 7  # previews in the picture
COLUMNS = 48  # of characters; each shows two pixels, one above the other

console = Console()


def main() -> int:
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("prompt", nargs="?", default="a red circle on a blue background")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--picture", type=Path, help="also write the previews side by side into this file")
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    with serving() as url:
        pictures = watch(url, arguments.prompt, arguments.seed, arguments.steps)
    if arguments.picture is not None:
        side_by_side(pictures).save(arguments.picture, optimize=True)
    console.print(
        "\nNext: [bold]make serve[/], then open http://127.0.0.1:8000/playground for an image of your own, or",
        soft_wrap=True,
    )
    console.print(
        "  curl -N http://127.0.0.1:8000/stream -H 'Content-Type: application/json' "
        '-d \'{"prompt": "a green star on a black background"}\'',
        highlight=False,
        soft_wrap=True,
    )
    return 0


@contextmanager
def serving() -> Iterator[str]:
    """Run `streamapp serve` on a free port until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "streamapp", "serve", f"{APP}:Sdxl", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    log = OUT / "server.log"
    environment = {name: value for name, value in os.environ.items() if name != "STREAMAPP_API_KEY"}
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output, env=environment) as process:
        try:
            with console.status(f"loading the model; the server's log is {log}"):
                _wait_until_ready(url, process, log)
            console.print(f"streamapp serves {APP.name}:Sdxl at {url}")
            yield url
        finally:
            process.terminate()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/ready").is_success:
                return
        except httpx.TransportError:
            pass  # it does not listen yet
        time.sleep(0.1)
    raise SystemExit(f"the server did not start; its log says:\n{log.read_text()}")


def watch(url: str, prompt: str, seed: int, steps: int) -> list[tuple[str, PIL.Image.Image]]:
    """Ask for an image and show what comes; returns (label, image) of the previews and of the result."""
    console.print(
        f'POST /stream  prompt="{prompt}" seed={seed} num_inference_steps={steps}\n', highlight=False, soft_wrap=True
    )
    started = time.monotonic()
    pictures: list[tuple[str, PIL.Image.Image]] = []
    first_s = 0.0
    payload = {"prompt": prompt, "seed": seed, "num_inference_steps": steps}
    with Client(url).stream("/stream", payload) as events, Live(console=console, refresh_per_second=30) as live:
        for event in events:
            if event.name not in ("preview", "output"):
                continue
            first_s = first_s or time.monotonic() - started
            label, image = _save(event)
            pictures.append((label, image))
            _show(live, image, f"{label}, {time.monotonic() - started:.2f} s, {len(str(event.data)) / 1000:.1f} kB")
    previews = len(pictures) - 1
    console.print(
        f"\n{previews} previews, the first after {first_s:.2f} s; finished in {time.monotonic() - started:.2f} s"
    )
    console.print(f"saved in {OUT}: preview-*.jpg, final.png")
    return pictures


def _save(event: Event) -> tuple[str, PIL.Image.Image]:
    image = event.image()
    if event.name == "preview":
        step = event.data["step"]
        image.save(OUT / f"preview-{step:02}.jpg")
        return f"preview of step {step} of {event.data['total']}", image
    image.save(OUT / "final.png")
    return "finished", image


def _show(live: Live, image: PIL.Image.Image, caption: str) -> None:
    if console.is_terminal:
        live.update(Group(_blocks(image), Text(caption)), refresh=True)
    else:
        console.print(caption, highlight=False)


def _blocks(image: PIL.Image.Image) -> Text:
    """Draw an image with half blocks: the upper pixel in the foreground colour, the lower in the background's."""
    small = image.convert("RGB").resize((COLUMNS, COLUMNS))
    text = Text()
    for y in range(0, COLUMNS, 2):
        for x in range(COLUMNS):
            upper, lower = small.getpixel((x, y)), small.getpixel((x, y + 1))
            text.append("▀", f"rgb{upper} on rgb{lower}".replace(" (", "("))
        text.append("\n")
    return text


def side_by_side(pictures: list[tuple[str, PIL.Image.Image]], size: int = 128, gap: int = 8) -> PIL.Image.Image:
    """Set some of the previews and the finished image next to each other, each with its label."""
    *previews, finished = pictures
    chosen = [*previews[:: -(-len(previews) // SHOWN)], finished]
    sheet = PIL.Image.new("RGB", (len(chosen) * (size + gap) + gap, size + 34), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    font = PIL.ImageFont.load_default(13)
    for index, (label, image) in enumerate(chosen):
        left = gap + index * (size + gap)
        sheet.paste(image.convert("RGB").resize((size, size)), (left, gap))
        draw.text((left, size + 12), label.removeprefix("preview of "), fill="black", font=font)
    return sheet


if __name__ == "__main__":
    sys.exit(main())
