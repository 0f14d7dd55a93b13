"""Show the images of a session as frames of a video: the newest is sent when the last one was, others are left out.

Code of the app's puts images in, in whatever thread it runs; aiortc takes frames out, on the loop, and encodes each in
a thread of the loop's default pool. What is newest is made a frame no earlier than it can be sent.

A still picture is sent again, ever more rarely: for who has just come, or has lost it, and because the first frame of a
new picture is a poor one, as its bytes are bounded.
"""

import asyncio
import fractions
import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import PIL.Image
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame
from av.video.frame import PictureType

from ..media import Image, writable
from ..process.threads import in_pool

_MOST_PIXELS_A_SIDE = 1280
_FASTEST_S = 1 / 30
_FIRST_REPEAT_S, _LAST_REPEAT_S = 0.1, 1.0
_CLOCK_RATE = 90_000  # of all video: https://www.rfc-editor.org/rfc/rfc7741#section-4.1


class Film:
    """Hold the newest image of one session.

    Args:
        call_on_loop: calls something soon on the loop, from any thread.
    Attributes:
        newest: what is to be seen; None before the first.
        has_news: set when there is another one.
    """

    def __init__(self, call_on_loop: Callable[[Callable[[], None]], None]) -> None:
        self.newest: PIL.Image.Image | Image | None = None
        self.has_news = asyncio.Event()
        self._call_on_loop = call_on_loop
        self._numbers = itertools.count(1)

    def show(self, image: PIL.Image.Image | Image) -> dict[str, Any]:
        """Make an image the newest frame, and return what stands for it in JSON; in any thread."""
        width, height = size_of_frame(image.width, image.height)
        self.newest = image.copy() if isinstance(image, PIL.Image.Image) else image
        number = next(self._numbers)
        self._call_on_loop(self.has_news.set)
        return {"content_type": "video", "width": width, "height": height, "frame": number}

    def follow(self, before: Any) -> None:
        """Go on where another film of the session has ended: with its newest image, and its numbers."""
        self.newest, self._numbers = before.newest, before._numbers
        if self.newest is not None:
            self.has_news.set()


class FilmTrack(MediaStreamTrack):
    """Give the frames of a film to one client; on the loop."""

    kind = "video"

    def __init__(self, film: Film) -> None:
        super().__init__()
        self._film = film
        self._frame: VideoFrame | None = None
        self._began_at = self._renewed_at = time.monotonic()
        self._repeat_s = _FIRST_REPEAT_S

    async def recv(self) -> VideoFrame:
        """Return the next frame, when it is due."""
        frame = None
        while frame is None:
            if self.readyState != "live":
                raise MediaStreamError
            frame = await self._next()
        frame.pts = int((time.monotonic() - self._began_at) * _CLOCK_RATE)
        frame.time_base = fractions.Fraction(1, _CLOCK_RATE)
        frame.pict_type = PictureType.NONE  # which an encoder that was asked for a whole picture has set
        return frame

    async def _next(self) -> VideoFrame | None:
        """Wait for a new image, or until the old one is to be sent again."""
        await asyncio.sleep(self._renewed_at + _FASTEST_S - time.monotonic())
        news = self._film.has_news
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._frame is None else self._repeat_s):
                await news.wait()
        if not news.is_set():
            self._repeat_s = min(2 * self._repeat_s, _LAST_REPEAT_S)
            return self._frame
        news.clear()
        self._renewed_at, self._repeat_s = time.monotonic(), _FIRST_REPEAT_S
        image = self._film.newest
        assert image is not None
        with suppress(ValueError):  # a file that is no whole image: the one before stays
            self._frame = await in_pool(to_frame, image)
        return self._frame


def to_frame(image: PIL.Image.Image | Image) -> VideoFrame:
    """Return an image as encoders take it; blocks.

    Raises:
        ValueError: it cannot be decoded.
    """
    pil = image.to_pil() if isinstance(image, Image) else image
    rgb = writable(pil, "JPEG").convert("RGB")
    size = size_of_frame(*rgb.size)
    if rgb.size != size:
        rgb = rgb.resize(size)
    frame: VideoFrame = VideoFrame.from_image(rgb).reformat(format="yuv420p")  # type: ignore[no-untyped-call]
    return frame


def size_of_frame(width: int, height: int) -> tuple[int, int]:
    """Return how large an image is shown: up to 1280 pixels a side, and an even number of them, as video has it."""
    scale = min(1.0, _MOST_PIXELS_A_SIDE / max(width, height))
    return _even(width * scale), _even(height * scale)


def _even(length: float) -> int:
    return max(2, int(length) // 2 * 2)
