"""The embedded text-to-image model: its folder, what it draws, the world it was trained in, and its training script."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # `apps` is no part of the package

from apps.sdxl.tiny import evaluate, shapes  # noqa: E402

MODEL = evaluate.MODEL

# diffusers' Euler scheduler hands numpy a tensor without the keyword that numpy 2 asks for.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RED_ON_BLUE = "a red circle on a blue background"


def index(name: str) -> int:
    return shapes.COLOURS.index(name)


def scene(foreground: str, background: str, shape: str, size: str = "", place: str = "") -> Any:
    choice = (shapes.SHAPES.index(shape), shapes.SIZES.index(size), shapes.PLACES.index(place))
    return torch.tensor([[index(foreground), index(background), *choice]])


def seeded(seed: int = 0) -> Any:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def pipe() -> Any:
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(MODEL, dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipe: Any, prompt: str = RED_ON_BLUE, steps: int = 10, **options: Any) -> Any:
    return pipe(
        prompt, num_inference_steps=steps, guidance_scale=3.0, generator=seeded(), output_type="pt", **options
    ).images


# --- The model -----------------------------------------------------------------------------------------------------


def test_the_folder_stays_within_16_megabytes() -> None:
    assert sum(file.stat().st_size for file in MODEL.rglob("*") if file.is_file()) <= 16_000_000


def test_a_prompt_gives_its_background_and_its_foreground(pipe: Any) -> None:
    image = generate(pipe)
    assert evaluate.nearest_colour(evaluate.border_colour(image)).item() == index("blue")
    assert evaluate.nearest_colour(evaluate.foreground_colour(image)).item() == index("red")


def test_an_image_has_the_size_that_the_model_was_trained_for(pipe: Any) -> None:
    assert generate(pipe, steps=2).shape == (1, 3, shapes.RESOLUTION, shapes.RESOLUTION)


def test_the_same_seed_gives_the_same_bits(pipe: Any) -> None:
    assert torch.equal(generate(pipe, steps=3), generate(pipe, steps=3))


def test_a_usual_negative_prompt_leaves_the_colours_right(pipe: Any) -> None:
    image = generate(pipe, negative_prompt="blurry, low quality")
    assert evaluate.nearest_colour(evaluate.border_colour(image)).item() == index("blue")


@pytest.mark.parametrize("prompt", ["", "ein rotes Quadrat", "赤い円 🟥", "word " * 200, "\x00\ud7ff\t"])
def test_any_prompt_gives_a_finite_image(pipe: Any, prompt: str) -> None:
    assert torch.isfinite(generate(pipe, prompt, steps=2)).all()


def test_the_preview_decoder_takes_the_latents_of_the_diffusion_model(pipe: Any) -> None:
    tiny = diffusers.AutoencoderTiny.from_pretrained(
        MODEL, subfolder="vae_tiny", dtype=torch.float32, local_files_only=True
    )
    with torch.no_grad():
        image = tiny.decode(encode(pipe, scene("white", "green", "star"))).sample / 2 + 0.5
    assert evaluate.nearest_colour(evaluate.border_colour(image)).item() == index("green")


def test_the_linear_preview_names_the_background(pipe: Any) -> None:
    table = json.loads((MODEL / "latent_rgb.json").read_text())
    corner = encode(pipe, scene("white", "green", "star"))[:, :, 1, 1]
    colour = (corner @ torch.tensor(table["factors"]) + torch.tensor(table["bias"])) / 2 + 0.5
    assert evaluate.nearest_colour(colour).item() == index("green")


def encode(pipe: Any, scenes: Any) -> Any:
    with torch.no_grad():
        latents = pipe.vae.encode(shapes.render(scenes, seeded())).latent_dist.mode()
    return latents * pipe.vae.config.scaling_factor


# --- The world -----------------------------------------------------------------------------------------------------


def test_every_scene_is_recognised_in_its_own_picture() -> None:
    scenes = shapes.sample_scenes(96, seeded())
    images = shapes.render(scenes, seeded()) / 2 + 0.5
    gates = evaluate.judge(scenes, evaluate.Sample(images, images))
    assert [gate.value for gate in gates if gate.value == gate.value] == [100.0] * 5


def test_scenes_are_all_held_out_or_none() -> None:
    assert shapes.held_out(shapes.sample_scenes(50, seeded(), held=True)).all()
    assert not shapes.held_out(shapes.sample_scenes(50, seeded())).any()


def test_a_scene_never_hides_its_shape() -> None:
    scenes = shapes.sample_scenes(500, seeded())
    assert (scenes[:, 0] != scenes[:, 1]).all()


def test_a_caption_names_all_that_is_not_usual() -> None:
    row = scene("orange", "black", "heart", "small", "at the top")[0].tolist()
    for seed in range(20):
        words = shapes.caption(row, random.Random(seed))
        assert all(word in words for word in ("small orange heart at the top", "black background")), words


def test_a_caption_without_a_background_means_the_default_one() -> None:
    red_on_white = scene("red", "white", "ring")[0].tolist()
    captions = {shapes.caption(red_on_white, random.Random(seed)) for seed in range(100)}
    assert {"a red ring", "a red ring on a white background"} <= captions


def test_training_captions_include_those_of_no_picture() -> None:
    row = scene("red", "white", "ring")[0].tolist()
    captions = {shapes.training_caption(row, random.Random(seed)) for seed in range(300)}
    assert {"", "blurry, low quality"} <= captions


def test_a_picture_depends_on_the_scene_and_the_seed_alone() -> None:
    scenes = shapes.sample_scenes(8, seeded())
    assert torch.equal(shapes.render(scenes, seeded(1)), shapes.render(scenes, seeded(1)))
    assert not torch.equal(shapes.render(scenes, seeded(1)), shapes.render(scenes, seeded(2)))


# --- The scripts ---------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_training_runs_from_nothing_to_a_model_that_loads(tmp_path: Path) -> None:
    """The smallest run there is, a step or two of every stage; the full one is `make train`."""
    command = [sys.executable, "-m", "apps.sdxl.tiny.train", "--smoke", "--device", "cpu"]
    subprocess.run([*command, "--out", str(tmp_path / "model")], cwd=ROOT, check=True, capture_output=True)
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(
        tmp_path / "model", dtype=torch.float32, local_files_only=True
    )
    assert pipe.scheduler.config.prediction_type == "v_prediction"
    assert (tmp_path / "model" / "vae_tiny" / "config.json").exists()


def test_a_missed_gate_fails_the_report() -> None:
    slow, good = evaluate.Gate("20 steps", 2.5, 2, "s"), evaluate.Gate("shape", 93.0, 90)
    assert [slow.passed, good.passed] == [False, True]
    assert "| 20 steps | 2.50 s | <= 2 s | **no** |" in evaluate.report([slow, good])
