"""What becomes of images that a session shows by a video."""

import asyncio
from collections.abc import Callable
from typing import Any

import PIL.Image
import pytest
from aiortc.mediastreams import MediaStreamError
from av.video.frame import PictureType
from tests.waiting import WAIT_S
from tests.webrtc_browser import color_of, pixel_of

from streamapp.media import Image
from streamapp.webrtc.film import Film, FilmTrack, size_of_frame, to_frame


def at_once(function: Callable[[], None]) -> None:
    function()


def picture(color: str = "red", size: tuple[int, int] = (16, 16), mode: str = "RGB") -> PIL.Image.Image:
    return PIL.Image.new("RGB", size, color).convert(mode)


@pytest.mark.parametrize(
    ("size", "shown"),
    [((16, 16), (16, 16)), ((17, 33), (16, 32)), ((1, 1), (2, 2)), ((2560, 1000), (1280, 500)), ((1, 9000), (2, 1280))],
)
def test_a_frame_is_even_and_not_too_large(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert size_of_frame(*size) == shown
    frame = to_frame(picture(size=size))
    assert (frame.width, frame.height, frame.format.name) == (*shown, "yuv420p")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK", "I", "F", "LA"])
def test_images_of_any_mode_are_shown(mode: str) -> None:
    assert pixel_of(to_frame(picture("white", mode=mode))) >= (250, 250, 250)


def test_what_is_transparent_is_white() -> None:
    assert pixel_of(to_frame(PIL.Image.new("RGBA", (16, 16)))) >= (250, 250, 250)


def test_what_stands_for_an_image_says_which_frame_it_is_and_of_what_size() -> None:
    film = Film(at_once)
    assert film.show(picture(size=(17, 16))) == {"content_type": "video", "width": 16, "height": 16, "frame": 1}
    assert film.show(Image.from_pil(picture()))["frame"] == 2


def test_an_image_is_shown_as_it_was_when_it_was_emitted() -> None:
    film = Film(at_once)
    film.show(image := picture())
    image.paste("blue", (0, 0, 16, 16))
    assert color_of(to_frame(film.newest or image)) == "red"


async def next_of(track: FilmTrack) -> Any:
    async with asyncio.timeout(WAIT_S):
        return await track.recv()


async def test_the_newest_image_is_shown_and_those_before_are_left_out() -> None:
    track = FilmTrack(film := Film(at_once))
    for color in ("red", "green", "blue"):
        film.show(picture(color))
    assert color_of(await next_of(track)) == "blue"


async def test_a_still_picture_is_shown_again_with_later_times() -> None:
    track = FilmTrack(film := Film(at_once))
    film.show(picture())
    times = [(await next_of(track)).pts for _ in range(3)]
    first, second, third = times
    assert first < second < third
    assert third - second > second - first  # ever more rarely


async def test_a_frame_that_was_sent_whole_is_not_sent_whole_again() -> None:
    track = FilmTrack(film := Film(at_once))
    film.show(picture())
    (await next_of(track)).pict_type = PictureType.I
    assert (await next_of(track)).pict_type == PictureType.NONE


async def test_a_file_that_cannot_be_decoded_leaves_the_picture_before() -> None:
    track = FilmTrack(film := Film(at_once))
    whole = Image.from_pil(picture("green", (64, 64)))
    film.show(Image(whole.data[:-60]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(track.recv(), 0.2)
    film.show(whole)
    assert color_of(await next_of(track)) == "green"


async def test_another_film_goes_on_with_the_last_image_and_its_numbers() -> None:
    (before := Film(at_once)).show(picture("blue"))
    track = FilmTrack(film := Film(at_once))
    film.follow(before)
    assert color_of(await next_of(track)) == "blue"
    assert film.show(picture())["frame"] == 2


async def test_a_film_that_follows_an_empty_one_waits() -> None:
    (film := Film(at_once)).follow(Film(at_once))
    assert not film.has_news.is_set()


async def test_a_track_that_was_stopped_gives_no_frames() -> None:
    track = FilmTrack(Film(at_once))
    track.stop()
    with pytest.raises(MediaStreamError):
        await next_of(track)
