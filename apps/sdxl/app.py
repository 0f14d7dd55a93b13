"""Text to image with SDXL, shown after every step.

    streamapp serve apps/sdxl/app.py:Sdxl

By default it runs the small model beside this file, which draws coloured shapes at 128x128 and needs no GPU. The same
code runs any model of SDXL's structure:

    STREAMAPP_SDXL_MODEL=stabilityai/stable-diffusion-xl-base-1.0 streamapp serve apps/sdxl/app.py:Sdxl

OpenAI's clients draw with it, too, at `/v1`: `client.images.generate(prompt=..., stream=True, partial_images=2)`.

Environment:
    STREAMAPP_SDXL_MODEL: a folder or a hub id.
    STREAMAPP_SDXL_TINY_VAE: the preview decoder, likewise; by default the model folder's own `vae_tiny`, or
        madebyollin/taesdxl.
"""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any

import torch
from diffusers import StableDiffusionXLPipeline
from pydantic import BaseModel, ConfigDict, Field

import streamapp
from streamapp.diffusion import Previews

EMBEDDED_MODEL = Path(__file__).parent / "tiny" / "model"
DEFAULT_TINY_VAE = "madebyollin/taesdxl"
Side = Annotated[int, Field(ge=64, le=1536, multiple_of=8)]


class ImageInput(BaseModel):
    """Say what to draw."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a red circle on a blue background", "seed": 7},
                {"prompt": "a large yellow star on a purple background", "seed": 21},
                {"prompt": "a small pink heart at the top on a black background", "num_inference_steps": 30},
                {"prompt": "an orange triangle on a cyan background", "num_images": 4},
            ]
        }
    )
    prompt: str = Field(max_length=2000, description="What to draw.", examples=["a red circle on a blue background"])
    negative_prompt: str = Field(default="blurry, low quality", max_length=2000, description="What to avoid.")
    num_inference_steps: int = Field(default=20, ge=1, le=50)
    width: Side | None = Field(default=None, description="The model's own when not given.")
    height: Side | None = Field(default=None, description="The model's own when not given.")
    seed: int | None = Field(default=None, ge=0, le=2**32 - 1, description="The same seed draws the same image.")
    guidance_scale: float | None = Field(default=None, ge=0, le=20, description="The model's own when not given.")
    num_images: int = Field(default=1, ge=1, le=4)


class Sdxl(streamapp.App):
    """Draw images from prompts, and watch them appear step by step."""

    title = "Stable Diffusion XL"
    machine_type = "GPU-A100"
    requirements = ["accelerate", "diffusers", "torch", "transformers"]
    openai = streamapp.OpenAI(images="/stream")

    def setup(self) -> None:
        """Load the pipeline and the preview decoder."""
        model = os.environ.get("STREAMAPP_SDXL_MODEL", str(EMBEDDED_MODEL))
        self.pipe = load_pipeline(model)
        self.pipe.set_progress_bar_config(disable=True)
        own_tiny_vae = Path(model) / "vae_tiny"
        tiny_vae = str(own_tiny_vae) if own_tiny_vae.is_dir() else DEFAULT_TINY_VAE
        self.previews = Previews(self.pipe, os.environ.get("STREAMAPP_SDXL_TINY_VAE", tiny_vae))

    @streamapp.endpoint("/stream")
    def stream(self, input: ImageInput, stream: streamapp.Stream) -> dict[str, Any]:
        """Generate images and show them after every step."""
        with self.previews.to(stream) as pipe:
            return generate(pipe, input)

    @streamapp.endpoint("/")
    def generate(self, input: ImageInput) -> dict[str, Any]:
        """Generate images; a caller who leaves stops the work here too."""
        with self.previews.to(streamapp.current_stream()) as pipe:
            return generate(pipe, input)


def load_pipeline(model: str) -> StableDiffusionXLPipeline:
    """Load a model for this machine, from its half-precision files where it has such."""
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    try:
        pipe = StableDiffusionXLPipeline.from_pretrained(model, dtype=dtype, variant="fp16")
    except ValueError:  # it has none
        pipe = StableDiffusionXLPipeline.from_pretrained(model, dtype=dtype)
    return pipe.to(device)


def generate(pipe: StableDiffusionXLPipeline, input: ImageInput) -> dict[str, Any]:
    """Run the pipeline; the result tells the seed, also when it was drawn here."""
    seed = secrets.randbits(32) if input.seed is None else input.seed
    # SDXL's default; the card of the small model, which draws 16x16 latents, says 3.
    guidance_scale = 5.0 if pipe.default_sample_size >= 64 else 3.0
    images = pipe(
        prompt=input.prompt,
        negative_prompt=input.negative_prompt,
        num_inference_steps=input.num_inference_steps,
        width=input.width,
        height=input.height,
        guidance_scale=guidance_scale if input.guidance_scale is None else input.guidance_scale,
        num_images_per_prompt=input.num_images,
        generator=torch.Generator().manual_seed(seed),  # the CPU's: the same image on every machine
    ).images
    result = {"image": images[0], "seed": seed}
    return result if len(images) == 1 else {**result, "images": images}
