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
from fastapi import Body, UploadFile
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
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
# Of a box, whose corners are numbered by bits: 4 x + 2 y + z.
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
BOX_FACES = [face for a, b, c, d in SIDES for face in ((a, b, c), (a, c, d))]


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


class ImageSize(BaseModel):
    width: int = Field(default=512, gt=0, le=14142)
    height: int = Field(default=512, gt=0, le=14142)


class PictureInput(BaseModel):
    """Hold what one says of a picture: as fal's models, and others, ask for it."""

    seed: int | None = Field(default=None, ge=0, lt=2**64, description="The same seed draws the same picture.")
    width: int | None = Field(default=None, ge=256, le=1536, multiple_of=32)
    height: int | None = Field(default=None, ge=256, le=1536, multiple_of=32)
    image_size: ImageSize | Literal["square_hd", "square", "portrait_4_3", "landscape_16_9"] = "landscape_16_9"
    aspect_ratio: Literal["1:1", "16:9", "9:16", "match_input_image"] = "1:1"
    looks: set[Literal["bright", "dark", "soft"]] = Field(default=set(), description="Any of them.")
    prompt: str = Field(max_length=2000, description="What to draw.", examples=["a fox", "a red fox in the snow"])
    negative_prompt: str = Field(default="", json_schema_extra={"ui": {"important": True}})
    version: int = Field(default=1, json_schema_extra={"ui": {"hidden": True}})


class MaskedInput(BaseModel):
    """Hold an image, and what of it is masked."""

    image: streamapp.Image
    mask: streamapp.Image | None = Field(default=None, description="White is what changes.")


class OwnInput(BaseModel):
    """Say how an endpoint answers itself: its type, and what is in it, piece by piece."""

    content_type: str = "text/event-stream"
    pieces: list[str] = ['data: {"n": 1, "text": "so"}\n\nevent: two\n', 'data: {"n": 2}\n\n']
    status: int = 200
    headers: dict[str, str] = {}
    is_held: bool = False
    breaks: bool = False


class Said(BaseModel):
    """Hold what was said."""

    role: Literal["system", "user", "assistant"] = "user"
    name: str = Field(default="", max_length=8)
    content: str = Field(min_length=1)


class Whisper(BaseModel):
    """Hold what is said in a session."""

    text: str = Field(min_length=1)


class TalkInput(BaseModel):
    """Say what was said so far, and how to answer."""

    messages: list[Said] = Field(min_length=1, examples=[[{"role": "user", "content": "Hello"}]])
    temperature: float = Field(default=0.5, ge=0, le=2)


class FrameInput(BaseModel):
    """Say what to draw, how large, and with which seed of 64 bits; its examples are whole ones."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(examples=framed()))
    prompt: str
    width: int = Field(default=96, ge=48, le=960)
    height: int = Field(default=96, ge=48, le=960)
    seed: int | None = Field(default=None, ge=2**63, lt=2**64)
    image: streamapp.Image | None = None
    is_held: bool = False


class SolidInput(BaseModel):
    """Say which box to write into which file."""

    form: Literal["glb", "metal", "unlit", "packed", "obj", "coloured", "stl", "ply", "points", "cut", "none"] = "glb"
    sides: list[float] = [1, 1, 1]
    middle: float = 0
    before: float = 0


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

    @streamapp.endpoint("/solid")
    def solid(self, input: SolidInput, stream: streamapp.Stream) -> Iterator[Any]:
        """Return a box in one of many forms, after a preview of another size, if one is wanted."""
        if input.before:
            small = input.model_copy(update={"sides": [input.before * side for side in input.sides]})
            yield streamapp.Preview({"mesh": box(small)}, step=1, total=2)
            self.wait(stream)
        yield {"mesh": box(input)}

    @streamapp.endpoint("/dense")
    def dense(self, stream: streamapp.Stream, form: str = "bool") -> Iterator[Any]:
        """Return a cube of 6 x 6 x 6 voxels in an array of 8 x 8 x 8, or what only looks like an array of voxels."""
        yield dense_array(form)

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

    @streamapp.endpoint("/shelf")
    def shelf(self, stream: streamapp.Stream) -> dict[str, Any]:
        """Return a picture of few pixels, files, and a table with gaps, a long text and numbers that are no words."""
        marks = [
            *({"mark": mark, "of": "Ann"} for mark in (9, 10, 2)),
            {"mark": None, "of": 'B, "C"', "why": "so " * 200},
        ]
        return {
            "pixels": draw(1, 1).resize((16, 24), PIL.Image.Resampling.NEAREST),
            "paper": streamapp.File(b"%PDF-1.4", "application/pdf", "paper.pdf"),
            "weights": streamapp.File(bytes(20_000), "application/octet-stream", "model.safetensors"),
            "marks": marks,
        }

    @streamapp.endpoint("/wide")
    def wide(self, stream: streamapp.Stream) -> Iterator[Any]:
        """Emit a small preview of a wide picture, then, when `/open` lets it, the picture."""
        yield streamapp.Preview(draw(0, 0.5).resize((32, 18)), step=1, total=2)
        self.wait(stream)
        yield {"image": draw(0, 1).resize((480, 272))}

    @streamapp.endpoint("/duet")
    def duet(self, seconds: float = 3) -> Iterator[Any]:
        """Emit a tone in chunks, and another one as a file."""
        for n in range(2):
            audio = streamapp.Audio(tone(seconds), "audio/wav")
            yield {"start_s": n * seconds, "sample_rate": 8000, "voice": audio}
        yield {"music": streamapp.Audio(tone(2 * seconds, left=False), "audio/wav", "music.wav")}

    @streamapp.endpoint("/picture_of")
    def picture_of(self, input: PictureInput) -> dict[str, Any]:
        """Return what was said of a picture."""
        return input.model_dump()

    @streamapp.endpoint("/everything")
    def everything(self, input: EveryInput) -> dict[str, Any]:
        """Return what came in."""
        media = {"image": input.image, "audio": input.audio, "file": input.file}
        sizes = {name: len(value.data) for name, value in media.items() if value is not None}
        return {**input.model_dump(exclude=set(media)), "sizes": sizes}

    @streamapp.endpoint("/album")
    def album(
        self,
        pictures: Annotated[list[streamapp.Image], Field(min_length=1, max_length=3)],
        notes: Annotated[list[streamapp.File], Field(default_factory=list)],
        cover_image_url: str = "",
    ) -> dict[str, Any]:
        """Tell how wide the pictures are, in their order."""
        return {"widths": [picture.width for picture in pictures], "notes": len(notes)}

    @streamapp.endpoint("/masked")
    def masked(self, input: MaskedInput) -> dict[str, Any]:
        """Tell how large a mask is, what its corner is, and how much of it is white."""
        if input.mask is None:
            return {}
        mask = input.mask.to_pil("L")
        white = mask.histogram()[255] / (mask.width * mask.height)
        return {"size": mask.size, "corner": mask.getpixel((0, 0)), "white": white}

    @streamapp.endpoint("/sent")
    def sent(self, file: UploadFile, note: str = "", more: list[UploadFile] | None = None) -> list[Any]:
        """Tell what came in a form."""
        return [file.filename, file.content_type, len(file.file.read()), note, [each.filename for each in more or ()]]

    @streamapp.endpoint("/talk")
    def talk(self, input: TalkInput, stream: streamapp.Stream) -> Iterator[Any]:
        """Answer what was said last by repeating it, in Markdown; "wait" has it wait for `/open` in the middle."""
        said = input.messages[-1].content
        if said == "fail":
            raise InvalidInput("nothing is to be said to that")
        text = f"You said **{said}**, as number {len(input.messages)}."
        for start in range(0, len(text), 4):
            if said == "wait" and start == 8:
                self.wait(stream)
            yield {"text": text[start : start + 4], "token": start, "index": 0}
        yield {"text": text, "index": 0, "finish_reason": "stop", "usage": {"completion_tokens": 7}}

    @streamapp.endpoint("/write")
    def write(self, stream: streamapp.Stream, pieces: list[str], is_held: bool = True) -> Iterator[str]:
        """Emit a text in pieces; if it is held, each comes when `/open` lets it."""
        for piece in pieces:
            if is_held:
                self.wait(stream)
            yield piece

    @streamapp.endpoint("/completions")
    def completions(self, messages: list[dict[str, Any]], n: int = 2) -> Iterator[Any]:
        """Answer as OpenAI does, in several choices, of which the first calls a tool; then tell what came in."""
        for piece in ("It is ", "warm."):
            yield {"choices": [{"index": index, "delta": {"content": piece}} for index in range(n)]}
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"ci'}}
        yield {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
        more = {"index": 0, "function": {"arguments": 'ty": "Oslo"}'}}
        yield {"choices": [{"index": 0, "delta": {"tool_calls": [more]}, "finish_reason": "tool_calls"}]}
        yield streamapp.Output({"got": messages}, event="got")

    @streamapp.endpoint("/asked")
    def asked(self, message: str, history: list[dict[str, str]]) -> str:
        """Tell how much was said before."""
        return f"{message}, after {len(history)}"

    @streamapp.realtime("/gossip")
    async def gossip(self, inputs: AsyncIterator[Whisper]) -> AsyncIterator[str]:
        """Answer each text word by word, and no other remembers it."""
        async for given in inputs:
            for word in ("So ", given.text, "?"):
                yield word

    @streamapp.endpoint("/frame")
    def frame(self, input: FrameInput, stream: streamapp.Stream) -> Iterator[Any]:
        """Draw what fills a frame; if it is held, the preview and the image come when `/open` lets them."""
        seed = random.randrange(2**63, 2**64) if input.seed is None else input.seed
        size = (input.width, input.height)
        for step in range(1, 3):
            if input.is_held:
                self.wait(stream)
            if step == 1:
                yield streamapp.Preview(draw(seed % 5, 0.5).resize(size), step=step, total=2)
        yield {"image": draw(seed % 5, 1).resize(size), "seed": seed}

    @streamapp.endpoint("/named")
    def named(
        self,
        num_images: int,
        guidance_scale: float,
        page_url: str,
        own: Annotated[int, Field(title="The Author's Own")],
    ) -> dict[str, Any]:
        """Return rows, and what is no row."""
        return {"verdict": "good", "parts": [{"part": num_images, "share": guidance_scale}]}


def draw(n: int, share: float) -> PIL.Image.Image:
    """Draw a disc that is complete at 1; `n` decides its colour."""
    image = PIL.Image.new("RGB", (96, 96), "white")
    PIL.ImageDraw.Draw(image).pieslice((8, 8, 88, 88), -90, 360 * share - 90, fill=f"hsl({n * 80 % 360}, 80%, 50%)")
    return image


def framed() -> list[dict[str, Any]]:
    """Return inputs of `/frame`, one with an image that is worth to be put into the store."""
    image = "data:image/jpeg;base64," + in_base64("JPEG", 3).replace("\n", "")
    wide, tall = {"prompt": "a wide disc", "width": 192}, {"prompt": "a tall disc", "height": 192, "seed": 2**63 + 5}
    return [wide, tall, {"prompt": "a disc behind a disc", "image": image}]


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


def box(input: SolidInput) -> streamapp.File:
    """Return a box as a file, in orange where the format has colours."""
    corners = [
        tuple(
            input.middle + side * (0.5 if n & bit else -0.5) for side, bit in zip(input.sides, (4, 2, 1), strict=True)
        )
        for n in range(8)
    ]
    if input.form in ("obj", "coloured"):
        colour = " 1 0.5 0" if input.form == "coloured" else ""
        lines = ["v {} {} {}".format(*corner) + colour for corner in corners]
        lines += ["f {} {} {}".format(*(n + 1 for n in face)) for face in BOX_FACES]
        return streamapp.File("\n".join(lines).encode(), "model/obj", "box.obj")
    if input.form == "stl":
        faces = (struct.pack("<12fH", 0, 0, 0, *(x for n in face for x in corners[n]), 0) for face in BOX_FACES)
        return streamapp.File(bytes(80) + struct.pack("<I", len(BOX_FACES)) + b"".join(faces), "model/stl", "box.stl")
    if input.form in ("ply", "points"):
        return ply(corners, [] if input.form == "points" else BOX_FACES)
    if input.form == "none":
        return streamapp.File(b"Kaydara FBX Binary", "model/fbx", "box.fbx")
    return box_glb(input.form, corners)


def ply(corners: list[tuple[float, ...]], faces: list[tuple[int, int, int]]) -> streamapp.File:
    """Return orange corners, and faces if there are any, as PLY."""
    head = ["ply", "format ascii 1.0", f"element vertex {len(corners)}"]
    head += [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {name}" for name in ("red", "green", "blue")
    ]
    head += [f"element face {len(faces)}", "property list uchar int vertex_indices"] if faces else []
    lines = ["{} {} {} 255 128 0".format(*corner) for corner in corners] + [
        "3 {} {} {}".format(*face) for face in faces
    ]
    return streamapp.File("\n".join([*head, "end_header", *lines, ""]).encode(), "model/ply", "box.ply")


def box_glb(form: str, corners: list[tuple[float, ...]]) -> streamapp.File:
    """Return a box as binary glTF; `cut` in the middle of its bytes."""
    indices = b"".join(struct.pack("<3H", *face) for face in BOX_FACES)
    places = b"".join(struct.pack("<3f", *corner) for corner in corners)
    bounds = {"min": list(corners[0]), "max": list(corners[-1])}
    orange = {
        "baseColorFactor": [1, 0.215, 0, 1],
        "metallicFactor": 1 if form == "metal" else 0,
        "roughnessFactor": 0.3,
    }
    unlit: dict[str, Any] = {"extensions": {"KHR_materials_unlit": {}}} if form == "unlit" else {}
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "materials": [{"pbrMetallicRoughness": orange, **unlit}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 1}, "indices": 0, "material": 0}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5123, "count": 36, "type": "SCALAR"},
            {"bufferView": 1, "componentType": 5126, "count": 8, "type": "VEC3", **bounds},
        ],
        "bufferViews": [
            {"buffer": 0, "byteLength": len(indices)},
            {"buffer": 0, "byteOffset": len(indices), "byteLength": len(places)},
        ],
        "buffers": [{"byteLength": len(indices) + len(places)}],
        "extensionsUsed": ["KHR_materials_unlit"],
        **({"extensionsRequired": ["KHR_draco_mesh_compression"]} if form == "packed" else {}),
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    data = indices + places
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(data), b"BIN\0") + data
    file = struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
    return streamapp.File(file[:-40] if form == "cut" else file, "model/gltf-binary", "box.glb")


def dense_array(form: str) -> Any:
    """Return voxels as apps write them, or numbers that are something else."""
    side = range(8)
    cube = [[[0 < min(x, y, z) and max(x, y, z) < 7 for z in side] for y in side] for x in side]
    flat = [int(value) for plane in cube for row in plane for value in row]
    forms: dict[str, Any] = {
        "bool": {"result": cube},
        "int": {"voxels": [[[int(value) for value in row] for row in plane] for plane in cube]},
        "flat": {"shape": [8, 8, 8], "data": flat},
        "bytes": {"grid": {"shape": [8, 8, 8], "data": base64.b64encode(bytes(flat)).decode(), "dtype": "uint8"}},
        "floats": {
            "occupancy": [[[0.75 * value for value in row] for row in plane] for plane in cube],
            "threshold": 0.5,
        },
        "numbers": {"density": [[[value * (z + 1) for z, value in enumerate(row)] for row in plane] for plane in cube]},
        "colours": {"voxels": [[[[255 * value, 0, 0] for value in row] for row in plane] for plane in cube]},
        "palette": {"voxels": cube, "colors": ["#000000", "#ff0000"]},
        "pixels": {"image": [[[x, y, 0] for y in range(20)] for x in range(20)]},
        "planes": {"image": [[[x * y for y in range(20)] for x in range(20)] for _ in range(3)]},
        "embedding": {"embedding": [[[math.sin(x * y + z) for z in range(16)] for y in side] for x in side]},
        "attention": {"attention": [[[1 / (1 + x + y + z) for z in range(16)] for y in range(16)] for x in side]},
        "rows": {"rows": [[0, 1, 0], [1, 0, 0]], "ragged": [[[0] * 6] * 6] * 5 + [[[0] * 5] * 6]},
    }
    return forms[form]
