"""Strokes to picture: what is drawn comes back as the prompt says, while it is being drawn.

    streamapp serve apps/live/app.py

The page at http://127.0.0.1:8000/ sends its canvas, over one WebSocket or by WebRTC, and shows what comes. By default
the small model of apps/sdxl answers, which knows coloured shapes and needs no GPU. The same code runs any model of
SDXL's structure, best one that draws in few steps:

    STREAMAPP_LIVE_MODEL=stabilityai/sdxl-turbo STREAMAPP_LIVE_GUIDANCE=0 streamapp serve apps/live/app.py

Environment:
    STREAMAPP_LIVE_MODEL: a folder or a hub id.
    STREAMAPP_LIVE_STEPS: of the schedule, where an input says none; 3. Of these `strength` says how many are run.
    STREAMAPP_LIVE_GUIDANCE: likewise; 2. Turbo models have none: 0.

The newest canvas wins: one waits at most (`buffering=1`), and a newer one takes its place. One that is being drawn is
finished, also when a newer one waits: it takes a few steps, and who draws without a pause would never see a picture.

Inputs and outputs are those of fal's `fast-lcm-diffusion/image-to-image`, so that pages which were written for it work.
"""

import itertools
import os
import secrets
import time
from pathlib import Path
from typing import Any, Self

import diffusers.utils.logging
import PIL.Image
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from pydantic import BaseModel, ConfigDict, Field, model_validator

import streamapp

EMBEDDED_MODEL = Path(__file__).parent.parent / "sdxl" / "tiny" / "model"
# A red disc on blue, small, so that the call that `streamapp serve` prints is short.
SKETCH = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEUvT9DYNCylAoOxAAAAa0lEQVR42tXQsQ2DQAwF0BeLgiIS"
    "jMAI2SCMltEYhRGupDgBxSUR11LBr6wnfUs2t0qXEHg9v7JtRR58CIKRoGEgaOkJetpSp7QGmlrG35K/nBsm1lpmci2JhWAhEWRm"
    "gpXpcCC88/EJF8kO8QwUJYeSGzAAAAAASUVORK5CYII="
)


class Drawing(BaseModel):
    """Say what was drawn, and what it shall become."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prompt": "a red circle on a blue background", "image_url": SKETCH}]}
    )

    prompt: str = Field(
        max_length=2000, description="What it shall become.", examples=["a red circle on a blue background"]
    )
    image_url: streamapp.Image | None = Field(default=None, description="What was drawn.")
    image_bytes: streamapp.Image | None = Field(
        default=None,
        description="The same as bytes, in msgpack; the answer's are bytes then, too.",
        json_schema_extra={"ui": {"hidden": True}},  # no form can send them
    )
    strength: float = Field(default=0.7, ge=0.02, le=1, description="1 leaves nothing of what was drawn.")
    num_inference_steps: int | None = Field(default=None, ge=1, le=50, description="The model's own when not given.")
    guidance_scale: float | None = Field(default=None, ge=0, le=20, description="The model's own when not given.")
    negative_prompt: str = Field(default="blurry, low quality", max_length=2000, description="What to avoid.")
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1, description="The same seed draws the same image.")
    request_id: str | None = Field(
        default=None,
        max_length=100,
        description="Any; the answer has it, too.",
        json_schema_extra={"ui": {"hidden": True}},
    )

    @model_validator(mode="after")
    def _has_an_image(self) -> Self:
        if (self.image_url is None) == (self.image_bytes is None):
            raise ValueError("expected a drawing as image_url (a data URI, an http(s) URL) or as image_bytes")
        return self

    @property
    def drawn(self) -> streamapp.Image:
        """Return the drawing, however it came."""
        drawn = self.image_url or self.image_bytes
        assert drawn is not None
        return drawn


class Live(streamapp.App):
    """Turn drawings into pictures with Stable Diffusion XL, while they are drawn."""

    title = "Live drawing"
    static = "page"
    machine_type = "GPU-A100"
    requirements = ["accelerate", "aiortc", "diffusers", "torch", "transformers"]

    def setup(self) -> None:
        """Load the pipeline, and draw once, as a first picture takes far longer than those after it."""
        self.steps = int(os.environ.get("STREAMAPP_LIVE_STEPS", "3"))
        self.guidance = float(os.environ.get("STREAMAPP_LIVE_GUIDANCE", "2"))
        self.pipe = load_pipeline(os.environ.get("STREAMAPP_LIVE_MODEL", str(EMBEDDED_MODEL)))
        self.pipe.set_progress_bar_config(disable=True)
        diffusers.utils.logging.set_verbosity_error()  # it would log a prompt that is too long with each picture
        self.side = self.pipe.unet.config.sample_size * self.pipe.vae_scale_factor
        blank = PIL.Image.new("RGB", (self.side, self.side))
        self.pipe(prompt="", image=blank, strength=1, num_inference_steps=1, guidance_scale=self.guidance)

    @streamapp.realtime("/realtime", buffering=1, webrtc=True)
    def draw(self, input: Drawing) -> dict[str, Any]:
        """Answer each drawing with a picture; of those that wait the newest counts."""
        started = time.perf_counter()
        seed = secrets.randbits(32) if input.seed is None else input.seed
        asked = input.num_inference_steps or self.steps
        # Of n steps diffusers runs int(n * strength), and one has to be.
        steps = next(n for n in itertools.count(asked) if int(n * input.strength) >= 1)
        picture = self.pipe(
            prompt=input.prompt,
            negative_prompt=input.negative_prompt,
            image=fitted(input.drawn.to_pil(), self.side),
            strength=input.strength,
            num_inference_steps=steps,
            guidance_scale=self.guidance if input.guidance_scale is None else input.guidance_scale,
            generator=torch.Generator().manual_seed(seed),  # the CPU's: the same picture on every machine
            callback_on_step_end=stop_when_left,
        ).images[0]
        # A PNG of 512x512 takes 20 ms, which is longer than a step does on a GPU, and this one.
        image = streamapp.Image.from_pil(picture, "JPEG")
        return {
            "images": [image if input.image_bytes is None else as_bytes(image)],
            "seed": seed,
            "num_inference_steps": steps,
            "timings": {"inference": time.perf_counter() - started},
            "request_id": input.request_id,
        }

    @streamapp.endpoint("/")
    def once(self, input: Drawing) -> dict[str, Any]:
        """Answer one drawing with a picture."""
        return self.draw(input)


def load_pipeline(model: str) -> StableDiffusionXLImg2ImgPipeline:
    """Load a model for this machine, from its half-precision files where it has such."""
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    try:
        pipe = StableDiffusionXLImg2ImgPipeline.from_pretrained(model, dtype=dtype, variant="fp16")
    except ValueError:  # it has none
        pipe = StableDiffusionXLImg2ImgPipeline.from_pretrained(model, dtype=dtype)
    return pipe.to(device)


def fitted(drawn: PIL.Image.Image, side: int) -> PIL.Image.Image:
    """Scale a drawing so that its longer edge is what the model draws; the autoencoder takes multiples of 8."""
    scale = side / max(drawn.size)
    width, height = (max(64, 8 * round(edge * scale / 8)) for edge in drawn.size)
    return drawn.resize((width, height), PIL.Image.Resampling.LANCZOS)


def as_bytes(image: streamapp.Image) -> dict[str, Any]:
    """Return an image as fal's realtime apps answer with it: its bytes are bytes in msgpack."""
    return {
        "content": image.data,
        "content_type": image.content_type,
        "width": image.width,
        "height": image.height,
    }


def stop_when_left(pipe: Any, step: int, timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
    """Stop between two steps when nobody waits for the picture any more; diffusers calls it."""
    streamapp.current_stream().check()
    return kept
