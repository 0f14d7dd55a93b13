"""Measure the embedded model against its gates: what it was asked for against what its images show.

    python -m apps.sdxl.tiny.evaluate    # 512 prompts; exit status 1 if a gate is missed

A quarter of the prompts are combinations of colours and shape that training never saw. Images are judged without a
model: the background is the median colour of the border, the foreground that of the pixels far from it, the shape the
best overlap with the renderer's own shapes after both were brought to the same centre and area.
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from apps.sdxl.tiny import shapes
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

MODEL = Path(__file__).parent / "model"
FRAME = 48
"""Pixels per side of the normalised masks in which shapes are compared."""


class Gate(NamedTuple):
    """A measured figure and the bound it has to keep."""

    name: str
    value: float
    bound: float
    unit: str = "%"

    @property
    def passed(self) -> bool:
        """Times have to stay below their bound, everything else above."""
        return self.value <= self.bound if self.unit == "s" else self.value >= self.bound


class Sample(NamedTuple):
    """What a batch of prompts gave: final images and the previews of one step, both in [0, 1]."""

    images: Tensor
    previews: Tensor


# --- Looking at images -------------------------------------------------------------------------------------------


def nearest_colour(colours: Tensor) -> Tensor:
    """The index of the palette's colour next to each given one."""
    return torch.cdist(colours, shapes.palette()).argmin(dim=1)


def border_colour(images: Tensor) -> Tensor:
    """The median colour of the outermost two pixels."""
    rows = torch.cat([images[:, :, :2], images[:, :, -2:]], dim=2).flatten(2)
    columns = torch.cat([images[:, :, :, :2], images[:, :, :, -2:]], dim=3).flatten(2)
    return torch.cat([rows, columns], dim=2).median(dim=2).values


def foreground_mask(images: Tensor) -> Tensor:
    """How much each pixel (image, y, x) differs from the background: 0 to 1."""
    distance: Tensor = torch.linalg.vector_norm(images - border_colour(images)[:, :, None, None], dim=1)
    peak: Tensor = distance.flatten(1).quantile(0.99, dim=1).clamp(min=0.05)
    return (distance / peak[:, None, None]).clamp(0, 1)


def foreground_colour(images: Tensor) -> Tensor:
    """The median colour of the pixels that differ most from the background."""
    chosen = (foreground_mask(images) > 0.8)[:, None].expand_as(images)
    return torch.where(chosen, images, torch.nan).flatten(2).nanmedian(dim=2).values


def centroid(masks: Tensor) -> Tensor:
    """The centre of mass (x, y) in pixels from the middle."""
    axis = torch.arange(masks.shape[-1]) - masks.shape[-1] / 2 + 0.5
    mass = masks.sum((1, 2)).clamp(min=1e-3)
    return torch.stack([(masks.sum(1) * axis).sum(1) / mass, (masks.sum(2) * axis).sum(1) / mass], dim=1)


def normalised(masks: Tensor) -> Tensor:
    """Masks brought to a common centre and area."""
    half = masks.shape[-1] / 2
    scale = 1.1 * masks.sum((1, 2)).clamp(min=1.0).sqrt() / half
    theta = torch.zeros(len(masks), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = scale, scale, centroid(masks) / half
    grid = functional.affine_grid(theta, [len(masks), 1, FRAME, FRAME], align_corners=False)
    return functional.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]


def nearest_shape(masks: Tensor) -> Tensor:
    """The index of the shape that overlaps each mask best."""
    count = len(shapes.SHAPES)
    drawn = shapes.coverage(torch.arange(count), torch.zeros(count, 2), torch.full((count,), shapes.RADII[0]))
    given, models = normalised(masks)[:, None], normalised(drawn)[None]
    overlap = torch.minimum(given, models).sum((2, 3)) / torch.maximum(given, models).sum((2, 3))
    return overlap.argmax(dim=1)


def nearest_place(masks: Tensor) -> Tensor:
    """The index of the place whose usual centre is next to that of the mask."""
    return torch.cdist(centroid(masks), 26.0 * torch.tensor(shapes.DIRECTIONS)).argmin(dim=1)


# --- Making images -----------------------------------------------------------------------------------------------


class EstimateRecorder:
    """Keeps the scheduler's estimates of the clean latents, one per step."""

    def __init__(self, pipe: StableDiffusionXLPipeline) -> None:
        self.estimates: list[Tensor] = []
        step = pipe.scheduler.step

        # The wrapper keeps the signature: the pipeline looks there for `generator`.
        @functools.wraps(step)
        def record(*args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            previous, estimate = step(*args, **kwargs)
            self.estimates.append(estimate)
            return previous, estimate

        pipe.scheduler.step = record


@torch.no_grad()
def generate(
    pipe: Any, tiny: AutoencoderTiny, recorder: EstimateRecorder, prompts: list[str], **options: Any
) -> Sample:
    """Images for `prompts`, each from a seed of its own, and their previews after step 5."""
    recorder.estimates.clear()
    images = pipe(prompts, negative_prompt=["blurry, low quality"] * len(prompts), output_type="pt", **options).images
    previews = tiny.decode(recorder.estimates[4].to(tiny.dtype)).sample / 2 + 0.5
    return Sample(images.float().cpu(), previews.float().clamp(0, 1).cpu())


def measure_prompts(pipe: Any, tiny: AutoencoderTiny, arguments: argparse.Namespace) -> list[Gate]:
    """Ask for scenes, a quarter of them held out, and count what the images got right."""
    generator, rng = torch.Generator().manual_seed(arguments.seed), random.Random(arguments.seed)
    held_count = arguments.prompts // 4
    scenes = torch.cat(
        [
            shapes.sample_scenes(arguments.prompts - held_count, generator),
            shapes.sample_scenes(held_count, generator, held=True),
        ]
    )
    recorder, samples = EstimateRecorder(pipe), []
    for part in torch.split(torch.arange(len(scenes)), arguments.batch):
        samples.append(
            generate(
                pipe,
                tiny,
                recorder,
                [shapes.caption(scene, rng) for scene in scenes[part].tolist()],
                num_inference_steps=arguments.steps,
                guidance_scale=arguments.guidance,
                generator=[torch.Generator().manual_seed(int(index)) for index in part],
            )
        )
        sys.stderr.write(f"\r{int(part[-1]) + 1}/{len(scenes)} prompts")
    sys.stderr.write("\n")
    return judge(scenes, Sample(*map(torch.cat, zip(*samples, strict=True))))


def judge(scenes: Tensor, sample: Sample) -> list[Gate]:
    """Compare images with the scenes they were to show."""
    foreground, background, shape, _, place = scenes.unbind(1)
    masks = (foreground_mask(sample.images) > 0.5).float()
    right_shape, held, moved = nearest_shape(masks) == shape, shapes.held_out(scenes), place > 0
    preview_background = nearest_colour(border_colour(sample.previews))
    return [
        Gate("background colour", share(nearest_colour(border_colour(sample.images)) == background), 97),
        Gate("foreground colour", share(nearest_colour(foreground_colour(sample.images)) == foreground), 95),
        Gate("shape", share(right_shape[~held]), 90),
        Gate("shape, held-out combinations", share(right_shape[held]), 80),
        Gate("left, right, top, bottom", share(nearest_place(masks)[moved] == place[moved]), 95),
        Gate("background in the preview at step 5", share(preview_background == background), 90),
    ]


def share(right: Tensor) -> float:
    """Percent that are true."""
    return 100 * right.float().mean().item()


# --- Decoders and time -------------------------------------------------------------------------------------------


@torch.no_grad()
def measure_decoders(pipe: Any, tiny: AutoencoderTiny, seed: int) -> list[Gate]:
    """Signal to noise of both decoders on fresh pictures."""
    generator = torch.Generator().manual_seed(seed)
    images = shapes.render(shapes.sample_scenes(256, generator), generator).to(pipe.device)
    full, quick = [], []
    for part in torch.split(images, 32):
        latents = pipe.vae.encode(part).latent_dist.mode()
        full.append(pipe.vae.decode(latents).sample)
        quick.append(tiny.decode(latents * pipe.vae.config.scaling_factor).sample)
    return [
        Gate("VAE", psnr(torch.cat(full), images), 30, "dB"),
        Gate("tiny VAE", psnr(torch.cat(quick), images), 27, "dB"),
    ]


def psnr(decoded: Tensor, images: Tensor) -> float:
    """Mean over images of the peak signal to noise ratio, both in [-1, 1]."""
    error = (decoded.clamp(-1, 1) - images).square().mean((1, 2, 3))
    return (10 * torch.log10(4 / error)).mean().item()


def measure_time(pipe: Any, steps: int) -> Gate:
    """The median of five generations of one image."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        pipe("a red circle on a blue background", num_inference_steps=steps, guidance_scale=3.0)
        times.append(time.perf_counter() - started)
    return Gate(f"{steps} steps", statistics.median(times), 2, "s")


# --- The whole ---------------------------------------------------------------------------------------------------


def report(gates: list[Gate]) -> str:
    """A table in Markdown."""
    rows = []
    for gate in gates:
        bound = f"{'<=' if gate.unit == 's' else '>='} {gate.bound:g} {gate.unit}"
        rows.append(f"| {gate.name} | {gate.value:.2f} {gate.unit} | {bound} | {'yes' if gate.passed else '**no**'} |")
    return "\n".join(["| measured | value | gate | passed |", "|---|---|---|---|", *rows]) + "\n"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure the embedded model against its gates.")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--prompts", type=int, default=512)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def main() -> int:
    """Measure, report, and fail if a gate is missed."""
    arguments = parse_arguments()
    options = {"dtype": torch.float32, "local_files_only": True}
    pipe = StableDiffusionXLPipeline.from_pretrained(arguments.model, **options).to(arguments.device)
    tiny = AutoencoderTiny.from_pretrained(arguments.model, subfolder="vae_tiny", **options).to(arguments.device)
    pipe.set_progress_bar_config(disable=True)
    gates = [
        measure_time(pipe, arguments.steps),
        *measure_decoders(pipe, tiny, arguments.seed),
        *measure_prompts(pipe, tiny, arguments),
    ]
    sys.stdout.write(report(gates))
    if arguments.json:
        figures = {gate.name: {"value": round(gate.value, 3), "gate": gate.bound, "unit": gate.unit} for gate in gates}
        settings = {key: getattr(arguments, key) for key in ("prompts", "steps", "guidance", "seed", "device")}
        arguments.json.write_text(json.dumps({"settings": settings, "gates": figures}, indent=1) + "\n")
    return 0 if all(gate.passed for gate in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
