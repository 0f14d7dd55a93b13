"""An app that emits every kind of content, and takes every kind of input: what a page must be able to show."""

import asyncio
import base64
import io
import json
import math
import random
import struct
import threading
import time
import wave
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import PIL.Image
import PIL.ImageDraw
from fastapi import Body
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.websockets import WebSocket

import streamapp
from streamapp.errors import InvalidInput

CLIP = Path(__file__).with_name("clip.webm")
LARGE_BYTES = 20_000_000
PROSE = """# A report

It has **bold words**, a [link](https://example.com/somewhere), `code` and

- a list
- of two

| shape | sides |
|---|---|
| square | 4 |

<img src="x" onerror="document.title = 'taken over'"> <script>document.title = "taken over"</script>
[a trap](javascript:document.title='taken-over')
"""
HARM = "<img src=x onerror=\"document.title = 'taken over'\"><script>document.title = 'taken over'</script>"
CORNERS = [(-1.0, -1.0, -1.0), (1.0, -1.0, 1.0), (-1.0, 1.0, 1.0), (1.0, 1.0, -1.0)]  # of a tetrahedron
HANDLED = {
    "type": "object",
    "properties": {
        "prompt": {"type": "string"},
        "seed": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
    },
    "required": ["prompt"],
    "additionalProperties": False,
}
FACES = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]


class Camera(BaseModel):
    """Say from where to look."""

    distance: float = Field(default=2.0, ge=0.5, le=10)
    lens: Literal["wide", "normal", "tele"] = "normal"


class Light(BaseModel):
    """Place one light."""

    name: str = Field(min_length=1)
    watts: int = Field(default=40, ge=1, le=1000)


class Circle(BaseModel):
    kind: Literal["circle"] = "circle"
    radius: float = Field(default=1.0, gt=0)


class Square(BaseModel):
    kind: Literal["square"] = "square"
    side: float = Field(default=1.0, gt=0)


class HarmfulInput(BaseModel):
    """Hold fields that are named and described in HTML."""

    text: str = Field(default=HARM, title=HARM, description=PROSE, examples=[HARM])
    choice: Literal["<b>one</b>", "two"] = "two"


class EveryInput(BaseModel):
    """Hold a field of every kind."""

    text: str = Field(min_length=2, max_length=40, description="A few words.", examples=["two words"])
    story: str = Field(default="", max_length=2000, title="Long story")
    count: int = Field(default=3, ge=1, le=10)
    strength: float = Field(default=0.5, ge=0, le=1, multiple_of=0.05)
    width: int | None = Field(default=None, ge=64, le=1024, multiple_of=8)
    style: Literal["oil", "ink", "chalk"] = "ink"
    ground: Literal["any"] | Literal["paper", "linen"] = "any"
    is_sharp: bool = Field(default=True, title="Sharp")
    tags: list[str] = Field(default=["one"], max_length=3)
    camera: Camera = Camera()
    lights: list[Light] = []
    weights: dict[str, float] = {}
    shape: Annotated[Circle | Square, Field(discriminator="kind")] = Circle()
    image: streamapp.Image | None = None
    audio: streamapp.Audio | None = None
    file: streamapp.File | None = None
    archive: streamapp.LargeFile | None = None


class ExactInput(BaseModel):
    """Hold integers beyond what a JavaScript number holds."""

    seed: int = Field(default=2**63 + 1, ge=0, lt=2**64)
    near: int = Field(default=2**60 + 1, ge=2**60, le=2**60 + 100)
    choice: Literal[1152921504606846977, 7] = 7
    seeds: list[int] = [1, 2**63 - 1]
    named: dict[str, int] = {}


class OwnInput(BaseModel):
    """Say how an endpoint answers itself: its type, and what is in it, piece by piece."""

    content_type: str = "text/event-stream"
    pieces: list[str] = ['data: {"n": 1, "text": "so"}\n\nevent: two\n', 'data: {"n": 2}\n\n']
    status: int = 200
    headers: dict[str, str] = {}
    is_held: bool = False
    breaks: bool = False


class Contents(streamapp.App):
    """Show one kind of content at each endpoint."""

    def setup(self) -> None:
        """Close the gate."""
        self.gate = threading.Semaphore(0)
        self.runs = 0

    @streamapp.endpoint("/images")
    def images(self, stream: streamapp.Stream, steps: int = 4, count: int = 4, is_held: bool = False) -> Iterator[Any]:
        """Emit previews of several images side by side, then, when `/open` lets it, the images."""
        for step in range(1, steps + 1):
            for n in range(count):
                yield streamapp.Preview(draw(n, step / steps), step=step, total=steps, key=str(n))
            time.sleep(0.05)
        if is_held:
            self.wait(stream)
        yield {"images": [draw(n, 1) for n in range(count)]}

    @streamapp.endpoint("/tokens")
    def tokens(self) -> Iterator[Any]:
        """Emit Markdown, a few letters at a time; some of it means harm."""
        for start in range(0, len(PROSE), 12):
            yield streamapp.Output(PROSE[start : start + 12], event="token")
            time.sleep(0.01)
        yield {"text": PROSE}

    @streamapp.endpoint("/spoken")
    def spoken(self, is_named: bool = False) -> Iterator[Any]:
        """Emit tokens as a language model's, or as the events of Chutes' guide; the second is as long as all before."""
        end = {"text": "haha!", "index": 0, "finish_reason": "stop", "usage": {"completion_tokens": 3}}
        for n, text in enumerate(("ha", "ha", "!"), 1):
            numbered = {"token": text, "token_id": 7, "generated_tokens": n, "is_complete": False, "index": 0}
            yield streamapp.Output(numbered, event="token") if is_named else {"text": text, "token": 7, "index": 0}
        yield streamapp.Output({"token": "", "is_complete": True, **end}, event="complete") if is_named else end

    @streamapp.realtime("/sketch", webrtc=True)
    async def sketch(self, stream: streamapp.Stream, size: int = Field(default=3, ge=1, le=12)) -> dict[str, Any]:
        """Draw for each input, after a preview; twelve is one too many."""
        if size == 12:
            raise InvalidInput("twelve do not fit")
        await stream.aemit(streamapp.Preview(draw(size, 0.5), step=1, total=2))
        return {"size": size, "image": draw(size, 1)}

    @streamapp.websocket("/rooms/{name}")
    async def room(self, socket: WebSocket, name: str) -> None:
        """Greet who comes in."""
        await socket.accept()
        await socket.send_text(f"welcome to {name}")

    @streamapp.endpoint("/any")
    def any(self, input: Annotated[Any, Body()]) -> Iterator[Any]:
        """Take any JSON, as what was written for Runpod does, and give back what it got."""
        yield {"got": input}

    @streamapp.endpoint("/handled")
    def handled(self, input: Annotated[Any, Body(), WithJsonSchema(HANDLED)]) -> Iterator[Any]:
        """Emit images and a sound as handlers for Runpod write them: in base64, under any key."""
        for kind in ("PNG", "JPEG", "GIF", "WEBP"):
            yield {"status": "processed", f"{kind.lower()}_base64": in_base64(kind, 0)}
        yield {"audio_base64": base64.b64encode(tone(0.5)).decode()}
        yield {
            "words": "/9j/ is how a JPEG begins",
            "tiles": [{"n": n, "image": in_base64("PNG", n + 1)} for n in range(2)],
        }

    @streamapp.endpoint("/audio")
    def audio(self, stream: streamapp.Stream, seconds: float = 0.5) -> dict[str, Any]:
        """Return a tone."""
        return {"audio": streamapp.Audio(tone(seconds), "audio/wav", "tone.wav"), "seconds": seconds}

    @streamapp.endpoint("/sound")
    def sound(
        self,
        stream: streamapp.Stream,
        chunks: int = 3,
        seconds: float = 0.33,
        is_held: bool = False,
        broken: int = -1,
        left: bool = True,
    ) -> Iterator[Any]:
        """Emit a tone in chunks, each when `/open` lets it, one of them broken, then the whole tone."""
        for n in range(chunks):
            if is_held:
                self.wait(stream)
            chunk = b"no sound" if n == broken else tone(seconds, left=left)
            audio = streamapp.Audio(chunk, "audio/wav")
            yield {"start_s": round(n * seconds, 1), "sample_rate": 8000, "audio": audio}
        yield {"audio": streamapp.Audio(tone(chunks * seconds), "audio/wav", "tone.wav")}

    @streamapp.endpoint("/video")
    def video(self, stream: streamapp.Stream) -> dict[str, Any]:
        """Return a short film."""
        return {"video": streamapp.File(CLIP.read_bytes(), "video/webm", "clip.webm")}

    @streamapp.endpoint("/voxels")
    def voxels(self, steps: int = 4) -> Iterator[Any]:
        """Emit previews of a ball that grows, then the ball."""
        for step in range(1, steps + 1):
            yield streamapp.Preview({"voxels": ball(step)}, step=step, total=steps)
            time.sleep(0.05)
        yield {"voxels": ball(steps)}

    @streamapp.endpoint("/mesh")
    def mesh(self, stream: streamapp.Stream, form: Literal["gltf", "glb", "obj"] = "glb") -> dict[str, Any]:
        """Return a tetrahedron."""
        return {"mesh": {"gltf": gltf, "glb": glb, "obj": obj}[form]()}

    @streamapp.endpoint("/heavy")
    def heavy(self, stream: streamapp.Stream, steps: int = 20, megabytes: int = 5) -> None:
        """Emit large previews, each when the one before was taken."""
        for step in range(1, steps + 1):
            while not stream.wants_preview():
                time.sleep(0.01)
            stream.preview({"file": streamapp.File(bytes(megabytes * 1_000_000), file_name="zeros")}, step=step)

    @streamapp.endpoint("/table")
    def table(self, rows: int = 5) -> Iterator[Any]:
        """Emit rows of a table, then all of them, and all of them in the result once more."""
        table = [{"n": n, "square": n * n, "name": f"<b>row {n}</b>", "even": n % 2 == 0} for n in range(rows)]
        yield from table
        yield {"rows": table}
        yield {"result": {"rows": table, "count": rows}}

    @streamapp.endpoint("/nested")
    def nested(self, stream: streamapp.Stream) -> dict[str, Any]:
        """Return values inside values."""
        return {
            "scene": {"lights": [{"at": [0, 1, 2], "color": {"r": 1, "g": 0.5, "b": 0}}], "name": "dusk"},
            "empty": {"list": [], "object": {}, "nothing": None},
            "many": list(range(300)),
            "quote": '<script>alert("no")</script>',
        }

    @streamapp.endpoint("/work")
    def work(
        self, stream: streamapp.Stream, steps: int = 10, seed: int | None = None, interval_s: float = 0.1
    ) -> dict[str, Any]:
        """Report progress and write a log while it works."""
        drawn = 4711 if seed is None else seed
        for step in range(1, steps + 1):
            stream.log(f"step {step} of {steps}", level="WARN" if step == steps else "INFO")
            stream.progress(step, steps, f"at work on {step}")
            time.sleep(interval_s)
        return {"seed": drawn, "value": drawn * 3 % 1000}

    @streamapp.endpoint("/gated")
    def gated(self, stream: streamapp.Stream, steps: int = 5) -> Iterator[Any]:
        """Emit numbers, each with a preview, when `/open` lets it."""
        self.runs += 1
        for step in range(1, steps + 1):
            self.wait(stream)
            yield streamapp.Preview(draw(step, step / steps), step=step, total=steps)
            yield {"number": step}
        yield {"numbers": list(range(1, steps + 1)), "run": self.runs}

    def wait(self, stream: streamapp.Stream) -> None:
        """Wait for the gate to let one step through."""
        while not self.gate.acquire(timeout=0.05):
            stream.check()

    @streamapp.endpoint("/open")
    async def open(self, steps: int = 1) -> dict[str, int]:
        """Let steps of `/gated` through; tell how often it was run."""
        for _ in range(steps):
            self.gate.release()
        return {"runs": self.runs}

    @streamapp.endpoint("/large")
    def large(self, size: int = LARGE_BYTES) -> Iterator[Any]:
        """Emit one event of `size` letters between two small ones."""
        yield {"before": 1}
        yield {"letters": "x" * size}
        yield {"after": 1}

    @streamapp.endpoint("/flood")
    def flood(self, events: int = 10_000) -> Iterator[Any]:
        """Emit events as fast as they are taken."""
        for n in range(events):
            yield {"n": n}

    @streamapp.endpoint("/harmful")
    def harmful(self, input: HarmfulInput, stream: streamapp.Stream) -> Iterator[Any]:
        """Emit code wherever text is shown, and media that no view can draw."""
        stream.log(HARM)
        stream.progress(1, 1, HARM)
        urls = ("javascript:document.title='taken-over'", "http://[", "https://elsewhere.test/x.png")
        yield {"images": [{"url": url, "content_type": "image/png", "file_name": HARM} for url in urls]}
        yield {"image": streamapp.File(b"not a picture", "image/png", HARM)}
        yield {"file": streamapp.File(HARM.encode(), "text/html", HARM)}
        yield {"mesh": streamapp.File(b"not a mesh", "model/gltf-binary", "mesh.glb")}
        yield {"voxels": {"positions": [[0, 0, 0], None], "colors": "red"}}
        yield {"rows": [{HARM: HARM}]}
        yield streamapp.Output({HARM: HARM}, event="harm")
        yield {"text": input.text}

    @streamapp.endpoint("/fails")
    def fails(self, steps: int = 3) -> Iterator[Any]:
        """Fail in the middle."""
        for step in range(1, steps + 1):
            yield {"step": step}
        raise InvalidInput("no colour is called <b>blurple</b>; choose red, green or blue")

    @streamapp.endpoint("/own")
    def own(self, input: OwnInput) -> Response:
        """Answer by a response of its own; if it is held, each piece comes when `/open` lets it."""

        async def pieces() -> AsyncIterator[str]:
            for piece in input.pieces:
                while input.is_held and not await asyncio.to_thread(self.gate.acquire, timeout=0.05):
                    pass
                yield piece
            if input.breaks:
                raise RuntimeError("no more")

        return StreamingResponse(pieces(), input.status, input.headers, input.content_type or None)

    @streamapp.endpoint("/picture")
    def picture(self) -> Response:
        """Answer with a picture's bytes."""
        buffer = io.BytesIO()
        draw(1, 1).save(buffer, "PNG")
        return Response(buffer.getvalue(), media_type="image/png")

    @streamapp.endpoint("/clip")
    def clip(self) -> Response:
        """Answer with a file."""
        return FileResponse(CLIP, filename="film.webm")

    @streamapp.endpoint("/photo")
    def photo(self) -> dict[str, Any]:
        """Return a picture that is too large to be written into the result."""
        return {"image": PIL.Image.effect_noise((1200, 1200), 100).convert("RGB")}

    @streamapp.endpoint("/film")
    def film(self, clip: Annotated[streamapp.File, Field(json_schema_extra={"ui": {"field": "video"}})]) -> int:
        """Take a film, and tell how large it is."""
        return len(clip.data)

    @streamapp.endpoint("/drawn")
    def drawn(self, seed: int | None = None) -> dict[str, int]:
        """Draw a seed of 64 bits, unless there is one."""
        return {"seed": random.randrange(2**63, 2**64) if seed is None else seed}

    @streamapp.endpoint("/exact")
    def exact(self, input: ExactInput) -> ExactInput:
        """Return the integers that came in."""
        return input

    @streamapp.endpoint("/everything")
    def everything(self, input: EveryInput) -> dict[str, Any]:
        """Return what came in."""
        media = {"image": input.image, "audio": input.audio, "file": input.file}
        sizes = {name: len(value.data) for name, value in media.items() if value is not None}
        return {**input.model_dump(exclude=set(media)), "sizes": sizes}


def draw(n: int, share: float) -> PIL.Image.Image:
    """Draw a disc that is complete at 1; `n` decides its colour."""
    image = PIL.Image.new("RGB", (96, 96), "white")
    PIL.ImageDraw.Draw(image).pieslice((8, 8, 88, 88), -90, 360 * share - 90, fill=f"hsl({n * 80 % 360}, 80%, 50%)")
    return image


def in_base64(kind: str, n: int) -> str:
    """Return the file of a disc as text."""
    file = io.BytesIO()
    draw(n, 1).save(file, kind)
    return base64.encodebytes(file.getvalue()).decode()


def tone(seconds: float, *, left: bool = True) -> bytes:
    """Return a WAV file; without `left` it is silent there, and the tone is on the right."""
    rate, buffer = 8000, io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1 if left else 2)
        file.setsampwidth(2)
        file.setframerate(rate)
        heights = (int(8000 * math.sin(440 * math.tau * n / rate)) for n in range(int(seconds * rate)))
        silence = b"" if left else b"\0\0"
        file.writeframes(b"".join(silence + struct.pack("<h", height) for height in heights))
    return buffer.getvalue()


def ball(radius: int) -> dict[str, Any]:
    """Return the places and colours of cubes that make a ball."""
    side = range(-radius, radius + 1)
    places = [(x, y, z) for x in side for y in side for z in side if x * x + y * y + z * z <= radius * radius]
    scale = 255 // (2 * radius)
    return {"positions": places, "colors": [[(axis + radius) * scale for axis in place] for place in places]}


def _gltf_parts() -> tuple[dict[str, Any], bytes]:
    indices = b"".join(struct.pack("<3H", *face) for face in FACES)
    places = b"".join(struct.pack("<3f", *corner) for corner in CORNERS)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 1}, "indices": 0}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5123, "count": 12, "type": "SCALAR"},
            {"bufferView": 1, "componentType": 5126, "count": 4, "type": "VEC3", "min": [-1] * 3, "max": [1] * 3},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": len(indices)},
            {"buffer": 0, "byteOffset": len(indices), "byteLength": len(places)},
        ],
        "buffers": [{"byteLength": len(indices) + len(places)}],
    }
    return document, indices + places


def gltf() -> streamapp.File:
    """Return the tetrahedron as glTF, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html."""
    document, data = _gltf_parts()
    document["buffers"][0]["uri"] = f"data:application/octet-stream;base64,{base64.b64encode(data).decode()}"
    return streamapp.File(json.dumps(document).encode(), "model/gltf+json", "mesh.gltf")


def glb() -> streamapp.File:
    """Return the tetrahedron as binary glTF."""
    document, data = _gltf_parts()
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    return streamapp.File(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks, "model/gltf-binary", "mesh.glb")


def obj() -> streamapp.File:
    """Return the tetrahedron as Wavefront OBJ."""
    lines = ["v {} {} {}".format(*corner) for corner in CORNERS]
    lines += ["f {} {} {}".format(*(n + 1 for n in face)) for face in FACES]
    return streamapp.File("\n".join(lines).encode(), "model/obj", "mesh.obj")
