"""Case 9: measure what previews cost and what they show, on the embedded model.

    python -m benchmarks.previews [--rounds 5] [--prompts 24] [--out FILE]

Time: 20 steps without previews, through `Previews` unwatched, with a preview at every step, and in the way of fal's
streaming example. Each round runs them all; the figures are medians. Picture: PSNR of each step's preview against the
finished image, from the clean-image estimate and from the noisy latents, which fal's example decodes.
"""

import argparse
import base64
import io
import json
import math
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline

from streamapp.diffusion import Previews
from streamapp.jobs.channel import Channel
from streamapp.jobs.stream import Stream
from streamapp.settings import Settings

from .figures import machine, spread

ROOT = Path(__file__).parent.parent
MODEL = ROOT / "apps" / "sdxl" / "tiny" / "model"
STEPS = 20
NONE, EVERY_STEP = "no previews", "Previews, every step"
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
    """The ways to run a pipeline once; each ends when the device has done all its work.

    Args:
        call: the pipeline's arguments.
    """

    def __init__(self, pipe: Any, tiny_vae: Any, **call: Any) -> None:
        self.pipe, self.tiny_vae, self.call = pipe, tiny_vae, call
        self.previews = Previews(pipe, tiny_vae, max_fps=1000)

    def named(self) -> dict[str, Callable[[], None]]:
        """Return all of them, as the tables name them."""
        return {
            NONE: self.none,
            "no previews, in a new thread": self.none_in_new_thread,
            "Previews, nobody watches": self.unwatched,
            EVERY_STEP: self.every_step,
            "fal's example, every step": partial(self.in_callback, every=1),
            "fal's example, every 5 steps": partial(self.in_callback, every=5),
        }

    def none(self) -> None:
        self.pipe(**self.call)

    def none_in_new_thread(self) -> None:
        """Do what fal's example does besides previews: a new thread has torch set up its part of things anew."""
        thread = threading.Thread(target=self.none)
        thread.start()
        thread.join()

    def unwatched(self) -> None:
        with self.previews.to(make_stream()[1]) as pipe:
            pipe(**self.call)

    def every_step(self) -> None:
        channel, stream = make_stream()
        with watching(channel), self.previews.to(stream) as pipe:
            pipe(**self.call)

    def in_callback(self, *, every: int) -> None:
        """Do as fal's streaming example does: a thread, a callback that decodes the noisy latents, a queue."""
        events: queue.Queue[Any] = queue.Queue()

        def show(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            if step > 0 and step % every != 0:
                return kwargs
            with torch.no_grad():
                latents = kwargs["latents"] / self.tiny_vae.config.scaling_factor
                decoded = self.tiny_vae.decode(latents, return_dict=False)[0]
            image = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
            buffer = io.BytesIO()
            image.save(buffer, format="JPEG", quality=70)
            url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
            events.put({"image": {"url": url, "content_type": "image/jpeg"}})
            return kwargs

        def run_pipeline() -> None:
            self.pipe(**self.call, callback_on_step_end=show)
            events.put(None)

        thread = threading.Thread(target=run_pipeline)
        thread.start()
        while (event := events.get()) is not None:
            json.dumps(event)
        thread.join()


def seconds(way: Callable[[], None]) -> float:
    started = time.perf_counter()
    way()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure_times(
    ways: Mapping[str, Callable[[], None]], rounds: int, until: float = math.inf
) -> dict[str, dict[str, Any]]:
    """Return the seconds of each way; every round runs them all, in the order of the round before reversed.

    Args:
        until: begin no further round when `time.monotonic()` has come so far; one is always run.
    """
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    order = list(ways.items())
    for number in range(rounds):
        if number and time.monotonic() > until:
            break
        for name, way in order:
            taken[name].append(seconds(way))
        order.reverse()
    return {name: spread(values) for name, values in taken.items()}


def print_times(times: dict[str, dict[str, Any]]) -> None:
    """Print each way's time, and its ratio to none, as a Markdown table."""
    print(f"| {STEPS} steps | s | x none |\n| --- | ---: | ---: |")
    base = times[NONE]["median"]
    for name, taken in times.items():
        low_high = f"{taken['low']:.3f}–{taken['high']:.3f}"
        print(f"| {name} | {taken['median']:.3f} ({low_high}) | {taken['median'] / base:.3f} |")


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
    call = {"prompt": "a red circle on a blue background", "num_inference_steps": STEPS, "guidance_scale": 3.0}
    times = measure_times(Ways(pipe, tiny_vae, **call).named(), arguments.rounds)
    chance = random.Random(0)
    colours, shapes = ("red", "green", "blue", "yellow", "purple"), ("circle", "square", "star", "ring", "cross")
    prompts = [
        f"a {chance.choice(colours[:3])} {chance.choice(shapes)} on a {chance.choice(colours[3:])} background"
        for _ in range(arguments.prompts)
    ]
    pictures = measure_pictures(pipe, tiny_vae, prompts)
    print_times(times)
    print("\n| PSNR to the finished image, dB | clean estimate | noisy latents |\n| --- | ---: | ---: |")
    for number, (clean, noisy) in pictures.items():
        print(f"| step {number} | {clean:.1f} | {noisy:.1f} |")
    if arguments.out:
        report = {"machine": machine(), "torch": torch.__version__, "seconds": times, "psnr_db": pictures}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
