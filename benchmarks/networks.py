"""A pipeline of SDXL's full size with random weights: it draws noise, and takes the time that trained weights take."""

from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers import UNet2DConditionModel as UNet

from .previews import STEPS

# The configuration of stabilityai/stable-diffusion-xl-base-1.0: images of 1024x1024.
_SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_VAE: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.13025,
}
_SMALL: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 32, 32),
    "transformer_layers_per_block": 1,
    "attention_head_dim": 8,
}
_SMALL_DECODER: dict[str, Any] = dict.fromkeys(("encoder_block_out_channels", "decoder_block_out_channels"), (8,) * 4)


class Size(NamedTuple):
    """The configurations of a UNet and of the decoder of its previews."""

    unet: dict[str, Any]
    tiny_vae: dict[str, Any]


FULL = Size(_SDXL, {})  # madebyollin/taesdxl has the defaults
TINY = Size(_SDXL | _SMALL, _SMALL_DECODER)


def build(size: Size, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a pipeline with random weights and a decoder for its previews."""
    torch.manual_seed(0)
    with torch.device(device):
        unet, vae, tiny_vae = UNet(**size.unet), AutoencoderKL(**_VAE), AutoencoderTiny(**size.tiny_vae)
    _give_contrast(tiny_vae)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    nothing: dict[str, Any] = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = StableDiffusionXLPipeline(vae=vae, unet=unet, scheduler=scheduler, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, dtype), tiny_vae.eval().to(dtype=dtype)


@torch.no_grad()
def _give_contrast(tiny_vae: Any) -> None:
    """Have it draw pictures whose JPEGs are of a usual size; with random weights alone they are all but black."""
    last = tiny_vae.decoder.layers[-1]
    image = tiny_vae.decode(torch.randn(1, 4, 16, 16, device=last.weight.device)).sample
    gain = 0.25 / image.std()
    last.weight *= gain
    last.bias.copy_((last.bias - (image.mean() + 1) / 2) * gain + 0.5)


def call(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the pipeline's arguments: what the text encoders would have made, and the rest.

    The images are left as latents, so that nothing but steps and previews is timed.
    """
    words = torch.randn(1, 77, 2048, device=device, dtype=dtype)
    pooled = torch.randn(1, 1280, device=device, dtype=dtype)
    return {
        "prompt_embeds": words,
        "pooled_prompt_embeds": pooled,
        "negative_prompt_embeds": torch.zeros_like(words),
        "negative_pooled_prompt_embeds": torch.zeros_like(pooled),
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "output_type": "latent",
    }
