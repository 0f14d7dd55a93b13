"""Case 9 on a GPU: what previews cost beside a UNet of SDXL's full size, 20 steps at 1024 x 1024.

    python -m benchmarks.gpu [--rounds 5] [--tiny] [--out FILE]

The weights are random: they draw noise, but take the time that trained ones take. The images are left as latents, so
that nothing but steps and previews is timed. `--tiny` tries the same with small networks, on any machine.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, EulerDiscreteScheduler, StableDiffusionXLPipeline
from diffusers import UNet2DConditionModel as UNet

from .figures import machine
from .previews import STEPS, Ways, measure_times, print_times

# The configuration of stabilityai/stable-diffusion-xl-base-1.0.
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
_TINY: dict[str, Any] = _SDXL | {
    "sample_size": 16,
    "block_out_channels": (32, 64, 64),
    "transformer_layers_per_block": 1,
    "attention_head_dim": 8,
}
_VAE: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.13025,
}


def build(config: dict[str, Any], device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a pipeline with random weights and a decoder for its previews."""
    torch.manual_seed(0)
    with torch.device(device):
        unet, vae, tiny_vae = UNet(**config), AutoencoderKL(**_VAE), AutoencoderTiny()
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    nothing: dict[str, Any] = dict.fromkeys(("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"))
    pipe = StableDiffusionXLPipeline(vae=vae, unet=unet, scheduler=scheduler, **nothing)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device, dtype), tiny_vae.eval().to(dtype=dtype)


def call(device: str, dtype: torch.dtype) -> dict[str, Any]:
    """Return the pipeline's arguments: what the text encoders would have made, and the rest."""
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


def main() -> int:
    """Measure, where there is a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What previews cost on a GPU.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="small networks, without a GPU too")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if not (torch.cuda.is_available() or arguments.tiny):
        print("skipped: no CUDA device; --tiny tries the code without one")
        return 0
    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    pipe, tiny_vae = build(_TINY if arguments.tiny else _SDXL, device, dtype)
    times = measure_times(Ways(pipe, tiny_vae, **call(device, dtype)), arguments.rounds)
    print(f"{name}, torch {torch.__version__}, UNet of {pipe.unet.num_parameters() / 1e6:,.0f} M parameters\n")
    print_times(times)
    if arguments.out:
        report = {"machine": machine(), "device": name, "torch": torch.__version__, "seconds": times}
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
