"""Stand in for models: a pipeline with the interface of diffusers' that draws without one."""

import hashlib
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import PIL.Image
import PIL.ImageDraw


class FakeScheduler:
    """Stand in for a diffusers scheduler, so that `Previews` counts the steps; it changes nothing."""

    timesteps: Sequence[int] = ()

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Set as many timesteps, from 1000 down."""
        self.timesteps = [1000 - 1000 * index // num_inference_steps for index in range(num_inference_steps)]

    def step(self, model_output: Any, timestep: int, sample: Any) -> SimpleNamespace:
        """Return the sample as it is."""
        return SimpleNamespace(prev_sample=sample)


class FakePipeline:
    """Stand in for a diffusers pipeline: same call, same callbacks, pictures without a model and without torch.

    The same prompt and seed draw the same picture. `callback_on_step_end` is called as diffusers calls it, with the
    unfinished picture where a real pipeline has its latents; setting `_interrupt` stops it after the step. `Previews`
    of it emits the progress, and no pictures.

    Args:
        steps: when the call does not say `num_inference_steps`.
        size: (width, height) when the call does not say.
    """

    def __init__(self, *, steps: int = 4, size: tuple[int, int] = (64, 64)) -> None:
        self.steps = steps
        self.size = size
        self.scheduler = FakeScheduler()
        self._interrupt = False

    def __call__(
        self,
        prompt: str | Iterable[str] = "",
        *,
        num_inference_steps: int | None = None,
        width: int | None = None,
        height: int | None = None,
        num_images_per_prompt: int = 1,
        generator: Any = None,
        callback_on_step_end: Any = None,
        **others: Any,
    ) -> SimpleNamespace:
        """Draw pictures.

        Args:
            generator: a seed, or a `torch.Generator`.
            others: what real pipelines take besides; without effect.
        Returns:
            An object with `images`: PIL images, as many as prompts times `num_images_per_prompt`.
        """
        self._interrupt = False
        steps = num_inference_steps or self.steps
        size = (width or self.size[0], height or self.size[1])
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        seed = generator.initial_seed() if hasattr(generator, "initial_seed") else generator
        images = [_draw(f"{p}/{seed}/{n}", size) for p in prompts for n in range(num_images_per_prompt)]
        self.scheduler.set_timesteps(steps)
        for index, timestep in enumerate(self.scheduler.timesteps):
            if self._interrupt:
                continue
            unfinished = PIL.Image.blend(PIL.Image.new("RGB", size, "grey"), images[0], (index + 1) / steps)
            self.scheduler.step(None, timestep, unfinished)
            if callback_on_step_end is not None:
                callback_on_step_end(self, index, timestep, {"latents": unfinished})
        return SimpleNamespace(images=images)


def _draw(description: str, size: tuple[int, int]) -> PIL.Image.Image:
    """Draw a disc on a ground; the description decides the colours and the place."""
    ground, disc, x, y = hashlib.sha256(description.encode()).digest()[:4]
    image = PIL.Image.new("RGB", size, f"hsl({ground * 360 // 256}, 80%, 20%)")
    centre = (size[0] * (64 + x / 2) // 256, size[1] * (64 + y / 2) // 256)
    PIL.ImageDraw.Draw(image).circle(centre, min(size) // 4, fill=f"hsl({disc * 360 // 256}, 80%, 60%)")
    return image
