"""The models that the audio app loads, in tiny: MusicGen's and Stable Audio's structures, with random weights."""

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderOobleck,
    EDMDPMSolverMultistepScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
)
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

import streamapp
from streamapp.testing import TestClient
from streamapp_client import Event, InvalidInput

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.audio.app import Audio
from apps.audio.models import MusicGen, StableAudio, load, pushed
from apps.audio.wav import Sketch

RATE = 800
FRAMES_S = 50  # of MusicGen's codes
BEGINS = 64  # the code that is none
INPUT = {"prompt": "a a", "duration_s": 3, "seed": 1, "speed": 100}

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with `mono`, `stereo` and `stable`."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("a", -1.0)])
    tokenizer.model_max_length = 16
    words = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    for name, channels in (("mono", 1), ("stereo", 2)):
        musicgen(words, channels).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    stable_audio(words, tokenizer).save_pretrained(folder / "stable")
    T5EncoderModel(words).save_pretrained(folder / "words")
    return folder


def musicgen(words: T5Config, channels: int) -> MusicgenForConditionalGeneration:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16}
    codec = EncodecConfig(
        sampling_rate=RATE,
        upsampling_ratios=[4, 4],
        target_bandwidths=[1.2],  # four codebooks
        codebook_size=BEGINS,
        codebook_dim=16,
        hidden_size=16,
        num_filters=2,
        num_lstm_layers=1,
        use_causal_conv=False,
    )
    codes = MusicgenDecoderConfig(**small, vocab_size=BEGINS, num_codebooks=4 * channels, audio_channels=channels)
    parts = {"text_encoder": words.to_dict(), "audio_encoder": codec.to_dict(), "decoder": codes.to_dict()}
    model = MusicgenForConditionalGeneration(MusicgenConfig(**parts))
    for layer in model.audio_encoder.quantizer.layers:
        layer.codebook.embed.normal_()  # else all codes sound the same
    given = model.generation_config
    given.decoder_start_token_id = given.pad_token_id = given.bos_token_id = BEGINS
    given.do_sample, given.guidance_scale = True, 3.0
    return model


def stable_audio(words: T5Config, tokenizer: T5Tokenizer) -> StableAudioPipeline:
    return StableAudioPipeline(
        vae=AutoencoderOobleck(
            encoder_hidden_size=4,
            downsampling_ratios=[2, 4],
            channel_multiples=[1, 2],
            decoder_channels=4,
            decoder_input_channels=4,
            sampling_rate=RATE,
        ),
        text_encoder=T5EncoderModel(words),
        projection_model=StableAudioProjectionModel(16, 16, 0, 512),
        tokenizer=tokenizer,
        transformer=StableAudioDiTModel(
            sample_size=1000,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=1,
            num_key_value_attention_heads=1,
            cross_attention_dim=16,
            cross_attention_input_dim=16,
            time_proj_dim=8,
            global_states_input_dim=32,
        ),
        scheduler=EDMDPMSolverMultistepScheduler(sigma_data=1.0, prediction_type="v_prediction"),
    )


def steps_of(model: MusicGen) -> list[int]:
    """Return a list that grows with each step that the model makes."""
    steps: list[int] = []
    model._model.decoder.register_forward_hook(lambda *_: steps.append(1))
    return steps


def outputs(client: TestClient, **input: Any) -> list[Event]:
    return [event for event in client.stream("/stream", {**INPUT, **input}) if event.name == "output"]


# MusicGen


@pytest.mark.parametrize(("name", "channels"), [("mono", 1), ("stereo", 2)])
def test_what_is_decoded_in_pieces_is_what_all_codes_decode_to(models: Path, name: str, channels: int) -> None:
    model = load(str(models / name))
    assert isinstance(model, MusicGen)
    pieces = list(model.perform("a a", duration_s=5, seed=1))
    torch.manual_seed(1)
    words = model._tokenizer(["a a"], return_tensors="pt")
    whole = model._model.generate(**words, max_length=5 * FRAMES_S + 4)[0].T.numpy()
    joined = np.concatenate([piece for piece in pieces if not isinstance(piece, Sketch)])
    assert len(pieces) > 5
    assert joined.shape == whole.shape == (5 * RATE, channels)
    assert np.allclose(joined, whole, atol=1e-6)


def test_the_first_piece_comes_before_most_codes_are_made(models: Path) -> None:
    model = MusicGen(str(models / "mono"))
    steps = steps_of(model)
    pieces = model.perform("a", duration_s=10, seed=1)
    next(pieces)
    assert FRAMES_S / 2 < len(steps) < FRAMES_S


def test_who_leaves_ends_it(models: Path) -> None:
    model = MusicGen(str(models / "mono"))
    steps = steps_of(model)
    pieces = model.perform("a", duration_s=10, seed=1)
    next(pieces)
    made = len(steps)
    pieces.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(steps) == made
    assert "model" not in [thread.name for thread in threading.enumerate()]


def test_the_same_seed_makes_the_same_sound(models: Path) -> None:
    model = MusicGen(str(models / "mono"))
    one, same, other = (
        np.concatenate([p for p in model.perform("a", duration_s=1, seed=seed) if not isinstance(p, Sketch)])
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_app_plays_what_the_named_model_makes(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_AUDIO_MODEL", str(models / "stereo"))
    with TestClient(Audio) as client:
        *chunks, whole = outputs(client)
        assert client.get("/audio.wav", params=INPUT).content == file_of(whole)
        with pytest.raises(InvalidInput, match=r"at most 30.0 s"):
            outputs(client, duration_s=31)
    assert [chunk.data["start_s"] for chunk in chunks] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert (whole.data["sample_rate"], whole.data["duration_s"]) == (RATE, 3)


def file_of(event: Event) -> bytes:
    return streamapp.Audio.from_data_uri(event.data["audio"]["url"]).data


# Stable Audio


def test_sketches_of_the_beginning_come_before_the_whole(models: Path) -> None:
    model = load(str(models / "stable"))
    assert isinstance(model, StableAudio)
    *sketches, whole = model.perform("a", duration_s=6, seed=1)
    assert [each.step for each in sketches if isinstance(each, Sketch)] == list(range(1, 100, 10))
    assert {each.samples.shape for each in sketches if isinstance(each, Sketch)} == {(4 * RATE, 2)}
    assert not isinstance(whole, Sketch)
    assert whole.shape == (6 * RATE, 2)


def test_the_app_shows_sketches_as_previews(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_AUDIO_MODEL", str(models / "stable"))
    with TestClient(Audio) as client:
        events = list(client.stream("/stream", INPUT))
        with pytest.raises(InvalidInput, match=r"at most 10.0 s; got 10.5"):
            outputs(client, duration_s=10.5)
    preview = next(event for event in events if event.name == "preview")
    assert preview.data["total"] == 100
    assert preview.data["audio"]["content_type"] == "audio/wav"
    assert events[-1].data["duration_s"] == 3


# Both


def test_another_model_is_refused(models: Path) -> None:
    with pytest.raises(ValueError, match=r"MusicGen's or Stable Audio's structure; .*words is t5"):
        load(str(models / "words"))


def test_what_a_model_raises_is_raised_where_its_sound_is_asked_for() -> None:
    def work(push: Any) -> None:
        push(1)
        raise MemoryError("no room")

    pieces = pushed(work)
    assert next(pieces) == 1
    with pytest.raises(MemoryError, match="no room"):
        next(pieces)
