"""Show a diffusion pipeline's image while it is made: steps -> clean-image estimate -> small JPEG -> previews.

`Previews` belongs to the app and holds the decoder; `previews.to(stream)` lends one job a shallow copy of the pipeline
with a scheduler of its own, whose `step` is watched. That is the one place which every pipeline passes, with or
without callbacks, and the only one that knows the *clean-image estimate* (x0): what the model takes the finished image
to be. The noisy latents that `callback_on_step_end` hands out look like static for half of the steps.

The pipeline's result is not touched: its latents are bit-identical with and without previews, and a preview that fails
ends in the log, not in the job. Nothing is decoded while nobody watches.

On the CPU a preview is made in the inference thread. On CUDA that thread only queues it, on a side stream, and never
waits for the GPU; a short-lived thread waits, makes the JPEG and emits. One is under way per job at a time: together
with torch's cache of pinned memory this takes the place of a ring of buffers.

This is the one module that imports torch; it needs the extra `streamapp[diffusion]`.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import threading
import time
from collections import Counter, deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from PIL import Image as PILImage
from torch.nn import functional

from .errors import Cancelled
from .media import Image
from .process.logs import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import Tensor

    from .jobs.stream import Stream

_EXIT_TIMEOUT_S = 5.0


class PreviewStatistics(NamedTuple):
    """Count what became of the steps of all jobs."""

    #: previews decoded
    decoded: int
    #: steps without a preview: nobody watched, the last one was unread, or it was too soon
    skipped: int
    #: previews that raised; their jobs went on with progress only
    failed: int


class Previews:
    """Publish progress and previews of a diffusers pipeline's jobs.

        self.previews = Previews(self.pipe, tiny_vae="madebyollin/taesdxl")     # in setup
        with self.previews.to(stream) as pipe:                                  # in the endpoint
            image = pipe(prompt).images[0]

    A preview is `{"image", "step", "total", "width", "height", "method"}`: a JPEG, the size at which to show it (the
    finished image's; of a batch, the grid's) and how it was made, "tiny_vae" or "latent_rgb".

    Args:
        pipe: the pipeline; it stays as it is.
        tiny_vae: the small decoder of the pipeline's family: a hub id, a folder, or an `AutoencoderTiny`. None shows
            colours only, by a straight line fitted to the pipeline's own VAE; without one there is progress alone.
            SD: madebyollin/taesd, SDXL: madebyollin/taesdxl, SD3: madebyollin/taesd3, Flux: madebyollin/taef1.
        every: make a preview at most at every n-th step.
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
        self._method = "latent_rgb" if isinstance(self._vae, _LatentRgb) else "tiny_vae"
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def to(self, stream: Stream) -> Iterator[Any]:
        """Lend this job its own copy of the pipeline, which reports every step to `stream`.

        The copy shares the models and has its own scheduler, so jobs in several threads do not meet; that scheduler
        is the one that is watched, so choose it before. A cancelled job leaves the pipeline, by `Cancelled`, before
        its next step. After the block nothing more is emitted.
        """
        pipe = copy.copy(self.pipe)
        job = _Job(self, stream, pipe)
        pipe.scheduler = copy.deepcopy(self.pipe.scheduler)
        _watch(pipe.scheduler, job.on_step)
        if hasattr(pipe, "_unpack_latents"):
            job.learn_size(pipe)
        try:
            yield pipe
        finally:
            job.close()

    def callback(self, stream: Stream) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
        """Return a `callback_on_step_end` for one call of the pipeline: the same previews without a copy.

        It watches the pipeline's own scheduler, so one job at a time. Prefer `to`: it also serves concurrent jobs,
        pipelines without callbacks, and Flux, whose packed latents do not tell their height and width.
        """
        job = _Job(self, stream, self.pipe)
        seen: deque[Callable[[], Tensor]] = deque(maxlen=1)
        _watch(self.pipe.scheduler, seen.append)

        def on_step_end(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
            # Nothing was seen when the scheduler is not the one that was there before the call.
            job.on_step(seen.pop() if seen else lambda: kwargs["latents"])
            return kwargs

        return on_step_end

    def statistics(self) -> PreviewStatistics:
        """Return the counts since the start, over all jobs."""
        with self._lock:
            return PreviewStatistics(*(self._counts[name] for name in PreviewStatistics._fields))

    def _count(self, name: str) -> None:
        with self._lock:
            self._counts[name] += 1

    def _render(self, latents: Tensor) -> tuple[Tensor, int, int]:
        """Decode a batch of latents (B, C, h, w) to one picture, (H, W, 3) uint8 on their device, and its full size."""
        count, _, height, width = latents.shape
        columns = math.ceil(math.sqrt(count))
        scale = getattr(self.pipe, "vae_scale_factor", 8)
        full_width, full_height = columns * width * scale, math.ceil(count / columns) * height * scale
        shrink = min(1.0, self.size / max(full_width, full_height))
        small = functional.interpolate(latents, size=(int(height * shrink), int(width * shrink)), mode="area")
        image = self._vae.decode(small.to(next(self._vae.parameters())), return_dict=False)[0]
        pixels = image.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
        return _tile(pixels, columns), full_width, full_height


class _Job:
    """Follow the steps of one job."""

    def __init__(self, previews: Previews, stream: Stream, pipe: Any) -> None:
        self._previews = previews
        self._stream = stream
        self._pipe = pipe
        self._step = self._total = 0
        self._next_preview_at = -math.inf
        self._has_failed = False
        self._encoder: threading.Thread | None = None
        self._height_width: list[int] = []

    def on_step(self, estimate: Callable[[], Tensor]) -> None:
        """Emit the progress of a step, and its preview when one is due; raises `Cancelled` before the next step."""
        self._step = 1 if self._step == self._total else self._step + 1  # a second call of the pipeline begins anew
        self._total = getattr(self._pipe, "num_timesteps", None) or len(self._pipe.scheduler.timesteps)
        self._stream.progress(self._step, self._total)
        if self._is_due():
            self._preview(estimate)
        else:
            self._previews._count("skipped")
        self._stream.check()

    def learn_size(self, pipe: Any) -> None:
        """Note the height and width that the pipeline prepares its latents for; packed latents do not tell them."""
        prepare_latents = pipe.prepare_latents
        signature = inspect.signature(prepare_latents)

        @functools.wraps(prepare_latents)
        def prepare(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            self._height_width = [given[name] for name in ("height", "width") if name in given]
            return prepare_latents(*args, **kwargs)

        pipe.prepare_latents = prepare

    def close(self) -> None:
        """Stop watching, and wait for the preview under way."""
        vars(self._pipe.scheduler).pop("step", None)  # also a reference cycle, which would keep the job's tensors
        if self._encoder is not None:
            self._encoder.join(_EXIT_TIMEOUT_S)

    def _is_due(self) -> bool:
        previews = self._previews
        return (
            previews._vae is not None
            and not self._has_failed
            and (self._step - 1) % previews.every == 0
            and time.monotonic() >= self._next_preview_at
            and not (self._encoder is not None and self._encoder.is_alive())
            and self._stream.wants_preview()
        )

    def _preview(self, estimate: Callable[[], Tensor]) -> None:
        self._next_preview_at = time.monotonic() + 1 / self._previews.max_fps
        try:
            with torch.inference_mode():
                self._show(self._unpack(estimate()), self._step, self._total)
        except Exception:  # whatever a decoder raises: the job goes on without previews
            self._fail()

    def _unpack(self, latents: Tensor) -> Tensor:
        if latents.ndim == 3:  # Flux and its kin hold (batch, height/2 * width/2, 4 * channels)
            latents = self._pipe._unpack_latents(latents, *self._height_width, self._pipe.vae_scale_factor)
        return latents

    def _show(self, latents: Tensor, step: int, total: int) -> None:
        if latents.is_cuda:
            self._show_later(latents, step, total)
        else:
            self._publish(*self._previews._render(latents), step, total)

    def _show_later(self, latents: Tensor, step: int, total: int) -> None:  # pragma: no cover - needs CUDA; gpu tests
        """Queue the decode on a side stream and leave the waiting to a thread; never waits for the GPU."""
        latents = latents.clone()  # it may be the model's output itself, which the pipeline writes over
        side = _side_stream(latents.device)
        side.wait_stream(torch.cuda.current_stream(latents.device))
        latents.record_stream(side)
        with torch.cuda.stream(side):
            pixels, width, height = self._previews._render(latents)
            pixels = pixels.to("cpu", non_blocking=True)  # into pinned memory
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record()

        def finish() -> None:
            try:
                done.synchronize()
                self._publish(pixels, width, height, step, total)
            except Cancelled:
                return  # the inference thread meets it at its own next step
            except Exception:  # as above
                self._fail()

        self._encoder = threading.Thread(target=finish, name="streamapp-preview", daemon=True)
        self._encoder.start()

    def _publish(self, pixels: Tensor, width: int, height: int, step: int, total: int) -> None:
        self._previews._count("decoded")
        image = Image.from_pil(PILImage.fromarray(pixels.numpy()), format="JPEG", quality=self._previews.quality)
        payload = {"image": image, "width": width, "height": height, "method": self._previews._method}
        self._stream.preview(payload, step=step, total=total)

    def _fail(self) -> None:
        self._has_failed = True
        self._previews._count("failed")
        logger.warning("job %s goes on without previews: one failed", self._stream.job_id, exc_info=True)


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:  # pragma: no cover - needs CUDA; gpu tests
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _watch(scheduler: Any, on_step: Callable[[Callable[[], Tensor]], None]) -> None:
    """Call `on_step(estimate)` after each step of this scheduler, instead of who watched it before.

    `estimate()` computes the clean latents, or takes what the step handed out; call it before the next step.
    """
    vars(scheduler).pop("step", None)
    step = scheduler.step
    signature = inspect.signature(step)

    # Pipelines look into the signature of `step`: without `wraps` they would no longer pass `generator` and `eta`,
    # and Euler-a and LCM would ignore the seed.
    @functools.wraps(step)
    def watched(*args: Any, **kwargs: Any) -> Any:
        call = signature.bind(*args, **kwargs)
        wants_tuple = call.arguments.get("return_dict") is False
        if wants_tuple:  # a tuple does not name its second item: x0, or something else
            call.arguments["return_dict"] = True
        output = step(*call.args, **call.kwargs)
        on_step(lambda: _clean_estimate(scheduler, call.arguments, output))
        return output.to_tuple() if wants_tuple else output

    scheduler.step = watched


def _clean_estimate(scheduler: Any, call: Mapping[str, Any], output: Any) -> Tensor:
    """Return the clean latents (x0) that the model predicted for the step just done.

    Most schedulers hand them out (Euler, Heun, DDIM, DDPM, LCM, ...). For the others they follow from what the model
    predicts and from `sample = alpha * x0 + sigma * noise`. A scheduler of another kind gives the step's own latents.
    """
    clean: Tensor | None = getattr(output, "pred_original_sample", getattr(output, "denoised", None))
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
    latents: Tensor = output.prev_sample
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
    return "unknown", torch.ones(()), torch.zeros(())


def _load_decoder(pipe: Any, tiny_vae: str | torch.nn.Module | None) -> Any:
    if isinstance(tiny_vae, str):
        return AutoencoderTiny.from_pretrained(tiny_vae, dtype=pipe.dtype).to(pipe._execution_device)
    if tiny_vae is None and isinstance(getattr(pipe, "vae", None), AutoencoderKL):
        return _LatentRgb(pipe.vae).to(pipe._execution_device, pipe.dtype)
    return tiny_vae


class _LatentRgb(torch.nn.Module):
    """Map latents to blurred colours by one matrix, fitted by least squares to what a VAE makes of random patches."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        # A copy of its own: SDXL's overflows in half precision, and the pipeline's may be offloaded.
        full = AutoencoderKL.from_config(vae.config)
        full.load_state_dict(vae.state_dict())
        seeded = torch.Generator().manual_seed(0)
        latents = functional.interpolate(torch.randn(16, vae.config.latent_channels, 2, 2, generator=seeded), size=8)
        with torch.no_grad():
            images = full.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)).sample
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
