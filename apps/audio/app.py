"""Music that is heard while it is being made.

    streamapp serve apps/audio/app.py

By default a small synthesiser plays, which is no model: it follows rules (`synthesiser`). The same code plays what
models make, MusicGen's chunk by chunk, Stable Audio's after sketches of how it begins:

    STREAMAPP_AUDIO_MODEL=facebook/musicgen-small streamapp serve apps/audio/app.py

OpenAI's clients play it, too, at `/v1`: `client.audio.speech.create(model="audio", voice="alloy", input="slow organ")`.

Environment:
    STREAMAPP_AUDIO_MODEL: a folder or a hub id of MusicGen's or Stable Audio's structure; needs torch, transformers,
        and diffusers. Stable Audio Open's own scheduler needs torchsde, too.
"""

import math
import os
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response, StreamingResponse

import streamapp
from streamapp.errors import InvalidInput

from .synthesiser import Synthesiser
from .wav import BYTES, Samples, Sketch, header, in_chunks, pcm, wav


class AudioInput(BaseModel):
    """Say what to play."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "calm music box on a rainy night", "seed": 4},
                {"prompt": "happy dance in D major with drums", "duration_s": 30},
                {"prompt": "slow organ, 80 bpm", "duration_s": 45},
                {"prompt": "sad flute and piano in D minor, without drums", "seed": 11},
            ]
        }
    )
    prompt: str = Field(
        max_length=2000,
        description="What it is to sound like. The synthesiser knows words for mood, tempo, key and instruments.",
        examples=["calm music box on a rainy night", "happy dance in D major with drums", "slow organ, 80 bpm"],
    )
    duration_s: float = Field(default=20, ge=1, le=180, title="Duration in seconds")
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1, description="The same seed plays the same again.")
    chunk_s: float = Field(default=0.5, ge=0.1, le=5, title="Seconds in a chunk")
    speed: float = Field(
        default=4, ge=1, le=100, description="How many times as fast as it is heard it may be made, at most."
    )


class Instrument(Protocol):
    """Make sound of a prompt; the synthesiser and the models do."""

    @property
    def rate(self) -> int:
        """Return the frames of a second."""
        ...

    @property
    def channels(self) -> int:
        """Return 1 or 2."""
        ...

    @property
    def max_s(self) -> float:
        """Return the longest that it plays."""
        ...

    def perform(self, prompt: str, *, duration_s: float, seed: int) -> Iterator[Samples | Sketch]:
        """Yield pieces of any length, duration_s in all or a little more, and sketches before the first of them."""
        ...


class Audio(streamapp.App):
    """Play music from prompts, and let it be heard while it is made."""

    title = "Music from words"
    requirements = ["numpy"]
    openai = streamapp.OpenAI(speech="/stream")

    def setup(self) -> None:
        """Load the model, if one is named."""
        self.instrument = instrument_of(os.environ.get("STREAMAPP_AUDIO_MODEL"))

    @streamapp.endpoint("/stream")
    def stream(self, input: AudioInput, stream: streamapp.Stream) -> Iterator[Any]:
        """Play in chunks, each a WAV file that begins where the one before has ended; the last output is the whole."""
        rate, seed = self.instrument.rate, secrets.randbits(32) if input.seed is None else input.seed
        total = math.ceil(round(input.duration_s * rate) / round(input.chunk_s * rate))
        chunks: list[Samples] = []
        start = 0
        for made in self.play(input, seed):
            if isinstance(made, Sketch):
                sketch = streamapp.Audio(wav(made.samples, rate), file_name="sketch.wav")
                yield streamapp.Preview({"audio": sketch}, step=made.step, total=made.total)
                continue
            audio = streamapp.Audio(wav(made, rate), file_name=f"chunk-{len(chunks)}.wav")
            yield {"chunk": len(chunks), "start_s": start / rate, "sample_rate": rate, "audio": audio}
            chunks.append(made)
            start += len(made)
            stream.progress(len(chunks), total)
        whole = streamapp.Audio(wav(np.concatenate(chunks), rate), file_name="audio.wav")
        yield {"audio": whole, "duration_s": start / rate, "sample_rate": rate, "seed": seed}

    @streamapp.endpoint("/audio.wav")
    def file(self, input: AudioInput) -> Response:
        """Answer with one WAV file, sent while it grows; who listens while it comes paces it.

        Without a seed the same prompt sounds the same: a browser asks for a file again, as after a pause.
        """
        made = self.play(input, zlib.crc32(input.prompt.encode()) if input.seed is None else input.seed)
        channels, frames = self.instrument.channels, round(input.duration_s * self.instrument.rate)
        head = header(self.instrument.rate, channels=channels, frames=frames)
        size = len(head) + frames * channels * BYTES

        def body() -> Iterator[bytes]:
            yield head
            yield from (pcm(chunk) for chunk in made if not isinstance(chunk, Sketch))

        return StreamingResponse(body(), media_type="audio/wav", headers={"Content-Length": str(size)})

    def play(self, input: AudioInput, seed: int) -> Iterator[Samples | Sketch]:
        """Yield what the instrument makes, in chunks, no faster than asked for.

        Raises:
            InvalidInput: it is longer than the instrument plays.
        """
        rate, max_s = self.instrument.rate, self.instrument.max_s
        if input.duration_s > max_s:
            raise InvalidInput(f"duration_s: this model makes at most {max_s:.1f} s; got {input.duration_s:g}")
        made = self.instrument.perform(input.prompt, duration_s=input.duration_s, seed=seed)
        chunks = in_chunks(made, size=round(input.chunk_s * rate), total=round(input.duration_s * rate))
        return paced(chunks, rate * input.speed)


def instrument_of(model: str | None) -> Instrument:
    """Return the synthesiser, or a model by its folder or hub id."""
    if not model:
        return Synthesiser()
    from .models import load  # it imports torch, which the synthesiser does without

    return load(model)


def paced(chunks: Iterable[Samples | Sketch], frames_per_s: float) -> Iterator[Samples | Sketch]:
    """Yield chunks no faster than so many frames a second, the first at once. Blocks."""
    due = time.monotonic()
    for chunk in chunks:
        yield chunk
        if not isinstance(chunk, Sketch):
            due += len(chunk) / frames_per_s
            time.sleep(max(0, due - time.monotonic()))
