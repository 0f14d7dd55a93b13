"""The SDXL app: what it takes, what it returns, and that it loads models of the real layout."""

import base64
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import PIL.Image
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionXLPipeline
from openai.types import ImageGenCompletedEvent, ImageGenPartialImageEvent
from tests.openai_package import openai_of
from tests.small_models import one_thread  # noqa: F401 - a fixture

import streamapp
from streamapp.testing import TestClient
from streamapp_client import Event, InvalidInput

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.sdxl.app import EMBEDDED_MODEL, Sdxl, load_pipeline

# diffusers' schedulers hand torch tensors to numpy 2 in a way that numpy warns about.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers")

QUICK = {"prompt": "a red circle on a blue background", "num_inference_steps": 2}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Sdxl) as client:
        yield client


def stream(client: TestClient, **input: Any) -> list[Event]:
    return list(client.stream("/stream", {**QUICK, **input}))


def of(events: list[Event], name: str) -> list[Event]:
    return [event for event in events if event.name == name]


def test_a_stream_shows_previews_and_ends_with_the_image(client: TestClient) -> None:
    events = stream(client, seed=7)
    preview = of(events, "preview")[0]
    assert preview.data["image"]["content_type"] == "image/jpeg"
    assert (preview.data["step"], preview.data["total"], preview.data["method"]) == (1, 2, "tiny_vae")
    assert of(events, "progress")[-1].data == {"step": 2, "total": 2}
    assert events[-1].data.keys() == {"image", "seed"}
    assert events[-1].data["image"]["content_type"] == "image/png"
    assert events[-1].image().size == (128, 128)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_it_draws_in_half_precision_what_the_prompt_says(client: TestClient) -> None:
    assert_draws_the_prompt(client)
    pipe = load_pipeline(str(EMBEDDED_MODEL))
    assert (pipe.device.type, pipe.dtype) == ("cuda", torch.float16)


def test_it_draws_what_the_prompt_says(client: TestClient) -> None:
    assert_draws_the_prompt(client)


def assert_draws_the_prompt(client: TestClient) -> None:
    events = stream(client, seed=7, num_inference_steps=10)
    assert of(events, "preview")
    assert_shows_the_prompt(events[-1].image())


def assert_shows_the_prompt(image: PIL.Image.Image) -> None:
    picture = image.convert("RGB")
    red, _, blue = picture.crop((4, 4, 5, 5)).tobytes()
    assert blue > 2 * red, "the background"
    red, _, blue = picture.crop((64, 64, 65, 65)).tobytes()
    assert red > 2 * blue, "the circle"


def test_the_plain_endpoint_returns_what_the_stream_ends_with(client: TestClient) -> None:
    assert client.run("/", {**QUICK, "seed": 7}) == stream(client, seed=7)[-1].data


def test_a_drawn_seed_is_reported_and_draws_the_same_image_again(client: TestClient) -> None:
    first = client.run("/", QUICK)
    assert client.run("/", {**QUICK, "seed": first["seed"]}) == first
    assert client.run("/", QUICK)["seed"] != first["seed"]


def test_several_images_are_previewed_as_a_grid(client: TestClient) -> None:
    events = stream(client, num_images=2)
    assert of(events, "preview")[0].image().size == (256, 128)
    result = events[-1].data
    assert len(result["images"]) == 2
    assert result["image"] == result["images"][0] != result["images"][1]


def test_an_image_has_the_size_asked_for(client: TestClient) -> None:
    assert stream(client, width=96, height=64)[-1].image().size == (96, 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": None},
        {"prompt": "a" * 2001},
        {"num_inference_steps": 0},
        {"num_inference_steps": 51},
        {"width": 100},
        {"width": 56},
        {"height": 1544},
        {"seed": -1},
        {"seed": 2**32},
        {"guidance_scale": -1},
        {"num_images": 0},
        {"num_images": 5},
    ],
)
def test_an_input_out_of_bounds_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        stream(client, **wrong)
    assert refusal.value.detail[0]["loc"][-1] == next(iter(wrong))


def test_a_model_of_the_real_layout_draws_the_same_image(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDXL's repository holds half-precision files under a name of their own, and its preview decoder is elsewhere."""
    pipe = StableDiffusionXLPipeline.from_pretrained(EMBEDDED_MODEL).to(torch.float16)
    pipe.save_pretrained(tmp_path / "sdxl", variant="fp16")
    AutoencoderTiny.from_pretrained(EMBEDDED_MODEL, subfolder="vae_tiny").save_pretrained(tmp_path / "taesdxl")
    monkeypatch.setenv("STREAMAPP_SDXL_MODEL", str(tmp_path / "sdxl"))
    monkeypatch.setenv("STREAMAPP_SDXL_TINY_VAE", str(tmp_path / "taesdxl"))
    with TestClient(Sdxl) as real:
        assert stream(real, seed=7)[-1].data == stream(client, seed=7)[-1].data


def test_openai_s_client_sees_the_image_while_it_is_made(client: TestClient) -> None:
    events = openai_of(client).images.generate(
        prompt="a red circle on a blue background",
        size="128x128",
        output_format="webp",
        stream=True,
        partial_images=2,
        extra_body={"num_inference_steps": 10, "seed": 7},
    )
    *partial, completed = events
    assert isinstance(completed, ImageGenCompletedEvent)
    assert [each.partial_image_index for each in partial if isinstance(each, ImageGenPartialImageEvent)] == [0, 1]
    images = [streamapp.Image(base64.b64decode(event.b64_json)) for event in (*partial, completed)]
    assert {image.content_type for image in images} == {"image/webp"}
    assert completed.size == "128x128" and images[-1].to_pil().size == (128, 128)
    assert_shows_the_prompt(images[-1].to_pil())


def test_openai_s_client_is_told_which_field_is_wrong(client: TestClient) -> None:
    for wrong, param in (({"size": "100x100"}, "width"), ({"background": "transparent"}, "background")):
        with pytest.raises(openai.BadRequestError) as refused:
            openai_of(client).images.generate(prompt="a red circle", extra_body=wrong)
        assert refused.value.param == param
