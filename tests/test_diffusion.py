"""Previews: the clean-image estimate, demand, isolation, and that the result is not touched."""

import base64
import copy
import functools
import gc
import io
import logging
import math
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageChops, ImageStat
from tests import tiny_pipelines
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.waiting import WAIT_S

from streamapp import App, endpoint
from streamapp.diffusion import Previews, PreviewStatistics
from streamapp.errors import Cancelled, ErrorReport
from streamapp.jobs.channel import Channel
from streamapp.jobs.stream import Stream
from streamapp.settings import Settings
from streamapp.testing import FakePipeline, TestClient

# diffusers' schedulers hand torch tensors to numpy 2 in a way that numpy warns about.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`callback_steps` is deprecated:FutureWarning"),  # Kandinsky's own call
]

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
]
CUDA = DEVICES[1:]
SCHEDULERS = ["EulerDiscrete", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep", "DDIM", "LCM"]


class Watched(Stream):
    """A job's stream with a reader that takes every event at once, and cancels the job at a step of its choice."""

    def __init__(self, *, cancel_at: int | None = None) -> None:
        self.channel = Channel(Settings())
        self.events: list[tuple[str, Any]] = []
        self.cancel_at = cancel_at
        self.last_n = 0
        self.lock = threading.Lock()  # on CUDA previews come from a thread of their own
        super().__init__(self.channel, "0" * 32)
        self.take()

    def emit(self, payload: Any, *, event: str | None = None) -> None:
        super().emit(payload, event=event)
        self.take()

    def take(self) -> None:
        with self.lock:
            for event in self.channel.events(after=self.last_n, shows_previews=True):
                self.events.append((event.kind, event.json()))
                self.last_n = event.n
                if event.kind == "progress" and event.json()["step"] == self.cancel_at:
                    self.channel.cancel(ErrorReport(499, "cancelled", "by a reader"))

    def of(self, kind: str) -> list[Any]:
        return [data for name, data in self.events if name == kind]


class Decoder(torch.nn.Module):
    """A decoder in the manner of `AutoencoderTiny` that keeps what it is given, and can fail."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.error = error
        self.seen: list[torch.Tensor] = []

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> tuple[torch.Tensor]:
        if self.error is not None:
            raise self.error
        self.seen.append(latents)
        batch, _, height, width = latents.shape
        shades = torch.linspace(-1, 1, batch, device=latents.device).reshape(-1, 1, 1, 1)
        return (shades.expand(batch, 3, height * 8, width * 8),)


class SlowDecoder(Decoder):
    """A decoder that shows the latents themselves, after some cycles of the GPU."""

    cycles = 0

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> tuple[torch.Tensor]:
        if self.cycles:
            torch.cuda._sleep(self.cycles)  # type: ignore[no-untyped-call]
        return (torch.nn.functional.interpolate(latents[:, :3], scale_factor=8),)


def picture(preview: dict[str, Any]) -> Image.Image:
    """Decode the JPEG of a preview as it travels."""
    return Image.open(io.BytesIO(base64.b64decode(preview["image"]["url"].partition(",")[2])))


def scheduler(name: str, **config: Any) -> Any:
    return getattr(diffusers, f"{name}Scheduler")(**config)


@pytest.fixture(scope="session")
def vae() -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        force_upcast=False,
    ).eval()


@pytest.fixture(scope="session")
def tiny_vae() -> AutoencoderTiny:
    torch.manual_seed(2)
    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
    ).eval()


@pytest.fixture(scope="session")
def sdxl(vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """A pipeline of SDXL's structure with random weights; images of 64x64."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=8 + 6 * 8,
    )
    nothing: dict[str, Any] = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = StableDiffusionXLPipeline(vae=vae, unet=unet, scheduler=scheduler("EulerDiscrete"), **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def flux(vae: AutoencoderKL) -> FluxPipeline:
    """A pipeline of Flux' structure with random weights."""
    torch.manual_seed(0)
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(2, 2, 4),
    )
    nothing: dict[str, Any] = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = FluxPipeline(scheduler("FlowMatchEulerDiscrete"), vae, transformer=transformer, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(
    pipe: Any, *, seed: int = 0, steps: int = 4, size: tuple[int, int] | None = (64, 64), **more: Any
) -> torch.Tensor:
    """Run a pipeline and return the final latents."""
    embeds = torch.linspace(-1, 1, 24).reshape(1, 3, 8).to(pipe.device, pipe.dtype)
    arguments: dict[str, Any] = {"prompt_embeds": embeds, "pooled_prompt_embeds": embeds[:, 0]}
    if size is not None:
        arguments |= {"width": size[0], "height": size[1]}
    if not isinstance(pipe, FluxPipeline):
        arguments |= {"negative_prompt_embeds": -embeds, "negative_pooled_prompt_embeds": -embeds[:, 0]}
    latents: torch.Tensor = pipe(
        **arguments,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(seed),
        output_type="latent",
        **more,
    ).images
    return latents


def on(device: str, module: Any, *dtype: torch.dtype) -> Any:
    """Return a copy of a pipeline or a decoder that is there, and of another precision."""
    return copy.deepcopy(module).to(device, *dtype)


def with_scheduler(pipe: Any, name: str) -> Any:
    pipe = copy.copy(pipe)
    pipe.scheduler = scheduler(name)
    return pipe


def denoise(pipe: Any, predict: Any = None, steps: int = 5) -> torch.Tensor:
    """Run a scheduler by hand, as the loops of pipelines do."""
    pipe.scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 8, 8, generator=generator) * getattr(pipe.scheduler, "init_noise_sigma", 1.0)
    for index, timestep in enumerate(pipe.scheduler.timesteps):
        if hasattr(pipe.scheduler, "scale_model_input"):
            pipe.scheduler.scale_model_input(latents, timestep)
        predicted = latents * 0.1 if predict is None else predict(pipe.scheduler, latents, index)
        latents = pipe.scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    return latents


def perfect_model(clean: torch.Tensor, kind: str) -> Any:
    """Return a model that knows the clean image and predicts, from it, what the scheduler asks for."""

    def predict(scheduler: Any, latents: torch.Tensor, index: int) -> torch.Tensor:
        alpha, sigma = coefficients(scheduler, index)
        noise = (latents - alpha * clean) / sigma
        norm = (alpha**2 + sigma**2) ** 0.5
        predictions = {
            "epsilon": noise,
            "v_prediction": (alpha * noise - sigma * clean) / norm,
            "flow_prediction": noise - clean,
            "sample": clean,
        }
        return predictions[kind]

    return predict


def coefficients(scheduler: Any, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how much of the image and of the noise the scheduler mixes at a step, by its own `add_noise`."""
    zero, one = torch.zeros(1), torch.ones(1)
    if "FlowMatch" in type(scheduler).__name__:
        return 1 - scheduler.sigmas[index], scheduler.sigmas[index]
    if hasattr(scheduler, "sigmas") and not hasattr(scheduler, "_sigma_to_alpha_sigma_t"):  # Euler and its kin
        return one, scheduler.sigmas[index]
    timestep = scheduler.timesteps[index : index + 1]
    return scheduler.add_noise(one, zero, timestep), scheduler.add_noise(zero, one, timestep)


# What is shown


@pytest.mark.parametrize(
    ("name", "prediction"),
    [
        (name, prediction)
        for name in [*SCHEDULERS, "HeunDiscrete", "DEISMultistep", "PNDM", "TCD"]
        for prediction in ["epsilon", "v_prediction", "sample"]
        if prediction != "sample" or name not in ("EulerAncestralDiscrete", "PNDM")  # which do not know it
    ],
)
def test_the_estimate_of_a_perfect_model_is_the_clean_image(name: str, prediction: str) -> None:
    config = {"clip_sample": False} if name in ("DDIM", "LCM", "HeunDiscrete") else {}
    assert_estimates_are_clean(scheduler(name, prediction_type=prediction, **config), prediction)


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"])
def test_the_estimate_of_a_perfect_flow_is_the_clean_image(name: str) -> None:
    assert_estimates_are_clean(scheduler(name), "flow_prediction")


def assert_estimates_are_clean(scheduler: Any, prediction: str) -> None:
    clean = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    decoder = Decoder()
    with Previews(SimpleNamespace(scheduler=scheduler), decoder, max_fps=math.inf).to(Watched()) as pipe:
        denoise(pipe, perfect_model(clean, prediction))
    assert len(decoder.seen) == len(pipe.scheduler.timesteps)
    for seen in decoder.seen:
        torch.testing.assert_close(seen, clean, rtol=0, atol=1e-4)


def test_the_estimate_of_dpm_solver_is_what_the_solver_computed() -> None:
    decoder, computed = Decoder(), []

    def predict(scheduler: Any, latents: torch.Tensor, index: int) -> torch.Tensor:
        computed.append(scheduler.model_outputs[-1])
        return latents.tanh()

    previews = Previews(SimpleNamespace(scheduler=scheduler("DPMSolverMultistep")), decoder, max_fps=math.inf)
    with previews.to(Watched()) as pipe:
        denoise(pipe, predict)
    for seen, expected in zip(decoder.seen, computed[1:], strict=False):
        assert torch.equal(seen, expected)


def test_edm_schedulers_precondition_the_estimate() -> None:
    decoder = Decoder()
    previews = Previews(SimpleNamespace(scheduler=scheduler("EDMDPMSolverMultistep")), decoder, max_fps=math.inf)
    with previews.to(Watched()) as pipe:
        denoise(pipe)
    assert torch.equal(decoder.seen[-1], pipe.scheduler.model_outputs[-1])


def test_an_unknown_scheduler_shows_the_latents_of_its_steps() -> None:
    decoder = Decoder()
    previews = Previews(SimpleNamespace(scheduler=scheduler("IPNDM")), decoder, max_fps=math.inf)
    with previews.to(Watched()) as pipe:
        latents = denoise(pipe)
    assert torch.equal(decoder.seen[-1], latents)


def test_every_step_sends_progress_and_a_preview(sdxl: Any, tiny_vae: AutoencoderTiny) -> None:
    stream = Watched()
    with Previews(sdxl, tiny_vae, max_fps=math.inf).to(stream) as pipe:
        draw(pipe)
    assert stream.of("progress") == [{"step": n, "total": 4} for n in (1, 2, 3, 4)]
    last = stream.of("preview")[-1]
    assert picture(last).size == (64, 64)
    assert picture(last).format == "JPEG"
    assert {name: last[name] for name in last.keys() - {"image"}} == {
        "step": 4,
        "total": 4,
        "width": 64,
        "height": 64,
        "method": "tiny_vae",
    }


def test_the_last_preview_is_the_final_image_by_the_small_decoder(sdxl: Any, tiny_vae: AutoencoderTiny) -> None:
    stream = Watched()
    with Previews(sdxl, tiny_vae, max_fps=math.inf, quality=95).to(stream) as pipe:
        latents = draw(pipe)
    with torch.no_grad():
        image = pipe.image_processor.postprocess(tiny_vae.decode(latents).sample)[0]
    difference = ImageChops.difference(picture(stream.of("preview")[-1]), image)
    assert max(ImageStat.Stat(difference).mean) < 3


def test_a_preview_is_no_larger_than_size(sdxl: Any, tiny_vae: AutoencoderTiny) -> None:
    stream = Watched()
    with Previews(sdxl, tiny_vae, size=48).to(stream) as pipe:
        draw(pipe, size=(96, 64))
    preview = stream.of("preview")[0]
    assert picture(preview).size == (48, 32)
    assert (preview["width"], preview["height"]) == (96, 64)


def test_a_batch_is_shown_as_a_grid_row_by_row(sdxl: Any) -> None:
    stream = Watched()
    with Previews(sdxl, Decoder()).to(stream) as pipe:
        draw(pipe, num_images_per_prompt=3)
    grid = picture(stream.of("preview")[0]).convert("L")
    centres = [grid.getpixel(place) for place in ((32, 32), (96, 32), (32, 96), (96, 96))]
    assert centres == pytest.approx([0, 128, 255, 0], abs=3)
    assert grid.size == (128, 128)


def test_latents_packed_by_flux_are_unpacked_to_the_size_of_the_job(flux: Any, tiny_vae: AutoencoderTiny) -> None:
    stream = Watched()
    with Previews(flux, tiny_vae).to(stream) as pipe:
        draw(pipe, size=(96, 32))
    assert picture(stream.of("preview")[0]).size == (96, 32)


@pytest.mark.parametrize("device", DEVICES)
def test_without_a_small_decoder_colours_are_fitted_to_the_pipelines_own(sdxl: Any, device: str) -> None:
    stream = Watched()
    with Previews(on(device, sdxl)).to(stream) as pipe:
        draw(pipe)
    assert stream.of("preview")[0]["method"] == "latent_rgb"
    assert picture(stream.of("preview")[0]).size == (64, 64)


def test_fitted_colours_come_close_to_those_of_the_pipelines_decoder(sdxl: Any, vae: Any) -> None:
    patches = torch.randn(8, 4, 2, 2, generator=torch.Generator().manual_seed(9)).repeat_interleave(4, 2)
    latents = patches.repeat_interleave(4, 3)
    with torch.no_grad():
        fitted, exact = Previews(sdxl)._vae.decode(latents)[0], vae.decode(latents / vae.config.scaling_factor).sample
    blurred, expected = (torch.nn.functional.avg_pool2d(images, 8) for images in (fitted, exact))
    assert (blurred - expected).std() < 0.8 * expected.std()  # of a random, far from linear, decoder


def test_without_any_decoder_there_is_progress_only() -> None:
    stream = Watched()
    with Previews(SimpleNamespace(scheduler=scheduler("EulerDiscrete"))).to(stream) as pipe:
        denoise(pipe)
    assert len(stream.of("progress")) == 5
    assert stream.of("preview") == []


def test_a_small_decoder_is_loaded_from_a_folder(sdxl: Any, tiny_vae: AutoencoderTiny, tmp_path: Any) -> None:
    tiny_vae.save_pretrained(tmp_path)
    stream = Watched()
    with Previews(sdxl, str(tmp_path)).to(stream) as pipe:
        draw(pipe)
    assert stream.of("preview")[0]["method"] == "tiny_vae"


# How steps are counted


def counted(stream: Watched) -> list[tuple[int, int]]:
    return [(progress["step"], progress["total"]) for progress in stream.of("progress")]


@pytest.mark.parametrize(
    "name", ["HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "PNDM", "DPMSolverSinglestep", "DDPM"]
)
def test_steps_are_those_that_were_asked_for_however_often_each_calls_the_scheduler(sdxl: Any, name: str) -> None:
    stream = Watched()
    with Previews(with_scheduler(sdxl, name), Decoder()).to(stream) as pipe:
        draw(pipe)
    assert counted(stream) == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("name", ["EulerDiscrete", "HeunDiscrete"])
def test_a_pipeline_that_ends_early_ends_with_its_last_step(sdxl: Any, name: str) -> None:
    stream = Watched()
    with Previews(with_scheduler(sdxl, name), Decoder()).to(stream) as pipe:
        draw(pipe, steps=8, denoising_end=0.5)
    assert counted(stream) == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("name", ["DDIM", "HeunDiscrete", "PNDM"])
def test_an_image_to_begin_with_shortens_the_count(sdxl: Any, name: str) -> None:
    stream = Watched()
    pipe = StableDiffusionXLImg2ImgPipeline(**{**sdxl.components, "scheduler": scheduler(name)})
    pipe.set_progress_bar_config(disable=True)
    with Previews(pipe, Decoder()).to(stream) as pipe:
        draw(pipe, steps=8, image=torch.zeros(1, 4, 8, 8), strength=0.5, size=None)
    steps = [step for step, _ in counted(stream)]
    assert counted(stream)[-1][0] == counted(stream)[-1][1]
    assert steps == [*range(1, len(steps) + 1)]


def test_a_second_call_of_the_pipeline_counts_from_one(sdxl: Any) -> None:
    stream = Watched()
    with Previews(sdxl, Decoder()).to(stream) as pipe:
        draw(pipe, steps=2)
        draw(pipe, steps=3)
    assert counted(stream) == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]


def test_a_call_after_an_interrupted_one_counts_from_one(sdxl: Any) -> None:
    def interrupt(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == 1
        return kwargs

    stream = Watched()
    with Previews(sdxl, Decoder()).to(stream) as pipe:
        draw(pipe, steps=4, callback_on_step_end=interrupt)
        draw(pipe, steps=2)
    assert counted(stream) == [(1, 4), (2, 4), (1, 2), (2, 2)]


def test_a_call_after_a_failed_one_counts_from_one(sdxl: Any) -> None:
    def fail(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("no memory")

    stream = Watched()
    with Previews(sdxl, Decoder()).to(stream) as pipe:
        with pytest.raises(RuntimeError, match="no memory"):
            draw(pipe, callback_on_step_end=fail)
        draw(pipe)
    assert counted(stream) == [(1, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_loop_that_uses_its_timesteps_again_counts_from_one() -> None:
    stream = Watched()
    with Previews(SimpleNamespace(scheduler=scheduler("DDIM"))).to(stream) as pipe:
        pipe.scheduler.set_timesteps(2)
        for timestep in [*pipe.scheduler.timesteps] * 2:
            pipe.scheduler.step(torch.zeros(1, 4, 8, 8), timestep, torch.zeros(1, 4, 8, 8))
    assert counted(stream) == [(1, 2), (2, 2), (1, 2), (2, 2)]


# Pipelines of other shapes


def test_a_pipeline_that_copies_its_scheduler_gives_what_it_gives_alone() -> None:
    """LTX-2 steps its sound by a copy."""
    plain, stream = tiny_pipelines.ltx2(), Watched()
    with Previews(plain, Decoder()).to(stream) as pipe:
        watched = tiny_pipelines.draw_ltx2(pipe)
    for one, other in zip(watched, tiny_pipelines.draw_ltx2(plain), strict=True):
        assert torch.equal(one, other)
    assert counted(stream) == [(1, 3), (2, 3), (3, 3)]
    assert stream.of("preview") == []  # a video's latents lie in no plane


COMBINED = ["kandinsky", "stable_cascade", "wuerstchen"]


@pytest.fixture(scope="module")
def combined() -> Callable[[str], Any]:
    return functools.cache(lambda name: getattr(tiny_pipelines, name)())


@pytest.mark.parametrize("name", COMBINED)
def test_the_parts_of_a_combined_pipeline_are_counted_each_with_its_name(combined: Any, name: str) -> None:
    stream = Watched()
    with Previews(combined(name), Decoder()).to(stream) as pipe:
        tiny_pipelines.draw_combined(pipe)
    assert [(p["message"], p["step"], p["total"]) for p in stream.of("progress")] == [
        *(("prior", 1, 2), ("prior", 2, 2)),
        *(("decoder", 1, 3), ("decoder", 2, 3), ("decoder", 3, 3)),
    ]


@pytest.mark.parametrize("name", COMBINED)
def test_a_combined_pipeline_shows_the_latents_of_its_decoder(combined: Any, name: str) -> None:
    stream = Watched()
    previews = Previews(combined(name), max_fps=math.inf)
    with previews.to(stream) as pipe:
        image = tiny_pipelines.draw_combined(pipe)
    shown = [(p["step"], p["total"], p["method"], p["width"], p["height"]) for p in stream.of("preview")]
    height, width = image.shape[1:3]
    assert shown == [(step, 3, "latent_rgb", width, height) for step in (1, 2, 3)]
    assert previews.statistics().failed == 0


@pytest.mark.parametrize("name", COMBINED)
def test_a_combined_pipeline_draws_what_it_draws_alone(combined: Any, name: str) -> None:
    with Previews(combined(name)).to(Watched()) as pipe:
        watched = tiny_pipelines.draw_combined(pipe)
    assert (watched == tiny_pipelines.draw_combined(combined(name))).all()


@pytest.mark.parametrize("name", COMBINED)
@pytest.mark.parametrize("part", ["prior", "decoder"])
def test_a_cancelled_job_leaves_a_combined_pipeline_in_either_part(combined: Any, name: str, part: str) -> None:
    stream = Watched(cancel_at=2 if part == "prior" else 3)
    with pytest.raises(Cancelled), Previews(combined(name)).to(stream) as pipe:
        tiny_pipelines.draw_combined(pipe)
    assert stream.of("progress")[-1]["message"] == part


@pytest.mark.parametrize("shares", [True, False], ids=["one scheduler", "two schedulers"])
def test_an_object_that_calls_two_pipelines_is_followed_in_both(sdxl: Any, shares: bool) -> None:
    stream = Watched()
    again = copy.copy(sdxl) if shares else with_scheduler(sdxl, "DDIM")
    with Previews(SimpleNamespace(base=sdxl, again=again), Decoder()).to(stream) as pipes:
        draw(pipes.base, steps=1)
        draw(pipes.again, steps=2)
    assert [(p["message"], p["step"], p["total"]) for p in stream.of("progress")] == [
        *(("base", 1, 1), ("again", 1, 2), ("again", 2, 2))
    ]
    assert stream.of("preview")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("DDIM", {}), ("HeunDiscrete", {}), ("EulerDiscrete", {"view_batch_size": 2})),
        *(("DPMSolverMultistep", {"num_images_per_prompt": 2}), ("DDIM", {"circular_padding": True})),
    ],
    ids=str,
)
def test_a_panorama_is_shown_whole_and_counted_by_its_steps(sdxl: Any, name: str, options: dict[str, Any]) -> None:
    stream, decoder = Watched(), Decoder()
    plain = tiny_pipelines.panorama(sdxl.vae, scheduler(name))
    previews = Previews(plain, decoder, max_fps=math.inf, size=2048)
    with previews.to(stream) as pipe:
        latents = tiny_pipelines.draw_panorama(pipe, **options)
    assert counted(stream) == [(1, 2), (2, 2)]
    assert {(p["width"], p["height"]) for p in stream.of("preview")} == {(576 * len(latents), 512)}
    torch.testing.assert_close(decoder.seen[-1], latents)  # its last clean estimate is its result
    assert torch.equal(latents, tiny_pipelines.draw_panorama(plain, **options))


def test_a_callback_on_a_panorama_shows_it_whole(sdxl: Any) -> None:
    stream = Watched()
    pipe = tiny_pipelines.panorama(sdxl.vae, scheduler("DDIM"))
    tiny_pipelines.draw_panorama(pipe, callback_on_step_end=Previews(pipe, Decoder()).callback(stream))
    assert {(p["width"], p["height"]) for p in stream.of("preview")} == {(576, 512)}


@pytest.mark.parametrize("channels", [1, 3])
def test_a_pipeline_without_a_decoder_shows_its_pixels(channels: int) -> None:
    stream = Watched()
    with Previews(tiny_pipelines.ddpm(channels), max_fps=math.inf, quality=95).to(stream) as pipe:
        images = tiny_pipelines.draw_pixels(pipe)
    last = stream.of("preview")[-1]
    assert counted(stream) == [(1, 3), (2, 3), (3, 3)]
    assert (last["method"], last["width"], last["height"]) == ("pixels", 16, 16)
    finished = Image.fromarray((images[0] * 255).round().astype("uint8").squeeze()).convert("L")
    assert ImageStat.Stat(ImageChops.difference(picture(last).convert("L"), finished)).mean[0] < 12  # of noise, as JPEG


def test_stages_that_compute_pixels_show_them_beside_one_that_has_a_decoder(sdxl: Any) -> None:
    """DeepFloyd IF enlarges the pixels of its first stage by a second one."""
    stream = Watched()
    stages = SimpleNamespace(base=sdxl, enlarge=tiny_pipelines.ddpm(3))
    with Previews(stages, Decoder(), max_fps=math.inf).to(stream) as lent:
        draw(lent.base, steps=1)
        tiny_pipelines.draw_pixels(lent.enlarge)
    assert [p["method"] for p in stream.of("preview")] == ["tiny_vae", "pixels", "pixels", "pixels"]


def test_a_modular_pipeline_is_followed(sdxl: Any) -> None:
    stream = Watched()
    previews = Previews(tiny_pipelines.modular(sdxl), Decoder(), max_fps=math.inf)
    with previews.to(stream) as pipe:
        watched = tiny_pipelines.draw_modular(pipe)
    assert counted(stream) == [(1, 3), (2, 3), (3, 3)]
    assert len(stream.of("preview")) == 3
    assert torch.equal(watched, tiny_pipelines.draw_modular(previews.pipe))


def test_a_score_based_pipeline_shows_its_pixels() -> None:
    stream = Watched()
    with Previews(tiny_pipelines.score_based(), max_fps=math.inf).to(stream) as pipe:
        tiny_pipelines.draw_pixels(pipe)
    assert counted(stream) == [(1, 3), (2, 3), (3, 3)]
    assert {p["method"] for p in stream.of("preview")} == {"pixels"}


def test_latents_of_many_channels_that_nothing_decodes_are_no_picture(combined: Any) -> None:
    stream = Watched()
    with Previews(combined("stable_cascade").prior_pipe).to(stream) as pipe:
        pipe("a", num_inference_steps=2, height=128, width=128)
    assert counted(stream) == [(1, 2), (2, 2)]
    assert stream.of("preview") == []


def test_the_spectrogram_of_a_sound_is_no_picture(sdxl: Any) -> None:
    stream = Watched()
    vae = AutoencoderKL(in_channels=1, out_channels=1, block_out_channels=(8,), norm_num_groups=4)
    with Previews(SimpleNamespace(scheduler=scheduler("DDIM"), vae=vae)).to(stream) as pipe:
        denoise(pipe)
    assert len(counted(stream)) == 5
    assert stream.of("preview") == []


@pytest.mark.parametrize("shape", [(1, 4, 2, 8, 8), (1, 64, 4), (1, 16)], ids=["video", "sound", "embedding"])
def test_latents_in_no_plane_are_counted_and_not_shown(
    shape: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    stream = Watched()
    with Previews(SimpleNamespace(scheduler=scheduler("DDIM")), Decoder()).to(stream) as pipe:
        pipe.scheduler.set_timesteps(2)
        for timestep in pipe.scheduler.timesteps:
            pipe.scheduler.step(torch.zeros(shape), timestep, torch.zeros(shape))
    assert counted(stream) == [(1, 2), (2, 2)]
    assert stream.of("preview") == []
    assert caplog.records == []


def test_packed_latents_that_unpack_to_frames_are_not_shown(flux: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Qwen-Image counts its one frame."""
    frames = copy.copy(flux)
    unpack = flux._unpack_latents
    frames._unpack_latents = lambda latents, height, width, vae_scale_factor: unpack(
        latents, height, width, vae_scale_factor
    ).unsqueeze(2)
    with Previews(frames, Decoder()).to(stream := Watched()) as pipe:
        draw(pipe)
    assert len(counted(stream)) == 4
    assert stream.of("preview") == []
    assert caplog.records == []


@pytest.mark.parametrize("cancel_at", [None, 2])
def test_a_pipeline_that_steps_copies_alone_is_followed_by_its_progress_bar(cancel_at: int | None) -> None:
    """SkyReels gives each frame a copy of the scheduler."""
    stream = Watched(cancel_at=cancel_at)
    with suppress(Cancelled), Previews(CopyingPipeline()).to(stream) as pipe:
        pipe(3)
    assert counted(stream) == [(step, 3) for step in range(1, (cancel_at or 3) + 1)]


class CopyingPipeline(diffusers.DiffusionPipeline):  # type: ignore[misc]
    """A pipeline that never steps the scheduler that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.register_modules(scheduler=scheduler("EulerDiscrete"))
        self.set_progress_bar_config(disable=True)

    def __call__(self, steps: int) -> None:
        mine = copy.deepcopy(self.scheduler)
        mine.set_timesteps(steps)
        with self.progress_bar(total=steps) as bar:
            for timestep in mine.timesteps:
                mine.step(torch.zeros(1, 4, 8, 8), timestep, torch.zeros(1, 4, 8, 8))
                bar.update()


def test_a_scheduler_that_returns_a_pair_whatever_it_is_asked_for_gives_it() -> None:
    """CogVideoX' DPM scheduler ignores `return_dict` in its first step."""
    stream, pipe = Watched(), SimpleNamespace(scheduler=diffusers.CogVideoXDPMScheduler())
    with Previews(pipe, Decoder()).to(stream) as pipe:
        pipe.scheduler.set_timesteps(2)
        latents = torch.zeros(1, 4, 8, 8)
        timestep = pipe.scheduler.timesteps[0]
        pair = pipe.scheduler.step(latents, None, timestep, None, latents, return_dict=False)
    assert isinstance(pair, tuple)
    assert stream.of("preview")


def test_a_fake_pipeline_is_counted() -> None:
    stream = Watched()
    with Previews(FakePipeline(steps=3)).to(stream) as pipe:
        pipe("a")
    assert counted(stream) == [(1, 3), (2, 3), (3, 3)]
    assert stream.of("preview") == []


# That nothing was seen is said


def test_a_block_in_which_no_step_was_seen_says_so_once(sdxl: Any, caplog: pytest.LogCaptureFixture) -> None:
    previews = Previews(sdxl, Decoder())
    for _ in range(2):
        with previews.to(Watched()):
            draw(sdxl, steps=1)  # the shared pipeline instead of the one that was lent
    (record,) = caplog.records
    assert "StableDiffusionXLPipeline (scheduler: EulerDiscreteScheduler)" in record.getMessage()
    assert "Call the pipeline that the block lends" in record.getMessage()


def test_a_pipeline_without_a_scheduler_is_lent_and_said_to_be_unseen(caplog: pytest.LogCaptureFixture) -> None:
    with Previews(SimpleNamespace(model=1)).to(Watched()) as pipe:
        assert pipe.model == 1
    assert "SimpleNamespace (scheduler: none)" in caplog.text


def test_a_block_that_raises_says_nothing_else(sdxl: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError), Previews(sdxl, Decoder()).to(Watched()):
        raise KeyError("prompt")
    assert caplog.records == []


# When it is shown


def test_nothing_is_decoded_while_nobody_watches(sdxl: Any) -> None:
    previews = Previews(sdxl, Decoder(), max_fps=math.inf)
    with previews.to(Stream(Channel(Settings()), "0" * 32)) as pipe:
        draw(pipe)
    assert previews.statistics() == PreviewStatistics(decoded=0, skipped=4, failed=0)


def test_nothing_is_decoded_while_the_last_preview_is_unread(sdxl: Any) -> None:
    previews = Previews(sdxl, Decoder(), max_fps=math.inf)
    channel = Channel(Settings())
    channel.events(shows_previews=True)
    with previews.to(Stream(channel, "0" * 32)) as pipe:
        draw(pipe)
    assert previews.statistics() == PreviewStatistics(decoded=1, skipped=3, failed=0)


def test_max_fps_bounds_the_previews_of_a_job(sdxl: Any) -> None:
    previews = Previews(sdxl, Decoder(), max_fps=0.001)
    with previews.to(Watched()) as pipe:
        draw(pipe)
    assert previews.statistics().decoded == 1


def test_every_shows_the_first_step_and_then_every_nth(sdxl: Any) -> None:
    stream = Watched()
    with Previews(sdxl, Decoder(), every=2, max_fps=math.inf).to(stream) as pipe:
        draw(pipe, steps=5)
    assert [preview["step"] for preview in stream.of("preview")] == [1, 3, 5]


# What is not touched


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_result_is_identical_with_and_without_previews(
    sdxl: Any, tiny_vae: AutoencoderTiny, name: str, device: str
) -> None:
    plain = with_scheduler(on(device, sdxl), name)
    assert_result_is_identical(plain, on(device, tiny_vae), eta=0.5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_the_result_in_half_precision_is_identical_with_and_without_previews(
    sdxl: Any, tiny_vae: AutoencoderTiny, dtype: torch.dtype, device: str
) -> None:
    assert_result_is_identical(on(device, sdxl, dtype), on(device, tiny_vae, dtype))


@pytest.mark.parametrize("device", DEVICES)
def test_the_result_of_flux_is_identical_with_and_without_previews(
    flux: Any, tiny_vae: AutoencoderTiny, device: str
) -> None:
    assert_result_is_identical(on(device, flux), on(device, tiny_vae))


def assert_result_is_identical(plain: Any, decoder: Any, **more: Any) -> None:
    stream = Watched()
    previews = Previews(plain, decoder, max_fps=math.inf)
    with previews.to(stream) as pipe:
        watched = draw(pipe, **more)
    assert torch.equal(watched, draw(plain, **more))
    assert stream.of("preview")
    assert previews.statistics().failed == 0


@pytest.mark.parametrize("name", ["EulerAncestralDiscrete", "LCM"])
def test_the_seed_decides_the_noise_of_every_step(sdxl: Any, name: str) -> None:
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    results = []
    for seed in (1, 1, 2):
        with Previews(with_scheduler(sdxl, name), Decoder()).to(Watched()) as pipe:
            results.append(draw(pipe, seed=seed, latents=start))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_jobs_in_two_threads_get_the_results_that_they_get_alone(sdxl: Any, tiny_vae: AutoencoderTiny) -> None:
    previews = Previews(with_scheduler(sdxl, "DPMSolverMultistep"), tiny_vae, max_fps=math.inf)
    together, barrier = {}, threading.Barrier(2, timeout=WAIT_S)

    def job(steps: int) -> None:
        with previews.to(Watched()) as pipe:
            barrier.wait()
            together[steps] = draw(pipe, steps=steps)

    threads = [threading.Thread(target=job, args=(steps,)) for steps in (5, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    for steps in (5, 8):
        assert torch.equal(together[steps], draw(previews.pipe, steps=steps))


def test_a_pipeline_that_raises_leaves_the_shared_one_as_it_was(sdxl: Any) -> None:
    before = dict(vars(sdxl))
    with pytest.raises(ValueError, match="divisible by 8"), Previews(sdxl, Decoder()).to(Watched()) as pipe:
        draw(pipe, size=(63, 64))
    assert vars(sdxl) == before
    assert type(sdxl.scheduler) is diffusers.EulerDiscreteScheduler


def test_nothing_of_a_job_outlives_it(sdxl: Any, request: pytest.FixtureRequest) -> None:
    gc.disable()  # the reference count alone has to free it
    request.addfinalizer(gc.enable)
    with Previews(sdxl, Decoder()).to(Watched()) as pipe:
        draw(pipe)
        draw(pipe)  # again, with another progress bar
    traces = [weakref.ref(pipe), weakref.ref(pipe.scheduler)]
    del pipe
    assert [trace() for trace in traces] == [None, None]


def test_nothing_of_a_job_of_a_combined_pipeline_outlives_it(combined: Any, request: pytest.FixtureRequest) -> None:
    whole = combined("stable_cascade")
    gc.disable()  # as above
    request.addfinalizer(gc.enable)
    with Previews(whole, Decoder()).to(Watched()) as pipe:
        tiny_pipelines.draw_combined(pipe)
    traces = [weakref.ref(one) for one in (pipe, pipe.decoder_pipe, pipe.decoder_pipe.scheduler)]
    del pipe
    assert [trace() for trace in traces] == [None, None, None]


def test_after_the_block_the_copy_reports_nothing(sdxl: Any) -> None:
    stream = Watched()
    with Previews(sdxl, Decoder()).to(stream) as pipe:
        pass
    draw(pipe)
    assert stream.events == []


@pytest.mark.parametrize("device", DEVICES)
def test_a_cancelled_job_leaves_before_its_next_step(sdxl: Any, device: str) -> None:
    calls: list[int] = []
    plain = on(device, sdxl)
    plain.unet.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(Cancelled), Previews(plain, on(device, Decoder())).to(Watched(cancel_at=2)) as pipe:
        draw(pipe)
    assert len(calls) == 2


@pytest.mark.parametrize("device", DEVICES)
def test_a_failing_decoder_is_logged_once_and_the_job_goes_on(
    sdxl: Any, caplog: pytest.LogCaptureFixture, device: str
) -> None:
    stream = Watched()
    previews = Previews(on(device, sdxl), on(device, Decoder(RuntimeError("no memory"))), max_fps=math.inf)
    with caplog.at_level(logging.WARNING, "streamapp"), previews.to(stream) as pipe:
        draw(pipe)
    assert len(caplog.records) == 1
    assert len(stream.of("progress")) == 4
    assert previews.statistics() == PreviewStatistics(decoded=0, skipped=3, failed=1)


# As a plain callback


def test_a_callback_shows_what_the_copy_shows(sdxl: Any, tiny_vae: AutoencoderTiny) -> None:
    previews = Previews(with_scheduler(sdxl, "DPMSolverMultistep"), tiny_vae, max_fps=math.inf)
    by_copy, by_callback = Watched(), Watched()
    with previews.to(by_copy) as pipe:
        latents = draw(pipe)
    assert torch.equal(latents, draw(previews.pipe, callback_on_step_end=previews.callback(by_callback)))
    assert by_callback.events == by_copy.events


def test_a_callback_counts_the_steps_that_were_asked_for(sdxl: Any) -> None:
    stream = Watched()
    previews = Previews(with_scheduler(sdxl, "HeunDiscrete"), Decoder())
    draw(previews.pipe, callback_on_step_end=previews.callback(stream))
    assert counted(stream) == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_callback_that_is_given_no_latents_shows_progress_only(sdxl: Any) -> None:
    stream = Watched()
    previews = Previews(with_scheduler(sdxl, "EulerDiscrete"), Decoder())
    draw(previews.pipe, callback_on_step_end=previews.callback(stream), callback_on_step_end_tensor_inputs=[])
    assert len(counted(stream)) == 4
    assert stream.of("preview") == []


def test_a_second_callback_takes_the_place_of_the_first(sdxl: Any) -> None:
    previews = Previews(with_scheduler(sdxl, "EulerDiscrete"), Decoder())
    first, second = Watched(cancel_at=1), Watched()
    with pytest.raises(Cancelled):
        draw(previews.pipe, callback_on_step_end=previews.callback(first))
    draw(previews.pipe, callback_on_step_end=previews.callback(second))
    assert len(first.of("progress")) == 1
    assert len(second.of("progress")) == 4


def test_a_callback_on_another_scheduler_shows_the_latents_of_the_step(sdxl: Any) -> None:
    decoder = Decoder()
    previews = Previews(with_scheduler(sdxl, "EulerDiscrete"), decoder, max_fps=math.inf)
    callback = previews.callback(Watched())
    latents = draw(with_scheduler(sdxl, "EulerDiscrete"), callback_on_step_end=callback)
    assert torch.equal(decoder.seen[-1], latents)


def test_a_callback_on_flux_shows_progress_only(flux: Any, caplog: pytest.LogCaptureFixture) -> None:
    stream = Watched()
    pipe = with_scheduler(flux, "FlowMatchEulerDiscrete")
    draw(pipe, callback_on_step_end=Previews(pipe, Decoder()).callback(stream))
    assert len(stream.of("progress")) == 4
    assert stream.of("preview") == []


# Without the extra


@pytest.mark.parametrize("package", ["torch", "diffusers"])
def test_a_missing_package_names_the_extra_that_brings_it(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from streamapp.diffusion import Previews"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert run.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: streamapp.diffusion needs {package}, which an extra brings; "
        'write pip install "streamapp-server[diffusion]"'
    )


# On the GPU


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # it calls itself a prototype
@pytest.mark.parametrize("device", CUDA)
def test_the_inference_thread_never_waits_for_the_gpu(tiny_vae: AutoencoderTiny, device: str) -> None:
    stream = Watched()
    pipe = SimpleNamespace(scheduler=scheduler("EulerDiscrete"))
    previews = Previews(pipe, on(device, tiny_vae), max_fps=math.inf)
    with previews.to(stream) as pipe:
        pipe.scheduler.set_timesteps(5, device=device)
        pipe.scheduler.set_begin_index(0)  # as pipelines do; else Euler's first step asks the GPU for its index
        latents = torch.randn(1, 4, 64, 64, device=device) * pipe.scheduler.init_noise_sigma
        torch.cuda.set_sync_debug_mode("error")
        try:
            for timestep in pipe.scheduler.timesteps:
                model_input = pipe.scheduler.scale_model_input(latents, timestep)
                latents = pipe.scheduler.step(model_input * 0.1, timestep, latents, return_dict=False)[0]
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert previews.statistics().failed == 0
    assert picture(stream.of("preview")[0]).size == (512, 512)


@pytest.mark.parametrize("device", CUDA)
def test_a_preview_shows_its_step_although_the_gpu_is_behind_and_the_pipeline_writes_on(device: str) -> None:
    """With this scheduler the clean estimate is the model's output itself."""
    plain = SimpleNamespace(scheduler=scheduler("EulerDiscrete", prediction_type="sample"))
    previews, stream = Previews(plain, SlowDecoder().to(device)), Watched()
    for cycles in (0, 10**9):  # the first time is for CUDA, which loads a kernel when it is first asked for
        with previews.to(stream) as pipe:
            step = first_step(pipe, device)
            predicted = torch.ones(1, 4, 8, 8, device=device)
            torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]
            behind = torch.cuda.Event()  # type: ignore[no-untyped-call]
            behind.record()
            step(predicted)
            predicted.zero_()
            was_behind = not behind.query()  # type: ignore[no-untyped-call]
    assert was_behind
    assert min(ImageStat.Stat(picture(stream.of("preview")[-1])).mean) > 250  # white; a zero is grey


@pytest.mark.parametrize("device", CUDA)
def test_the_gpu_computes_on_while_a_preview_is_decoded(device: str) -> None:
    decoder = SlowDecoder().to(device)
    previews = Previews(SimpleNamespace(scheduler=scheduler("EulerDiscrete")), decoder)
    for cycles in (0, 10**9):  # as above
        stream, decoder.cycles = Watched(), cycles
        with previews.to(stream) as pipe:
            first_step(pipe, device)(torch.ones(1, 4, 8, 8, device=device))
            torch.cuda.current_stream().synchronize()
            shown_meanwhile = stream.of("preview")
        assert stream.of("preview")
    assert shown_meanwhile == []


def first_step(pipe: Any, device: str) -> Any:
    """Return the first step of a scheduler, ready to be done without asking the GPU for anything."""
    pipe.scheduler.set_timesteps(2, device=device)
    pipe.scheduler.set_begin_index(0)
    timestep = pipe.scheduler.timesteps[0]

    def step(predicted: torch.Tensor) -> None:
        latents = pipe.scheduler.scale_model_input(torch.ones_like(predicted), timestep)
        pipe.scheduler.step(predicted, timestep, latents, return_dict=False)

    return step


@pytest.mark.parametrize("device", DEVICES)
def test_a_job_that_fills_the_gpu_can_be_sent_again_and_leaves_no_memory_taken(
    device: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "streamapp")  # pytest keeps what is logged, and with it the failing frames
    held: list[weakref.ref[torch.Tensor]] = []

    class Hungry(App):
        @endpoint("/draw")
        def draw(self) -> None:
            latents = torch.ones(2**20, device=device)
            held.append(weakref.ref(latents))
            fill_memory(device)

        @endpoint("/look")
        def look(self) -> dict[str, bool]:
            return {"is_taken": held[0]() is not None}

    with TestClient(Hungry) as client:
        answer = client.post("/draw")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json()["error"]["code"] == "out_of_memory"
        assert answer.json()["error"]["retryable"] is True
        assert client.run("/look") == {"is_taken": False}


def fill_memory(device: str) -> None:
    if device == "cpu":  # says it otherwise
        raise torch.OutOfMemoryError("out of memory")
    torch.empty(2**50, dtype=torch.uint8, device=device)
