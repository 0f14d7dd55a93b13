"""Show a diffusion pipeline's image while it is made: steps -> clean-image estimate -> small JPEG -> previews.

`Previews` belongs to the app and holds the decoder; `previews.to(stream)` lends one job a shallow copy of the pipeline
with schedulers of its own, which are watched (`schedulers`), and of the pipelines inside it, of which some are made.
The steps of schedulers are the one place which every pipeline passes, with or without callbacks, and the only one that
knows the *clean-image estimate* (x0): what the model takes the finished image to be. The noisy latents that
`callback_on_step_end` hands out look like static for half of the steps.

The pipeline's result is not touched: its latents are bit-identical with and without previews, and a preview that fails
ends in the log, not in the job. Nothing is decoded while nobody watches.

On the CPU a preview is made in the inference thread. On CUDA that thread only queues it, on a side stream, and never
waits for the GPU; a short-lived thread waits, makes the JPEG and emits. One is under way per job at a time: together
with torch's cache of pinned memory this takes the place of a ring of buffers.

This is the one module that imports torch; it needs the extra `streamapp-server[diffusion]`.
"""

from __future__ import annotations

import functools
import inspect
import math
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image as PILImage

from .errors import Cancelled
from .media import Image
from .pipelines import Loop, Part, View, lend, pipelines, schedulers
from .process.logs import logger
from .schedulers import unwatch, watch

try:
    import torch
    from diffusers import AutoencoderTiny
    from torch.nn import functional
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"streamapp.diffusion needs {error.name}, which an extra brings; "
        'write pip install "streamapp-server[diffusion]"',
        name=error.name,
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from .jobs.stream import Stream

    Render = Callable[[Tensor], tuple[Tensor, int, int]]
    Publish = Callable[[Tensor, int, int], None]

_EXIT_TIMEOUT_S = 5.0


class PreviewStatistics(NamedTuple):
    """Count what became of the steps of all jobs."""

    #: previews decoded
    decoded: int
    #: steps without a preview: nobody watched, the last one was unread, it was too soon, or they make no picture
    skipped: int
    #: previews that raised; their jobs went on with progress only
    failed: int


class Previews:
    """Publish progress and previews of a diffusers pipeline's jobs.

        self.previews = Previews(self.pipe, tiny_vae="madebyollin/taesdxl")     # in setup
        with self.previews.to(stream) as pipe:                                  # in the endpoint
            image = pipe(prompt).images[0]

    A preview is `{"image", "step", "total", "width", "height", "method"}`: a JPEG, the size at which to show it (the
    finished image's; of a batch, the grid's) and how it was made: "tiny_vae", "latent_rgb", or "pixels" where a
    pipeline without a decoder computes the image itself.

    Args:
        pipe: the pipeline; it stays as it is.
        tiny_vae: the small decoder of the pipeline's family: a hub id, a folder, or an `AutoencoderTiny`. None shows
            colours only, by a straight line fitted to the pipeline's own decoder (AutoencoderKL, Kandinsky's MoVQ,
            the VQGAN of Stable Cascade); with another there is progress alone.
            SD: madebyollin/taesd, SDXL: madebyollin/taesdxl, SD3: madebyollin/taesd3, Flux: madebyollin/taef1.
        every: make previews at most at every n-th step; a step that calls its scheduler twice may have two.
        max_fps: make at most so many a second.
        size: pixels of a preview's longer side, at most. Latents are shrunk before they are decoded.
        quality: of the JPEG, 1 to 95.
    """

    def __init__(
        self,
        pipe: Any,
        tiny_vae: str | torch.nn.Module | None = None,
        *,
        every: int = 1,
        max_fps: float = 10,
        size: int = 512,
        quality: int = 70,
    ) -> None:
        self.pipe = pipe
        self.every = every
        self.max_fps = max_fps
        self.size = size
        self.quality = quality
        self._vae = _load_decoder(pipe, tiny_vae)
        self._has_said_unseen = False
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def to(self, stream: Stream) -> Iterator[Any]:
        """Lend this job its own copy of the pipeline, which reports every step to `stream`.

        The copy shares the models and has its own schedulers, so jobs in several threads do not meet; those are the
        ones that are watched, so choose them before. A pipeline made of pipelines counts the steps of each by
        themselves, with its name as the message ("prior", "decoder"). A cancelled job leaves the pipeline, by
        `Cancelled`, before its next step. After the block nothing more is emitted.
        """
        pipe, parts = lend(self.pipe)
        job = _Job(self, stream)
        try:
            for part in parts:
                job.follow(part)
            yield pipe
            if not job.has_seen_steps:
                self._say_unseen()
        finally:
            job.close()

    def callback(self, stream: Stream) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
        """Return a `callback_on_step_end` for one call of the pipeline: the same previews without a copy.

        It watches the pipeline's own schedulers, so one job at a time. Prefer `to`: it also serves concurrent jobs,
        pipelines without callbacks, and Flux, whose packed latents do not tell their height and width.
        """
        job = _Job(self, stream)
        last = _LastStep()
        for _, inner in pipelines(self.pipe):
            for scheduler in schedulers(inner):
                watch(scheduler, last)

        def on_step_end(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            part, latents = Part(pipe), kwargs.get("latents")
            loop = part.loop(pipe.scheduler)
            if loop.begins_step(step + 1):
                job.on_step(loop.step(step + 1), loop.total)
            job.show(part, latents, last.take(latents))
            job.check()
            return kwargs

        return on_step_end

    def statistics(self) -> PreviewStatistics:
        """Return the counts since the start, over all jobs."""
        with self._lock:
            return PreviewStatistics(*(self._counts[name] for name in PreviewStatistics._fields))

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _say_unseen(self) -> None:
        with self._lock:
            has_said, self._has_said_unseen = self._has_said_unseen, True
        if not has_said:
            names = {type(scheduler).__name__ for _, inner in pipelines(self.pipe) for scheduler in schedulers(inner)}
            logger.warning(
                "Previews saw no step of %s (scheduler: %s): no progress, no previews, and a cancelled job runs on. "
                "Call the pipeline that the block lends, `with previews.to(stream) as pipe: pipe(...)`, and choose its "
                "scheduler in setup; where its steps are no scheduler's, write stream.progress(step, total) after each",
                type(self.pipe).__name__,
                ", ".join(sorted(names)) or "none",
            )

    def _method(self, part: Part, latents: Any) -> str | None:
        """Tell how latents become a picture; None when they do not: embeddings, videos, sounds.

        What a part makes that has no model to decode it is pixels, or for the next part, although it may look like
        latents (Stable Cascade's prior).
        """
        dimensions = getattr(latents, "ndim", 0)
        if not (dimensions == 4 or (dimensions == 3 and _unpacks(part))):
            return None
        is_left_as_it_is = not part.decodes and (part.name or self._vae is None)
        if is_left_as_it_is:
            return "pixels" if latents.shape[1] in (1, 3) else None
        if self._vae is None:
            return None
        return "latent_rgb" if isinstance(self._vae, _LatentRgb) else "tiny_vae"

    def _scale(self, part: Part, method: str) -> int:
        """Return how many pixels of the image a latent stands for, to each side."""
        if method == "pixels":
            return 1
        scale: int = getattr(part.pipe, "vae_scale_factor", getattr(self._vae, "scale", 8))
        return scale

    def _render(self, latents: Tensor, *, method: str, scale: int) -> tuple[Tensor, int, int]:
        """Decode a batch of latents (B, C, h, w) to one picture, (H, W, 3) uint8 on their device, and its full size."""
        count, _, height, width = latents.shape
        columns = math.ceil(math.sqrt(count))
        full_width, full_height = columns * width * scale, math.ceil(count / columns) * height * scale
        shrink = min(1.0, self.size / max(full_width, full_height))
        small = functional.interpolate(latents, size=(int(height * shrink), int(width * shrink)), mode="area")
        images = small.float().expand(-1, 3, -1, -1) if method == "pixels" else self._decode(small)
        pixels = images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        return _tile(pixels, columns), full_width, full_height

    def _decode(self, latents: Tensor) -> Tensor:
        """Return images (B, 3, H, W), -1 to 1."""
        images: Tensor = self._vae.decode(latents.to(next(self._vae.parameters())), return_dict=False)[0]
        return images


class _Job:
    """Show the steps of one job."""

    def __init__(self, previews: Previews, stream: Stream) -> None:
        self._previews = previews
        self._stream = stream
        self._followed: list[tuple[Part, list[Any]]] = []
        self._step = self._total = 0
        self._next_preview_at = -math.inf
        self._has_failed = False
        self._encoder: threading.Thread | None = None
        self._preparing: Part | None = None
        self.has_seen_steps = False

    def follow(self, part: Part) -> None:
        """Watch the schedulers of a part, unless one before it has them too."""
        taken = [id(scheduler) for _, watched in self._followed for scheduler in watched]
        own = [scheduler for scheduler in schedulers(part.pipe) if id(scheduler) not in taken]
        self._followed.append((part, own))
        part.listen(self)
        for scheduler in own:
            watch(scheduler, _Run(self, part))

    def close(self) -> None:
        """Stop watching, and wait for the preview under way."""
        for part, watched in self._followed:
            part.leave()
            for scheduler in watched:
                unwatch(scheduler)  # which held this job: a reference cycle, which would keep its tensors
        if self._encoder is not None:
            self._encoder.join(_EXIT_TIMEOUT_S)

    def on_step(self, step: int, total: int, message: str | None = None) -> None:
        """Emit the progress of a step."""
        self.has_seen_steps = True
        self._step, self._total = step, total
        self._stream.progress(step, total, message)

    def show(self, part: Part, latents: Any, estimate: Callable[[], Tensor]) -> None:
        """Show the estimate of the clean latents when a preview is due; `latents` are what the step had."""
        if self._is_due() and (method := self._previews._method(part, latents)):
            self._preview(part, method, estimate)
        else:
            self._previews._count("skipped")

    def check(self) -> None:
        """Raise `Cancelled` when the job is over."""
        self._stream.check()

    def on_preparing(self, part: Part) -> None:
        """Note whose loop is about to begin; pipelines made of each other's components share a scheduler."""
        self._preparing = part

    def on_update(self, part: Part, count: int, total: int) -> None:
        """Emit the progress that a part's bar tells."""
        self.on_step(count, total, part.name or None)
        self.check()

    def running(self, scheduler: Any, *, otherwise: Part) -> Part:
        """Return the part whose loop steps this scheduler now."""
        part = self._preparing
        return otherwise if part is None or scheduler not in schedulers(part.pipe) else part

    def _is_due(self) -> bool:
        return (
            not self._has_failed
            and (self._step - 1) % self._previews.every == 0
            and time.monotonic() >= self._next_preview_at
            and not (self._encoder is not None and self._encoder.is_alive())
            and self._stream.wants_preview()
        )

    def _preview(self, part: Part, method: str, estimate: Callable[[], Tensor]) -> None:
        self._next_preview_at = time.monotonic() + 1 / self._previews.max_fps
        render = functools.partial(self._previews._render, method=method, scale=self._previews._scale(part, method))
        publish = functools.partial(self._publish, method=method, step=self._step, total=self._total)
        try:
            with torch.inference_mode():
                latents = _unpack(part, estimate())
                if latents.ndim == 4:  # else of a video, or of Qwen-Image, which counts its one frame
                    self._show(latents, render, publish)
        except Exception:  # whatever a decoder raises: the job goes on without previews
            self._fail()

    def _show(self, latents: Tensor, render: Render, publish: Publish) -> None:
        if latents.is_cuda:
            self._show_later(latents, render, publish)
        else:
            publish(*render(latents))

    def _show_later(  # pragma: no cover - needs CUDA; gpu tests
        self, latents: Tensor, render: Render, publish: Publish
    ) -> None:
        """Queue the decode on a side stream and leave the waiting to a thread; never waits for the GPU."""
        latents = latents.clone()  # it may be the model's output itself, which the pipeline writes over
        side = _side_stream(latents.device)
        side.wait_stream(torch.cuda.current_stream(latents.device))
        latents.record_stream(side)
        with torch.cuda.stream(side):
            pixels, width, height = render(latents)
            pixels = pixels.to("cpu", non_blocking=True)  # into pinned memory
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record()

        def finish() -> None:
            try:
                done.synchronize()
                publish(pixels, width, height)
            except Cancelled:
                return  # the inference thread meets it at its own next step
            except Exception:  # as above
                self._fail()

        self._encoder = threading.Thread(target=finish, name="streamapp-preview", daemon=True)
        self._encoder.start()

    def _publish(self, pixels: Tensor, width: int, height: int, *, method: str, step: int, total: int) -> None:
        self._previews._count("decoded")
        image = Image.from_pil(PILImage.fromarray(pixels.numpy()), format="JPEG", quality=self._previews.quality)
        payload = {"image": image, "width": width, "height": height, "method": method}
        self._stream.preview(payload, step=step, total=total)

    def _fail(self) -> None:
        self._has_failed = True
        self._previews._count("failed")
        logger.warning("job %s goes on without previews: one failed", self._stream.job_id, exc_info=True)


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:  # pragma: no cover - needs CUDA; gpu tests
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class _Run:
    """Follow one scheduler of a part: count its steps, and put the views of its latents together."""

    def __init__(self, job: _Job, part: Part) -> None:
        self._job = job
        self._part = part
        self._loop = Loop(0, 0, 0, 1)
        self._turn = 0
        self._timestep: Any = None
        self._tiles: list[Callable[[], Tensor]] = []
        self._tiled = 0

    def begin(self) -> None:
        """Count from one again: a pipeline is called anew, whether or not it came to its end before."""
        self._part.begin()
        self._loop, self._turn, self._timestep = Loop(0, 0, 0, 1), 0, None

    def on_step(self, call: Mapping[str, Any], output: Any) -> None:
        """Emit the progress of a step, and its preview when one is due; raises `Cancelled` before the next step."""
        timestep = call.get("timestep")
        if timestep is None or timestep is not self._timestep:  # a turn hands the same one to each of its calls
            self._timestep = timestep
            self._next_turn(call["self"])
        self._show(call, functools.partial(_clean_estimate, call, output))
        self._job.check()

    def _next_turn(self, scheduler: Any) -> None:
        if self._turn == self._loop.turns:
            self._part = self._job.running(scheduler, otherwise=self._part)
            self._loop, self._turn = self._part.loop(scheduler), 0
        self._part.is_seen = True
        self._turn += 1
        self._tiles, self._tiled = [], 0
        if self._loop.begins_step(self._turn):
            self._job.on_step(self._loop.step(self._turn), self._loop.total, self._part.name or None)

    def _show(self, call: Mapping[str, Any], estimate: Callable[[], Tensor]) -> None:
        latents = call.get("sample")
        views, shape = self._part.views, self._part.shape
        if views and shape and latents is not None:
            self._tiles.append(estimate)
            self._tiled += len(latents)
            if self._tiled < len(views) * shape[0]:
                return
            estimate = functools.partial(_join, self._tiles, views, shape)
        self._job.show(self._part, latents, estimate)


class _LastStep:
    """Keep the last step of any scheduler, for a callback."""

    def __init__(self) -> None:
        self._last: tuple[Mapping[str, Any], Any] | None = None

    def begin(self) -> None:
        """Forget the loop before."""
        self._last = None

    def on_step(self, call: Mapping[str, Any], output: Any) -> None:
        """Keep a step."""
        self._last = (call, output)

    def take(self, latents: Any) -> Callable[[], Tensor]:
        """Return the estimate of the last step; the latents themselves where it saw none, or but a view of them."""
        last, self._last = self._last, None
        if last is None or getattr(last[0].get("sample"), "shape", None) != getattr(latents, "shape", None):
            return lambda: latents
        return functools.partial(_clean_estimate, *last)


def _join(estimates: list[Callable[[], Tensor]], views: list[View], shape: tuple[int, ...]) -> Tensor:
    """Put the views of a panorama together, as MultiDiffusion does: the mean where they overlap.

    Views that go over the right edge go on at the left one.
    """
    tiles = torch.cat([estimate() for estimate in estimates]).chunk(len(views))
    width = shape[-1]
    sums = tiles[0].new_zeros(*shape[:-1], 2 * width)
    counts = torch.zeros_like(sums)
    for tile, (top, _, left, _) in zip(tiles, views, strict=True):
        place = (..., slice(top, top + tile.shape[-2]), slice(left, left + tile.shape[-1]))
        sums[place] += tile
        counts[place] += 1
    whole, count = (both[..., :width] + both[..., width:] for both in (sums, counts))
    return whole / count.clamp(min=1)


def _clean_estimate(call: Mapping[str, Any], output: Any) -> Tensor:
    """Return the clean latents (x0) that the model predicted for the step just done; call it before the next one.

    Most schedulers hand them out (Euler, Heun, DDIM, DDPM, LCM, ...). For the others they follow from what the model
    predicts and from `sample = alpha * x0 + sigma * noise`. A scheduler of another kind gives the step's own latents.
    """
    scheduler = call["self"]
    clean: Tensor | None = getattr(output, "pred_original_sample", getattr(output, "denoised", None))
    if isinstance(output, tuple) and len(output) == 2 and not type(scheduler).__name__.startswith("TCD"):
        clean = output[1]  # of a pair only TCD's second item is another
    if clean is not None:
        return clean
    sample: Tensor = call["sample"]
    predicted: Tensor = call["model_output"]
    if hasattr(scheduler, "precondition_outputs"):  # EDM, for example Playground 2.5
        clean = scheduler.precondition_outputs(sample, predicted, scheduler.sigmas[scheduler.step_index - 1])
        return clean
    kind, alpha, sigma = _parametrisation(scheduler, call["timestep"])
    match kind:
        case "epsilon":
            return (sample - sigma * predicted) / alpha
        case "v_prediction":
            return alpha * sample - sigma * predicted
        case "flow_prediction":
            return sample - sigma * predicted
        case "sample":
            return predicted
    if hasattr(output, "prev_sample_mean"):  # score-based models draw pixels of 0 to 1
        clean = output.prev_sample_mean * 2 - 1
        return clean
    latents: Tensor = output[0] if isinstance(output, tuple) else output.prev_sample
    return latents


def _parametrisation(scheduler: Any, timestep: Any) -> tuple[str, Tensor, Tensor]:
    """Return what the model predicts, and alpha and sigma of the step just done."""
    kind = getattr(scheduler.config, "prediction_type", "")
    if hasattr(scheduler, "_sigma_to_alpha_sigma_t"):  # DPM-Solver, UniPC, DEIS, SA-Solver
        return kind, *scheduler._sigma_to_alpha_sigma_t(scheduler.sigmas[scheduler.step_index - 1])
    if type(scheduler).__name__.startswith("FlowMatch"):
        sigma = scheduler.sigmas[scheduler.step_index - 1]
        return "flow_prediction", 1 - sigma, sigma
    if hasattr(scheduler, "alphas_cumprod"):  # PNDM, TCD
        squared = scheduler.alphas_cumprod[timestep]
        return kind, squared**0.5, (1 - squared) ** 0.5
    if hasattr(scheduler, "_alpha_cumprod"):  # Wuerstchen, Stable Cascade
        squared = scheduler._alpha_cumprod(timestep, timestep.device).reshape(-1, 1, 1, 1)
        return "epsilon", squared**0.5, (1 - squared) ** 0.5
    return "unknown", torch.ones(()), torch.zeros(())


def _unpacks(part: Part) -> bool:
    """Tell whether a part's packed latents are those of Flux and its kin; a video's and a sound's are others."""
    unpack = getattr(part.pipe, "_unpack_latents", None)
    names = [] if unpack is None else [*inspect.signature(unpack).parameters]
    return len(part.size) == 2 and names == ["latents", "height", "width", "vae_scale_factor"]


def _unpack(part: Part, latents: Tensor) -> Tensor:
    if latents.ndim == 3:  # (batch, height/2 * width/2, 4 * channels)
        latents = part.pipe._unpack_latents(latents, *part.size, part.pipe.vae_scale_factor)
    return latents


def _load_decoder(pipe: Any, tiny_vae: str | torch.nn.Module | None) -> Any:
    if isinstance(tiny_vae, str):
        first = next(inner for _, inner in pipelines(pipe) if hasattr(inner, "_execution_device"))
        return AutoencoderTiny.from_pretrained(tiny_vae, dtype=first.dtype).to(first._execution_device)
    if tiny_vae is None:
        for _, inner in pipelines(pipe):
            for name in ("vae", "movq", "vqgan"):
                vae = getattr(inner, name, None)
                if (decode := _decode_of(vae)) is not None:
                    return _LatentRgb(vae, decode).to(inner._execution_device, inner.dtype)
    return tiny_vae


def _decode_of(vae: Any) -> Callable[[Any, Tensor], Tensor] | None:
    if getattr(getattr(vae, "config", None), "out_channels", 0) != 3:  # the spectrogram of a sound has one
        return None
    return next((_DECODE[cls.__name__] for cls in type(vae).__mro__ if cls.__name__ in _DECODE), None)


# What each family's own decoder makes of latents as the model has them: images of -1 to 1.
_DECODE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "AutoencoderKL": lambda vae, latents: (
        vae.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)).sample
    ),
    "VQModel": lambda movq, latents: movq.decode(latents, force_not_quantize=True).sample,
    "PaellaVQModel": lambda vqgan, latents: vqgan.decode(latents * vqgan.config.scale_factor).sample * 2 - 1,
}


class _LatentRgb(torch.nn.Module):
    """Map latents to blurred colours by one matrix, fitted by least squares to what a VAE makes of random patches."""

    def __init__(self, vae: Any, decode: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        # A copy of its own: SDXL's overflows in half precision, and the pipeline's may be offloaded.
        full = type(vae).from_config(vae.config)
        full.load_state_dict(vae.state_dict())
        seeded = torch.Generator().manual_seed(0)
        latents = functional.interpolate(torch.randn(16, vae.config.latent_channels, 2, 2, generator=seeded), size=8)
        with torch.no_grad():
            images = decode(full, latents)
        colours = functional.interpolate(images.clamp(-1, 1), size=8, mode="area")
        fit = torch.linalg.lstsq(functional.pad(_pixels(latents), (0, 1), value=1.0), _pixels(colours)).solution
        self.scale = images.shape[-1] // 8
        self.weight = torch.nn.Parameter(fit[:-1].T[:, :, None, None].contiguous(), requires_grad=False)
        self.bias = torch.nn.Parameter(fit[-1], requires_grad=False)

    def decode(self, latents: Tensor, return_dict: bool = False) -> tuple[Tensor]:
        """Return images (B, 3, H, W), about -1 to 1, as an `AutoencoderTiny` does."""
        colours = functional.conv2d(latents, self.weight, self.bias)
        return (functional.interpolate(colours, scale_factor=self.scale, mode="bilinear"),)


def _pixels(images: Tensor) -> Tensor:
    return images.movedim(1, -1).flatten(0, -2)


def _tile(images: Tensor, columns: int) -> Tensor:
    """Lay images (B, 3, h, w) out in a grid, row by row: (H, W, 3)."""
    blank = images.new_zeros(-len(images) % columns, *images.shape[1:])
    grid = torch.cat([images, blank]).reshape(-1, columns, *images.shape[1:])
    return grid.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).contiguous()
