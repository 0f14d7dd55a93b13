"""Train the embedded text-to-image model: a latent diffusion model of SDXL's own structure, small enough for a CPU.

    python -m apps.sdxl.tiny.train --out apps/sdxl/tiny/model    # the shipped model, over an hour on two cores
    python -m apps.sdxl.tiny.train --smoke --out /tmp/smoke      # the same path in seconds, of no quality

The data are drawn by `shapes.py` while training, nothing is downloaded. Stages, each with its checkpoint in `--work`:

1. `vae`, `vae_fine`: an AutoencoderKL with factor 8. Loss: L1 + MSE + 0.5 L1 of the image gradients + KL,
   weighted 1e-3, then 1e-4. Afterwards the latents' mean and deviation are folded into its 1x1 convolutions: the
   diffusion model sees mean 0 and deviation 1, under SDXL's own scaling factor.
2. `tiny`: an AutoencoderTiny on the same latents, its decoder with noise on them, because previews are estimates.
3. `unet`: the UNet and both text encoders from scratch on cached latents; v-prediction with zero terminal SNR.

Every step draws from a generator seeded by (seed, stage, step), and the rate is constant until the last quarter: a
resumed run equals an uninterrupted one, and `--steps` may be raised as long as the cool-down has not begun.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from apps.sdxl.tiny import shapes
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDPMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import AttnProcessor
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Generator, Tensor

log = logging.getLogger("train")
Model = TypeVar("Model", bound=nn.Module)

SCALING_FACTOR = 0.13025
"""SDXL's own, so that code which forgets to divide by it shows."""
TIME_IDS = (shapes.RESOLUTION, shapes.RESOLUTION, 0, 0, shapes.RESOLUTION, shapes.RESOLUTION)
TEXT_WIDTH = 96
TOKENS = 32
CHECKPOINT_SECONDS = 60
NOISE_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
}


@dataclass(frozen=True)
class Recipe:
    """How long each stage trains, and on how much."""

    pictures: int = 4096
    vae_steps: int = 2000
    vae_fine_steps: int = 1400
    vae_batch: int = 8
    tiny_steps: int = 500
    tiny_batch: int = 12
    latents: int = 20_000
    steps: int = 5000
    batch: int = 32
    measured: int = 512
    """Pictures that statistics are taken from."""


SMOKE = Recipe(
    pictures=8,
    vae_steps=2,
    vae_fine_steps=1,
    vae_batch=2,
    tiny_steps=2,
    tiny_batch=2,
    latents=8,
    steps=2,
    batch=4,
    measured=16,
)


@dataclass(frozen=True)
class Run:
    """What all stages share."""

    recipe: Recipe
    seed: int
    device: torch.device
    work: Path

    def generator(self, stage: int, step: int) -> Generator:
        """The source of all chance in one step of one stage."""
        return torch.Generator().manual_seed((self.seed * 10 + stage) * 1_000_000 + step)

    def place(self, tensor: Tensor) -> Tensor:
        """Move a batch (item, channel, y, x) to the device, in the layout that convolutions prefer."""
        return tensor.to(self.device, memory_format=torch.channels_last)

    def autocast(self) -> torch.autocast:
        """Matrix products in bfloat16, where both CPU and GPU are fastest."""
        return torch.autocast(self.device.type, torch.bfloat16)


# --- The one training loop ---------------------------------------------------------------------------------------


def rate_factor(step: int, steps: int, warmup: int) -> float:
    """Warm up, stay, and cool down linearly over the last quarter."""
    return min(1.0, (step + 1) / warmup, 4 * (steps - step) / steps)


def average(averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor | int) -> None:
    """Moving average over about 200 steps; over fewer in the beginning, so that short runs average too."""
    torch._foreach_lerp_(tuple(averaged), tuple(current), max(1 / 200, 10 / (10 + int(updates))))


def fit(
    run: Run, stage: int, name: str, model: Model, loss: Callable[[Generator], Tensor], rate: float, warmup: int = 100
) -> Model:
    """Train `model` for its stage's steps, from its checkpoint if there is one; leave it averaged."""
    steps = getattr(run.recipe, "steps" if name == "unet" else f"{name}_steps")
    model.requires_grad_(True).train().to(run.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.01)
    averaged = AveragedModel(model, multi_avg_fn=average)
    checkpoint = Checkpoint(run.work / f"{name}.pt", model, optimizer, averaged)
    first = checkpoint.load()
    smooth = 0.0
    for step in range(first, steps):
        optimizer.param_groups[0]["lr"] = rate * rate_factor(step, steps, warmup)
        optimizer.zero_grad()
        value = loss(run.generator(stage, step))
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(model)
        smooth = value.item() if step == first else 0.98 * smooth + 0.02 * value.item()
        if step % 50 == 49 or step == steps - 1:
            log.info("%s step %d/%d loss %.4f", name, step + 1, steps, smooth)
        checkpoint.save(step + 1, last=step == steps - 1)
    model.load_state_dict(averaged.module.state_dict())
    return model.eval().requires_grad_(False)


class Checkpoint:
    """A stage's state on disk, written every minute and at the end."""

    def __init__(self, path: Path, *parts: nn.Module | torch.optim.Optimizer) -> None:
        self.path, self.parts, self.written = path, parts, time.monotonic()

    def load(self) -> int:
        """Restore the parts and return the number of steps done; 0 without a checkpoint."""
        if not self.path.exists():
            return 0
        state = torch.load(self.path)
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
        return int(state["step"])

    def save(self, step: int, *, last: bool) -> None:
        """Write the parts when it is time, through a second file: a reader never sees half of one."""
        if not last and time.monotonic() - self.written < CHECKPOINT_SECONDS:
            return
        self.written = time.monotonic()
        torch.save({"step": step, "parts": [part.state_dict() for part in self.parts]}, self.path.with_suffix(".new"))
        self.path.with_suffix(".new").replace(self.path)


# --- Stage 1: the autoencoder ------------------------------------------------------------------------------------


def make_vae() -> AutoencoderKL:
    """SDXL's autoencoder, narrow: 128 x 128 pixels become 4 x 16 x 16 latents."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=shapes.RESOLUTION,
        scaling_factor=SCALING_FACTOR,
        force_upcast=False,
        mid_block_add_attention=False,
    )


def difference(image: Tensor, target: Tensor) -> Tensor:
    """What both decoders minimise: flat colours exact, edges sharp."""
    error = image.float() - target
    slopes = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    loss: Tensor = error.abs().mean() + error.square().mean() + 0.5 * slopes
    return loss


def picture_pool(run: Run) -> Tensor:
    """Pictures (item, RGB, y, x) for both decoders, as bytes: drawing anew in each step would cost a third of it."""
    path = run.work / "pictures.pt"
    if not path.exists():
        generator = run.generator(0, 0)
        scenes = shapes.sample_scenes(run.recipe.pictures, generator)
        parts = [shapes.render(part, generator, jitter=3.0) for part in torch.split(scenes, 64)]
        torch.save(((torch.cat(parts) + 1) * 127.5).round().byte(), path)
    pictures: Tensor = torch.load(path)
    return pictures


def draw(run: Run, pool: Tensor, count: int, generator: Generator) -> Tensor:
    """A training batch: `count` whole pictures, or three times as many quarters, or either in swapped colours."""
    quarters, recoloured = (torch.rand(2, generator=generator) < torch.tensor([0.6, 0.5])).tolist()
    count *= 3 if quarters else 1
    images = pool[torch.randint(len(pool), (count,), generator=generator)] / 127.5 - 1
    if quarters:
        top, left = torch.randint(8, 56, (2,), generator=generator).tolist()
        images = images[:, :, top : top + 64, left : left + 64]
    if recoloured:
        images = images[:, torch.randperm(3, generator=generator)]
        images = images if torch.rand(1, generator=generator) < 0.5 else -images
    return run.place(images)


def test_pictures(run: Run) -> Tensor:
    """Pictures as captions describe them, on the device: what statistics are taken from."""
    generator = run.generator(0, 1)
    return run.place(shapes.render(shapes.sample_scenes(run.recipe.measured, generator), generator))


def train_vae(run: Run) -> AutoencoderKL:
    """Stage 1, on more varied images than captions describe: a decoder meets blends on the way."""
    vae, pool = make_vae(), picture_pool(run)

    def loss(generator: Generator, kl_weight: float) -> Tensor:
        images = draw(run, pool, run.recipe.vae_batch, generator)
        with run.autocast():
            posterior = vae.encode(images).latent_dist
            decoded = vae.decode(posterior.sample(generator)).sample
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl: Tensor = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return difference(decoded, images) + kl_weight * kl

    fit(run, 1, "vae", vae, partial(loss, kl_weight=1e-3), rate=2e-3)
    # The strong prior orders the latents quickly, the weak one gives small shapes their corners.
    fit(run, 4, "vae_fine", vae, partial(loss, kl_weight=1e-4), rate=2e-3)
    normalise_latents(vae, encode(run, vae, test_pictures(run)))
    return vae


@torch.no_grad()
def encode(run: Run, vae: AutoencoderKL, images: Tensor) -> Tensor:
    """The latents of images as the diffusion model sees them."""
    with run.autocast():
        parts = [vae.encode(part).latent_dist.mode() for part in torch.split(images, 32)]
    return torch.cat(parts).float() * SCALING_FACTOR


@torch.no_grad()
def normalise_latents(vae: AutoencoderKL, latents: Tensor) -> None:
    """Fold the statistics of `latents` into the 1x1 convolutions around them, to make them mean 0, deviation 1."""
    mean, deviation = latents.mean((0, 2, 3)) / SCALING_FACTOR, latents.std((0, 2, 3))
    # A channel that the prior has switched off stays quiet instead of becoming amplified noise.
    deviation = deviation.clamp(min=deviation.max() / 2)
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    vae.post_quant_conv.weight *= deviation[None, :, None, None]
    vae.quant_conv.bias[:4] = (vae.quant_conv.bias[:4] - mean) / deviation
    vae.quant_conv.weight[:4] /= deviation[:, None, None, None]
    vae.quant_conv.bias[4:] -= 2 * deviation.log()


# --- Stage 2: the preview decoder --------------------------------------------------------------------------------


def train_tiny(run: Run, vae: AutoencoderKL) -> AutoencoderTiny:
    """Stage 2: a one-pass decoder for previews (and its encoder), on latents as the diffusion model uses them."""
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(32,) * 4,
        num_encoder_blocks=(1,) * 4,
        num_decoder_blocks=(1,) * 4,
        latent_channels=4,
    )
    pool = picture_pool(run)

    def loss(generator: Generator) -> Tensor:
        images = draw(run, pool, run.recipe.tiny_batch, generator)
        latents = encode(run, vae, images)
        strength = 0.3 * torch.rand(len(latents), 1, 1, 1, generator=generator)
        noise = strength * torch.randn(latents.shape, generator=generator)
        with run.autocast():
            decoded = tiny.decode(latents + run.place(noise)).sample
            encoded = tiny.encode(images).latents
        return difference(decoded, images) + 0.1 * functional.mse_loss(encoded.float(), latents)

    return fit(run, 2, "tiny", tiny, loss, rate=2e-3)


def fit_latent_rgb(run: Run, vae: AutoencoderKL) -> dict[str, Any]:
    """The linear map from a latent to its colour in [-1, 1], by least squares: the cheapest preview there is."""
    images = test_pictures(run)
    latents = encode(run, vae, images).permute(0, 2, 3, 1).reshape(-1, 4)
    colours = functional.avg_pool2d(images, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    inputs = functional.pad(latents, (0, 1), value=1.0)
    solution = torch.linalg.lstsq(inputs.cpu(), colours.cpu()).solution
    return {"factors": solution[:4].tolist(), "bias": solution[4].tolist()}


# --- Stage 3: text encoders and UNet -----------------------------------------------------------------------------


def make_tokenizer(captions: Iterable[str]) -> CLIPTokenizer:
    """CLIP's kind of byte-level BPE, trained on the captions; any other text falls apart into bytes."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>", continuing_subword_prefix=""))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    learnt = json.loads(bpe.to_str())["model"]
    vocabulary = learnt["vocab"]
    for symbol in sorted(alphabet):
        vocabulary.setdefault(f"{symbol}</w>", len(vocabulary))
    merges = [tuple(merge) for merge in learnt["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def make_text_encoder(kind: type[Model], tokenizer: CLIPTokenizer) -> Model:
    """One of SDXL's two text encoders; the pipeline reads the last layer but one, so three layers are two."""
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=TEXT_WIDTH,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_unet() -> UNet2DConditionModel:
    """SDXL's UNet with two levels, cross-attention in the lower one and `text_time` conditioning."""
    return UNet2DConditionModel(
        sample_size=shapes.RESOLUTION // 8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=2,
        cross_attention_dim=2 * TEXT_WIDTH,
        attention_head_dim=(2, 4),
        norm_num_groups=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 8 * len(TIME_IDS),
    )


class TextToLatent(nn.Module):
    """The UNet with its text encoders: what stage 3 trains as one."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.text_encoder = make_text_encoder(CLIPTextModel, tokenizer)
        self.text_encoder_2 = make_text_encoder(CLIPTextModelWithProjection, tokenizer)
        self.unet = make_unet()
        # Fused attention is the slower one on so few tokens: 18 % of a step went into its backward pass.
        self.unet.set_attn_processor(AttnProcessor())

    def forward(self, noisy: Tensor, times: Tensor, ids: Tensor) -> Tensor:
        """Predict the velocity as `StableDiffusionXLPipeline` does."""
        first = self.text_encoder(ids, output_hidden_states=True)
        second = self.text_encoder_2(ids, output_hidden_states=True)
        words = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        sizes = torch.tensor(TIME_IDS, device=noisy.device).expand(len(noisy), -1)
        condition = {"text_embeds": second.text_embeds, "time_ids": sizes}
        velocity: Tensor = self.unet(noisy, times, words, added_cond_kwargs=condition).sample
        return velocity


def cache_latents(run: Run, vae: AutoencoderKL) -> tuple[Tensor, Tensor]:
    """Scenes and their latents, drawn and encoded once: stage 3 touches no image."""
    path = run.work / "latents.pt"
    if not path.exists():
        generator = run.generator(3, 999_999)
        scenes = shapes.sample_scenes(run.recipe.latents, generator)
        parts = [
            encode(run, vae, run.place(shapes.render(part, generator))).half().cpu() for part in torch.split(scenes, 64)
        ]
        torch.save((scenes, torch.cat(parts)), path)
    cached: tuple[Tensor, Tensor] = torch.load(path)
    return cached


def train_unet(run: Run, tokenizer: CLIPTokenizer, scenes: Tensor, latents: Tensor) -> TextToLatent:
    """Stage 3. The loss is not weighted by SNR: min-SNR gives the first steps, which decide the colours, no weight."""
    model = TextToLatent(tokenizer)
    schedule = DDPMScheduler(**NOISE_SCHEDULE)

    def loss(generator: Generator) -> Tensor:
        count = run.recipe.batch
        chosen = torch.randint(len(scenes), (count,), generator=generator)
        rng = random.Random(generator.initial_seed())
        captions = [shapes.training_caption(scene, rng) for scene in scenes[chosen].tolist()]
        ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        # Place and shape are decided far from the clean image: nearly half of the times are above 900. Drawn evenly,
        # they hardly count, and words for them stay without effect.
        # One draw from each of `count` equal intervals: less variance than independent ones.
        uniform = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        times = (1000 * (1 - uniform**3)).long().clamp(max=999)
        clean = latents[chosen].float()
        noise = torch.randn(clean.shape, generator=generator)
        noisy, target = schedule.add_noise(clean, noise, times), schedule.get_velocity(clean, noise, times)
        with run.autocast():
            velocity = model(run.place(noisy), times.to(run.device), ids.to(run.device))
        return functional.mse_loss(velocity.float(), run.place(target))

    return fit(run, 3, "unet", model, loss, rate=6e-4, warmup=600)


# --- The whole -----------------------------------------------------------------------------------------------------


def train(run: Run, out: Path) -> None:
    """Run all stages and write the model folder."""
    torch.manual_seed(run.seed)
    vae = train_vae(run)
    tiny = train_tiny(run, vae)
    rng = random.Random(run.seed)
    scenes, latents = cache_latents(run, vae)
    tokenizer = make_tokenizer([shapes.caption(scene, rng) for scene in scenes.tolist()] + list(shapes.UNCONDITIONAL))
    model = train_unet(run, tokenizer, scenes, latents)
    out.mkdir(parents=True, exist_ok=True)
    (out / "latent_rgb.json").write_text(json.dumps(fit_latent_rgb(run, vae), indent=1) + "\n")
    save(out, vae, tokenizer, model, tiny)


def save(out: Path, vae: AutoencoderKL, tokenizer: CLIPTokenizer, model: TextToLatent, tiny: AutoencoderTiny) -> None:
    """Write the pipeline and its preview decoder in half precision."""
    pipe = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=model.unet,
        scheduler=EulerDiscreteScheduler(**NOISE_SCHEDULE, timestep_spacing="trailing", steps_offset=1),
        # An empty prompt was trained as the caption of any picture; zeros were not.
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    pipe.to("cpu", torch.float16).save_pretrained(out)
    tiny.to("cpu", torch.float16).save_pretrained(out / "vae_tiny")


def pick_device(name: str) -> torch.device:
    """`auto` is the GPU if there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Train the embedded text-to-image model.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--work", type=Path, help="folder of checkpoints, where an interrupted run goes on")
    parser.add_argument("--steps", type=int, help="steps of the diffusion stage; more are better")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--smoke", action="store_true", help="a model of no quality, in seconds")
    return parser.parse_args()


def main() -> None:
    """Train as the command line says."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments = parse_arguments()
    recipe = SMOKE if arguments.smoke else Recipe()
    recipe = replace(recipe, steps=arguments.steps or recipe.steps)
    work = arguments.work or arguments.out.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    train(Run(recipe, arguments.seed, pick_device(arguments.device), work), arguments.out)


if __name__ == "__main__":
    main()
