"""The app that enhances images tile by tile: its tiles, what it takes, what it returns."""

import base64
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFilter
import pytest
from tests.enhancing import are_same, enhanced, noise, picture, saved

import streamapp
from streamapp.testing import TestClient
from streamapp_client import Event, InvalidInput

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.image_chunks.app import ImageChunks, reduced
from apps.image_chunks.tiles import boxes, enhance, prepare

# The tiles


@pytest.mark.parametrize("side", [64, 65, 100, 1024])
@pytest.mark.parametrize("size", [(200, 130), (64, 64), (1, 1), (3, 300), (129, 65)])
def test_the_tiles_are_to_the_bit_what_the_whole_image_would_be(size: tuple[int, int], side: int) -> None:
    image = picture(*size)
    assert are_same(enhanced(image, side=side), enhanced(image, side=max(size)))


def test_the_tiles_cover_each_pixel_once() -> None:
    covered = np.zeros((130, 200))
    for left, top, right, bottom in boxes((200, 130), 64):
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()


def test_a_tile_comes_before_the_next_one_is_computed() -> None:
    tiles = enhance(picture(), strength=2, radius=8, side=64)
    assert next(tiles)[0] == (0, 0, 64, 64)
    assert len(list(tiles)) == 5


def test_without_strength_the_image_is_left_as_it_is() -> None:
    assert are_same(enhanced(picture(), strength=0), picture())


def test_grain_grows_and_an_edge_gets_no_halo() -> None:
    grain = noise(100, 100, 10).convert("RGB")
    assert np.asarray(enhanced(grain)).std() > 2 * np.asarray(grain).std()
    edge = PIL.Image.new("RGB", (100, 100), (60, 60, 60))
    edge.paste((200, 200, 200), (50, 0, 100, 100))
    halo, usual = (
        np.abs(np.asarray(each).astype(int) - np.asarray(edge)).max()
        for each in (enhanced(edge), edge.filter(PIL.ImageFilter.UnsharpMask(8, 200, 0)))
    )
    assert 2 * halo < usual


def test_colours_keep_their_differences() -> None:
    image = PIL.Image.blend(picture(), PIL.Image.new("RGB", (150, 100), "gray"), 0.7)
    before, after = (np.asarray(each).astype(int) for each in (image, enhanced(image)))
    assert (before != after).any()
    assert np.abs((before[..., 0] - before[..., 2]) - (after[..., 0] - after[..., 2])).max() <= 1


def turned() -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return saved(picture(), "JPEG", exif=exif)


def sixteen_bits() -> bytes:
    return saved(PIL.Image.fromarray(np.full((100, 150), 0x8000, np.uint16)))


def animated() -> bytes:
    frames = [PIL.Image.new("RGB", (150, 100), colour) for colour in ("red", "blue")]
    return saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


def one_colour_clear() -> bytes:
    image = picture().quantize(16)
    return saved(image, transparency=3)


ODD = {
    "grey": (saved(picture(mode="L")), (150, 100), "RGB"),
    "black and white": (saved(picture(mode="1")), (150, 100), "RGB"),
    "palette": (saved(picture().quantize(16)), (150, 100), "RGB"),
    "palette with a clear colour": (one_colour_clear(), (150, 100), "RGBA"),
    "grey with alpha": (saved(picture(mode="LA")), (150, 100), "RGBA"),
    "16 bits": (sixteen_bits(), (150, 100), "RGB"),
    "CMYK": (saved(picture(mode="CMYK"), "JPEG"), (150, 100), "RGB"),
    "turned by the camera": (turned(), (100, 150), "RGB"),
    "animated": (animated(), (150, 100), "RGB"),
    "WebP with alpha": (saved(picture(mode="RGBA"), "WEBP"), (150, 100), "RGB"),  # nothing in it is transparent
    "one pixel": (saved(picture(1, 1)), (1, 1), "RGB"),
}


@pytest.mark.parametrize("kind", ODD)
def test_each_kind_of_image_is_prepared(kind: str) -> None:
    data, size, mode = ODD[kind]
    image = prepare(PIL.Image.open(BytesIO(data)))
    assert (image.size, image.mode, enhanced(image).size) == (size, mode, size)


def test_sixteen_bits_keep_their_brightness_and_of_an_animation_the_first_frame_counts() -> None:
    assert prepare(PIL.Image.open(BytesIO(sixteen_bits()))).getpixel((0, 0)) == (128, 128, 128)
    assert prepare(PIL.Image.open(BytesIO(animated()))).getpixel((0, 0)) == (255, 0, 0)


def test_what_is_transparent_stays_so() -> None:
    image = picture(mode="RGBA")
    image.putalpha(PIL.Image.radial_gradient("L").resize(image.size))
    assert are_same(enhanced(image).getchannel("A"), image.getchannel("A"))


# The app


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(ImageChunks) as client:
        yield client


def asking(image: PIL.Image.Image | bytes, **fields: Any) -> dict[str, Any]:
    data = image if isinstance(image, bytes) else saved(image)
    return {"image": streamapp.Image(data).data_uri(), "tile_size": 64, "radius": 8, **fields}


def outputs(events: list[Event]) -> list[Any]:
    return [event.data for event in events if event.name == "output"]


def test_a_stream_tells_the_image_each_tile_and_the_whole(client: TestClient) -> None:
    events = list(client.stream("/stream", asking(picture())))
    started, *tiles, completed = outputs(events)
    assert started["image_info"] == {"format": "PNG", "size": [150, 100], "mode": "RGB"}
    assert [tile["progress"] for tile in tiles] == [f"{number}/6" for number in range(1, 7)]
    assert (tiles[2]["percent_complete"], tiles[-1]["percent_complete"]) == (50, 100)
    assert (completed["status"], completed["total_chunks_processed"]) == ("completed", 6)
    assert are_same(events[-1].image(), enhanced(picture()))


def test_each_tile_is_the_part_at_its_box(client: TestClient) -> None:
    tiles = [event for event in client.stream("/stream", asking(picture())) if "box" in (event.data or {})]
    whole = enhanced(picture())
    assert all(are_same(tile.image(), whole.crop(tile.data["box"])) for tile in tiles)


def test_previews_show_the_image_as_far_as_it_is(client: TestClient) -> None:
    events = list(client.stream("/stream", asking(picture())))
    previews = [event for event in events if event.name == "preview"]
    assert (previews[0].data["step"], previews[0].data["total"]) == (1, 6)
    assert previews[0].image().size == (150, 100)
    assert [event.data for event in events if event.name == "progress"][-1] == {"step": 6, "total": 6}


def test_a_preview_of_a_large_image_is_small() -> None:
    assert reduced(PIL.Image.new("RGB", (3000, 100))).size == (500, 17)


@pytest.mark.parametrize("kind", ODD)
def test_the_app_takes_each_kind_of_image(client: TestClient, kind: str) -> None:
    data, size, mode = ODD[kind]
    started, *_, completed = outputs(list(client.stream("/stream", asking(data))))
    assert (started["image_info"]["size"], started["image_info"]["mode"]) == ([*size], mode)
    assert (completed["image"]["width"], completed["image"]["height"]) == size


def test_too_many_pixels_are_refused_before_they_are_decoded(client: TestClient) -> None:
    bomb = saved(PIL.Image.new("1", (4097, 4096)))
    with pytest.raises(InvalidInput, match="expected at most 16777216 pixels, got 4097x4096"):
        list(client.stream("/stream", asking(bomb)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": "no image"},
        {"image": None},
        {"strength": -1},
        {"strength": 5.1},
        {"strength": "nan"},
        {"radius": 0},
        {"radius": 33},
        {"tile_size": 63},
        {"tile_size": 1025},
    ],
)
def test_an_input_out_of_bounds_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        list(client.stream("/stream", {**asking(picture()), **wrong}))
    assert refusal.value.detail[0]["loc"][-1] == next(iter(wrong))


def test_half_an_image_is_refused(client: TestClient) -> None:
    half = base64.b64encode(saved(picture())[:2000]).decode()
    with pytest.raises(InvalidInput, match="expected a whole image"):
        list(client.stream("/stream", {"image": f"data:image/png;base64,{half}"}))


def test_a_client_that_leaves_stops_it_at_the_next_tile(client: TestClient) -> None:
    with client.stream("/stream", asking(picture(1600, 1200), radius=32)) as stream:
        next(stream)
        job_id = stream.job_id
    assert client.job(job_id).status == "cancelled"
    assert outputs(list(client.stream("/stream", asking(picture()))))[-1]["status"] == "completed"
