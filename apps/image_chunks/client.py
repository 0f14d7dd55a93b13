"""Send an image to an endpoint of Runpod's, or to this server, and save each tile as soon as it comes.

    python client.py photo.jpg
    RUNPOD_API_KEY=... python client.py photo.jpg --url https://api.runpod.ai/v2 --endpoint YOUR_ENDPOINT_ID

Without a photo it draws one. It needs requests and Pillow. Exit code 1: the job did not complete.
"""

import argparse
import base64
import io
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageOps
import requests
from urllib3.util import Retry

TIMEOUT_S = (5, 30)  # for a connection; for a byte: an answer with news is held back for less
POLL_S = 0.5
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT")


class Endpoint(requests.Session):
    """Speak with one endpoint.

    Args:
        url: of the endpoint, with its id.
        key: the API key; empty where none is asked for.
    """

    def __init__(self, url: str, key: str) -> None:
        super().__init__()
        self.url = url
        # Only what may be asked twice is: /stream gives what was not read to the end again.
        retry = Retry(5, backoff_factor=0.5, status_forcelist=[429, 502, 503, 504], raise_on_status=False)
        self.mount(url, requests.adapters.HTTPAdapter(max_retries=retry))
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    def ask(self, method: str, operation: str, **body: Any) -> dict[str, Any]:
        """Return an answer.

        Raises:
            SystemExit: it is an error.
        """
        answer = self.request(method, f"{self.url}/{operation}", json=body or None, timeout=TIMEOUT_S)
        if not answer.ok:
            hint = "; is RUNPOD_API_KEY right?" if answer.status_code == 401 else ""
            raise SystemExit(f"{method} {answer.url}: {answer.status_code}{hint} {answer.text[:500]}")
        found: dict[str, Any] = answer.json()
        return found

    def outputs(self, job_id: str, deadline: float) -> Iterator[Any]:
        """Yield what the job yields, up to its end.

        Raises:
            SystemExit: it did not complete, or not before the deadline.
        """
        status = "IN_QUEUE"
        try:
            while status not in FINAL:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{job_id} took too long")
                answer = self.ask("GET", f"stream/{job_id}")
                status = answer["status"]
                yield from (item["output"] for item in answer["stream"])
                if not answer["stream"] and status not in FINAL:  # a server that does not wait for news
                    time.sleep(POLL_S)
        finally:
            if status not in FINAL:  # nobody waits for it any more
                with suppress(requests.RequestException):
                    self.post(f"{self.url}/cancel/{job_id}", timeout=TIMEOUT_S)
        if status != "COMPLETED":
            error = self.ask("GET", f"status/{job_id}").get("error", "without a word")
            raise SystemExit(f"{job_id} {status}: {error}")


def main() -> int:
    """Run the client; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photo", nargs="?", type=Path, help="what to enhance; without one a test image is drawn")
    parser.add_argument("--url", default=os.environ.get("RUNPOD_ENDPOINT_BASE_URL", "http://127.0.0.1:8000/v2"))
    parser.add_argument("--endpoint", default="image-chunks", help="the endpoint's id")
    parser.add_argument("--tile-size", type=int, default=256, help="the side of a tile, in pixels")
    parser.add_argument("--out", type=Path, default=Path("out/image_chunks"), help="the folder for images")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for the whole job")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    key = os.environ.get("RUNPOD_API_KEY", "")
    endpoint = Endpoint(f"{arguments.url.rstrip('/')}/{arguments.endpoint}", key)
    print(f"POST {endpoint.url}/run  Authorization: {redacted(key)}")
    picture = test_image(arguments.out) if arguments.photo is None else arguments.photo.read_bytes()
    asked = {"base64_image": base64.b64encode(picture).decode(), "tile_size": arguments.tile_size}
    try:
        job_id = endpoint.ask("POST", "run", input=asked)["id"]
        for output in endpoint.outputs(job_id, time.monotonic() + arguments.timeout):
            show(output, arguments.out)
    except requests.RequestException as error:
        raise SystemExit(f"{endpoint.url}: {error}") from None
    print(f"{job_id} COMPLETED; the images are in {arguments.out}")
    return 0


def redacted(key: str) -> str:
    """Return what may be printed of a key."""
    return f"Bearer {key[:3]}..." if key else "none"


def test_image(folder: Path) -> bytes:
    """Draw an image with fine detail, keep a copy, and return it as a PNG."""
    size = (900, 600)
    clouds = PIL.Image.new("L", size, 128)
    for grain in (150, 75, 30, 15, 6, 3):  # in pixels; the finer, the weaker
        noise = PIL.Image.effect_noise((size[0] // grain, size[1] // grain), 100)
        clouds = PIL.Image.blend(clouds, noise.resize(size, PIL.Image.Resampling.BICUBIC), (grain / 400) ** 0.7)
    colours = PIL.ImageOps.colorize(clouds, "midnightblue", "lightyellow", "rosybrown")
    buffer = io.BytesIO()
    colours.save(buffer, "PNG")
    (folder / "test_image_input.png").write_bytes(buffer.getvalue())
    return buffer.getvalue()


def show(output: dict[str, Any], folder: Path) -> None:
    """Print what came, and save the image in it, if any."""
    text = output.pop("processed_image", None)
    print(f"Received: {json.dumps(output)}")
    if text is not None:
        name = int(output["chunk_number"]) if "chunk_number" in output else "final"
        (folder / f"output_image_{name}.png").write_bytes(base64.b64decode(text, validate=True))


if __name__ == "__main__":
    sys.exit(main())
