"""Pictures of one colour each, for sessions by WebRTC, and a page: what tests/test_webrtc_browser.py serves."""

import time
from typing import Any

import PIL.Image

import streamapp


class Filmed(streamapp.App):
    static = "filmed"

    @streamapp.realtime("/paint", webrtc=True)
    def paint(self, n: int, color: tuple[int, int, int], width: int = 192, takes_s: float = 0) -> dict[str, Any]:
        """Answer with a picture as wide as is asked, and two thirds as high."""
        time.sleep(takes_s)
        return {"n": n, "image": PIL.Image.new("RGB", (width, width * 2 // 3), color)}
