"""Pipelines of the shapes that diffusers has, with random weights of a few channels, and one call of each."""

import functools
from typing import Any

import diffusers
import torch
import transformers
from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior
from diffusers.pipelines.ltx2 import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder

WIDTH = 16  # of all embeddings


def seeded(build: Any) -> Any:
    """Build with the same weights each time."""

    @functools.wraps(build)
    def built(*args: Any, **kwargs: Any) -> Any:
        torch.manual_seed(0)
        pipe = build(*args, **kwargs)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return built


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


class Tokenizer:
    """A tokenizer that says the same about every text."""

    model_max_length = 8

    def __call__(self, text: str | list[str], **options: Any) -> transformers.BatchEncoding:
        ids = torch.ones(1 if isinstance(text, str) else len(text), self.model_max_length, dtype=torch.long)
        return transformers.BatchEncoding({"input_ids": ids, "attention_mask": ids})


def text_encoder(kind: Any) -> Any:
    config = transformers.CLIPTextConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=WIDTH,
        num_attention_heads=2,
        num_hidden_layers=1,
        vocab_size=8,
        max_position_embeddings=8,
        eos_token_id=1,
    )
    return kind(config).eval()


def with_tokenizers(pipe: Any) -> Any:
    """Give the parts a tokenizer that `register_modules` would not take."""
    for part in (pipe.prior_pipe, pipe.decoder_pipe):
        part.tokenizer = Tokenizer()
    return pipe


@seeded
def kandinsky() -> Any:
    """Kandinsky 2.2: a prior of embeddings, and a decoder with a MoVQ."""
    unet = diffusers.UNet2DConditionModel(
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(16, 32),
        layers_per_block=1,
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=16,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        norm_num_groups=4,
    )
    movq = diffusers.VQModel(
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        vq_embed_dim=4,
        num_vq_embeddings=8,
        norm_num_groups=4,
        norm_type="spatial",
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=WIDTH,
        num_attention_heads=2,
        num_hidden_layers=1,
        image_size=32,
        patch_size=16,
    )
    prior = diffusers.PriorTransformer(
        num_attention_heads=2, attention_head_dim=8, embedding_dim=WIDTH, num_layers=1, num_embeddings=8
    )
    return with_tokenizers(
        diffusers.KandinskyV22CombinedPipeline(
            unet=unet.eval(),
            scheduler=diffusers.DDIMScheduler(clip_sample=False),
            movq=movq.eval(),
            prior_prior=prior.eval(),
            prior_image_encoder=transformers.CLIPVisionModelWithProjection(vision).eval(),
            prior_text_encoder=text_encoder(transformers.CLIPTextModelWithProjection),
            prior_tokenizer=None,
            prior_scheduler=diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="sample"),
            prior_image_processor=transformers.CLIPImageProcessor(size=32, crop_size=32),
        )
    )


def vqgan() -> Any:
    return PaellaVQModel(bottleneck_blocks=1, num_vq_embeddings=2, levels=2, embed_dim=8).eval()


def combined_schedulers() -> dict[str, Any]:
    return {name: diffusers.DDPMWuerstchenScheduler() for name in ("scheduler", "prior_scheduler")}


@seeded
def stable_cascade() -> Any:
    """Stable Cascade: a prior whose latents lie in a plane and are no picture, and a decoder with a VQGAN."""
    unet = functools.partial(
        diffusers.StableCascadeUNet,
        patch_size=1,
        conditioning_dim=WIDTH,
        block_out_channels=(8, 8),
        num_attention_heads=(2, 2),
        down_num_layers_per_block=(1, 1),
        up_num_layers_per_block=(1, 1),
        down_blocks_repeat_mappers=(1, 1),
        up_blocks_repeat_mappers=(1, 1),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock"),) * 2,
        clip_text_pooled_in_channels=WIDTH,
        timestep_ratio_embedding_dim=8,
        switch_level=(False,),
    )
    prior = unet(in_channels=16, out_channels=16, clip_text_in_channels=WIDTH, clip_image_in_channels=WIDTH)
    encoder = text_encoder(transformers.CLIPTextModelWithProjection)
    return with_tokenizers(
        diffusers.StableCascadeCombinedPipeline(
            tokenizer=None,
            text_encoder=encoder,
            decoder=unet(in_channels=4, out_channels=4, effnet_in_channels=16).eval(),
            vqgan=vqgan(),
            prior_prior=prior.eval(),
            prior_text_encoder=encoder,
            prior_tokenizer=None,
            **combined_schedulers(),
        )
    )


@seeded
def wuerstchen() -> Any:
    """Wuerstchen: as Stable Cascade, with a progress bar that runs over all timesteps but the last."""
    encoder = text_encoder(transformers.CLIPTextModel)
    decoder = WuerstchenDiffNeXt(
        c_cond=WIDTH, c_hidden=[8], nhead=[-1], blocks=[1], level_config=["CT"], clip_embd=WIDTH, inject_effnet=[False]
    )
    return with_tokenizers(
        diffusers.WuerstchenCombinedPipeline(
            tokenizer=None,
            text_encoder=encoder,
            decoder=decoder.eval(),
            vqgan=vqgan(),
            prior_tokenizer=None,
            prior_text_encoder=encoder,
            prior_prior=WuerstchenPrior(c_in=2, c=8, depth=1, c_cond=WIDTH, c_r=8, nhead=2).eval(),
            **combined_schedulers(),
        )
    )


def draw_combined(pipe: Any) -> Any:
    """Draw with two steps of the prior and three of the decoder."""
    return pipe(
        "a",
        prior_num_inference_steps=2,
        num_inference_steps=3,
        height=128,
        width=128,
        generator=generator(),
        output_type="np",
    ).images


@seeded
def panorama(vae: Any, scheduler: Any) -> Any:
    """MultiDiffusion: every step calls the scheduler for each view of the latents."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    nothing: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer", "safety_checker", "feature_extractor"))
    return diffusers.StableDiffusionPanoramaPipeline(
        vae=vae, unet=unet.eval(), scheduler=scheduler, requires_safety_checker=False, **nothing
    )


def draw_panorama(pipe: Any, **options: Any) -> torch.Tensor:
    """Draw 576x512, of which each view has 512x512."""
    embeds = torch.linspace(-1, 1, 24).reshape(1, 3, 8)
    latents: torch.Tensor = pipe(
        prompt_embeds=embeds,
        negative_prompt_embeds=-embeds,
        num_inference_steps=2,
        height=512,
        width=576,
        guidance_scale=1.0,
        generator=generator(),
        output_type="latent",
        **options,
    ).images
    return latents


def modular(sdxl: Any) -> Any:
    """Return a modular pipeline of the components of an SDXL pipeline, from embeddings to latents."""
    blocks = diffusers.StableDiffusionXLAutoBlocks()
    for name in ("text_encoder", "ip_adapter", "vae_encoder", "decode"):
        del blocks.sub_blocks[name]
    pipe = diffusers.StableDiffusionXLModularPipeline(blocks=blocks)
    pipe.update_components(unet=sdxl.unet, vae=sdxl.vae, scheduler=sdxl.scheduler)
    return pipe


def draw_modular(pipe: Any) -> torch.Tensor:
    """Return the latents of 64x64, after three steps."""
    embeds = torch.linspace(-1, 1, 24).reshape(1, 3, 8)
    latents: torch.Tensor = pipe(
        prompt_embeds=embeds,
        pooled_prompt_embeds=embeds[:, 0],
        negative_prompt_embeds=-embeds,
        negative_pooled_prompt_embeds=-embeds[:, 0],
        num_inference_steps=3,
        height=64,
        width=64,
        generator=generator(),
        output="latents",
    )
    return latents


def pixel_unet(channels: int) -> Any:
    return diffusers.UNet2DModel(
        sample_size=16,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()


@seeded
def ddpm(channels: int) -> Any:
    """A pipeline that computes the image itself."""
    return diffusers.DDPMPipeline(pixel_unet(channels), diffusers.DDPMScheduler())


@seeded
def score_based() -> Any:
    """A pipeline whose scheduler has steps of other names."""
    return diffusers.ScoreSdeVePipeline(pixel_unet(3), diffusers.ScoreSdeVeScheduler())


def draw_pixels(pipe: Any) -> Any:
    """Draw 16x16 in three steps."""
    return pipe(generator=generator(), num_inference_steps=3, output_type="np").images


@seeded
def ltx2() -> Any:
    """LTX-2: a video by the scheduler, its sound by a copy of it."""
    caption = 32
    connector = {"attention_head_dim": 8, "num_attention_heads": 4, "num_layers": 1, "num_learnable_registers": None}
    nothing: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer"))
    return diffusers.LTX2Pipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        transformer=diffusers.LTX2VideoTransformer3DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=8,
            cross_attention_dim=16,
            audio_in_channels=4,
            audio_out_channels=4,
            audio_num_attention_heads=2,
            audio_attention_head_dim=4,
            audio_cross_attention_dim=8,
            num_layers=1,
            caption_channels=caption,
            rope_double_precision=False,
            rope_type="split",
        ).eval(),
        connectors=LTX2TextConnectors(
            caption_channels=caption,
            text_proj_in_factor=1,
            **{
                f"{stream}_connector_{name}": value
                for stream in ("video", "audio")
                for name, value in connector.items()
            },
            connector_rope_base_seq_len=32,
            rope_theta=10000.0,
            rope_double_precision=False,
            causal_temporal_positioning=False,
            rope_type="split",
        ).eval(),
        vae=diffusers.AutoencoderKLLTX2Video(
            latent_channels=4,
            block_out_channels=(8,),
            decoder_block_out_channels=(8,),
            layers_per_block=(1,),
            decoder_layers_per_block=(1, 1),
            spatio_temporal_scaling=(True,),
            decoder_spatio_temporal_scaling=(True,),
            decoder_inject_noise=(False, False),
            downsample_type=("spatial",),
            upsample_residual=(False,),
            upsample_factor=(1,),
            patch_size=1,
        ).eval(),
        audio_vae=diffusers.AutoencoderKLLTX2Audio(
            base_channels=4,
            ch_mult=(1,),
            num_res_blocks=1,
            attn_resolutions=None,
            resolution=32,
            latent_channels=2,
            mid_block_add_attention=False,
            mel_bins=8,
        ).eval(),
        vocoder=LTX2Vocoder(
            in_channels=16,
            hidden_channels=32,
            upsample_kernel_sizes=[4, 4],
            upsample_factors=[2, 2],
            resnet_kernel_sizes=[3],
            resnet_dilations=[[1, 3, 5]],
        ).eval(),
        **nothing,
    )


def draw_ltx2(pipe: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the latents of five frames and of their sound, after three steps."""
    output = pipe(
        prompt_embeds=torch.linspace(-1, 1, 16 * 32).reshape(1, 16, 32),
        prompt_attention_mask=torch.ones(1, 16, dtype=torch.long),
        num_inference_steps=3,
        guidance_scale=1.0,
        stg_scale=0.0,
        modality_scale=1.0,
        audio_guidance_scale=1.0,
        audio_stg_scale=0.0,
        audio_modality_scale=1.0,
        height=32,
        width=32,
        num_frames=5,
        generator=generator(),
        output_type="latent",
    )
    return output.frames, output.audio
