"""Measure what previews cost and what they show, on the embedded model.

    python benchmarks/previews.py [--rounds 5] [--prompts 24] [--out FILE]

Time: 20 steps without previews, through `Previews` unwatched, with a preview at every step, and the way of fal's
streaming example (decode the noisy latents in the callback). Each round runs them all; the figures are medians.
Picture: PSNR of each step's preview against the finished image, from the clean-image estimate and from the noisy
latents.
"""

import argparse
import base64
import io
import json
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline

from streamapp.channel import Channel, Stream
from streamapp.diffusion import Previews
from streamapp.settings import Settings

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "apps" / "sdxl" / "tiny" / "model"
STEPS = 20
SHOWN = (1, 3, 5, 10, 15, 20)


def make_stream() -> tuple[Channel, Stream]:
    channel = Channel(Settings())
    return channel, Stream(channel, "0" * 32)


@contextmanager
def watching(channel: Channel) -> Iterator[None]:
    """Take every event at once, as a fast viewer does."""
    is_over = threading.Event()

    def poll() -> None:
        after = 0
        while not is_over.wait(0.002):
            events = channel.events(after=after, shows_previews=True)
            after = events[-1].n if events else after

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class Ways:
    """The ways to run the pipeline once."""

    def __init__(self, pipe: Any, tiny_vae: Any) -> None:
        self.pipe, self.tiny_vae = pipe, tiny_vae
        self.previews = Previews(pipe, tiny_vae, max_fps=1000)

    def run(self, pipe: Any, **options: Any) -> None:
        pipe("a red circle on a blue background", num_inference_steps=STEPS, guidance_scale=3.0, **options)

    def none(self) -> None:
        self.run(self.pipe)

    def unwatched(self) -> None:
        with self.previews.to(make_stream()[1]) as pipe:
            self.run(pipe)

    def every_step(self) -> None:
        channel, stream = make_stream()
        with watching(channel), self.previews.to(stream) as pipe:
            self.run(pipe)

    def in_callback(self) -> None:
        """Do as fal's streaming example does, but at every step."""

        def show(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            with torch.no_grad():
                decoded = self.tiny_vae.decode(kwargs["latents"], return_dict=False)[0]
            image = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=70)
            base64.b64encode(buffer.getvalue())
            return kwargs

        self.run(self.pipe, callback_on_step_end=show)


def seconds(way: Callable[[], None]) -> float:
    started = time.perf_counter()
    way()
    return time.perf_counter() - started


def measure_times(ways: Ways, rounds: int) -> dict[str, float]:
    named = {
        "no previews": ways.none,
        "Previews, nobody watches": ways.unwatched,
        "Previews, every step": ways.every_step,
        "decode in the callback, every step": ways.in_callback,
    }
    for way in named.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in named}
    for _ in range(rounds):
        for name, way in named.items():
            taken[name].append(seconds(way))
    return {name: statistics.median(values) for name, values in taken.items()}


def measure_pictures(pipe: Any, tiny_vae: Any, prompts: list[str]) -> dict[int, tuple[float, float]]:
    """Return, for some steps, the mean PSNR in dB of previews from clean estimates and from noisy latents."""
    clean: list[Any] = []
    noisy: list[Any] = []
    original = pipe.scheduler.step

    def step(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **{**kwargs, "return_dict": True})
        clean.append(output.pred_original_sample.clone())
        noisy.append(output.prev_sample.clone())
        return output.to_tuple()

    pipe.scheduler.step = step
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    final = pipe(prompts, num_inference_steps=STEPS, guidance_scale=3.0, generator=generators, output_type="pt").images
    del pipe.scheduler.step
    return {n: (psnr(tiny_vae, clean[n - 1], final), psnr(tiny_vae, noisy[n - 1], final)) for n in SHOWN}


@torch.no_grad()
def psnr(tiny_vae: Any, latents: Any, final: Any) -> float:
    shown = (tiny_vae.decode(latents, return_dict=False)[0] / 2 + 0.5).clamp(0, 1)
    errors = (shown - final).square().mean((1, 2, 3)).clamp(min=1e-10)
    return float((-10 * errors.log10()).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    pipe = StableDiffusionXLPipeline.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    tiny_vae = AutoencoderTiny.from_pretrained(MODEL, subfolder="vae_tiny", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    times = measure_times(Ways(pipe, tiny_vae), arguments.rounds)
    chance = random.Random(0)
    colours, shapes = ("red", "green", "blue", "yellow", "purple"), ("circle", "square", "star", "ring", "cross")
    prompts = [
        f"a {chance.choice(colours[:3])} {chance.choice(shapes)} on a {chance.choice(colours[3:])} background"
        for _ in range(arguments.prompts)
    ]
    pictures = measure_pictures(pipe, tiny_vae, prompts)
    base = times["no previews"]
    for name, value in times.items():
        print(f"{name:36}{value:7.2f} s  {value / base:5.2f}x")
    for number, (clean, noisy) in pictures.items():
        print(f"step {number:2}: clean estimate {clean:5.1f} dB, noisy latents {noisy:5.1f} dB")
    if arguments.out:
        arguments.out.write_text(json.dumps({"seconds": times, "psnr_db": pictures}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
