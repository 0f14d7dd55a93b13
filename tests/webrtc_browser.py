"""A browser's side of a session by WebRTC, made of aiortc: what a page does, in the loop of the test."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioice.ice
import PIL.Image
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpreceiver import RemoteStreamTrack
from av import VideoFrame
from starlette.testclient import TestClient
from tests.served import serving
from tests.waiting import WAIT_S

LOOPBACK = "127.0.0.1"


def served(*apps: Any, **settings: Any) -> TestClient:
    """Serve apps where only this machine comes."""
    return serving(*apps, **{"webrtc_addresses": (LOOPBACK,), **settings})


@pytest.fixture(autouse=True)
def browsers_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have browsers listen on loopback alone, which aioice leaves out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [LOOPBACK])


class Browser:
    """Hold one connection; `opened` makes it.

    Attributes:
        video: the last frame that was shown; None before the first.
    """

    def __init__(self) -> None:
        self.pc = RTCPeerConnection(RTCConfiguration([]))
        self.channel = self.pc.createDataChannel("streamapp.v1")
        self.video: VideoFrame | None = None
        self._frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._opened = asyncio.Event()
        self._shown = asyncio.Condition()
        self._playing: asyncio.Task[None] | None = None
        self._text = ""
        self.channel.on("open", self._opened.set)
        self.channel.on("message", self._hear)
        self.pc.on("track", self._show)

    async def offer(self, *, has_video: bool = True) -> dict[str, str]:
        """Return an offer, when all addresses are gathered."""
        if has_video:
            self.pc.addTransceiver("video", direction="recvonly")
        await self.pc.setLocalDescription(await self.pc.createOffer())
        return {"type": "offer", "sdp": self.pc.localDescription.sdp}

    async def connect(self, client: TestClient, path: str = "/rt", **options: Any) -> None:
        """Have an offer answered, and wait for the channel."""
        answer = await asyncio.to_thread(client.post, f"{path}/webrtc", json=await self.offer(**options))
        assert answer.status_code == 200, answer.text
        await self.pc.setRemoteDescription(RTCSessionDescription(**answer.json()))
        async with asyncio.timeout(WAIT_S):
            await self._opened.wait()

    def say(self, **frame: Any) -> None:
        """Send a frame of the protocol in one piece."""
        self.channel.send("." + json.dumps(frame))

    async def open(self, **options: Any) -> dict[str, Any]:
        """Begin a session; return the server's answer."""
        self.say(type="open", key=secrets.token_hex(16), **options)
        return await self.heard("session")

    async def heard(self, type_: str) -> dict[str, Any]:
        """Return the next frame of a type; those before are left out."""
        async with asyncio.timeout(WAIT_S):
            while (frame := await self._frames.get())["type"] != type_:
                pass
        return frame

    async def event(self, name: str = "output") -> Any:
        """Return the data of the next event of a name."""
        while (frame := await self.heard("event"))["event"] != name:
            pass
        return frame["data"]

    async def sees(self, width: int, height: int) -> VideoFrame:
        """Return a frame of the video, when one of this size is shown."""
        async with asyncio.timeout(WAIT_S), self._shown:
            await self._shown.wait_for(
                lambda: self.video is not None and (self.video.width, self.video.height) == (width, height)
            )
        assert self.video is not None
        return self.video

    async def close(self) -> None:
        """Leave."""
        await self.pc.close()
        if self._playing is not None:
            await self._playing

    @property
    def is_hearing(self) -> bool:
        """Whether a frame has begun to come, and not ended."""
        return bool(self._text)

    def _hear(self, piece: str) -> None:
        self._text += piece[1:]
        if piece[0] == ".":
            self._frames.put_nowait(json.loads(self._text))
            self._text = ""

    def _show(self, track: RemoteStreamTrack) -> None:
        self._playing = asyncio.ensure_future(self._play(track))

    async def _play(self, track: RemoteStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            async with self._shown:
                assert isinstance(frame, VideoFrame)
                self.video = frame
                self._shown.notify_all()


@asynccontextmanager
async def opened(client: TestClient, path: str = "/rt", **options: Any) -> AsyncIterator[Browser]:
    """Connect a browser; it has no session yet."""
    browser = Browser()
    try:
        await browser.connect(client, path, **options)
        yield browser
    finally:
        await browser.close()


def pixel_of(frame: VideoFrame) -> tuple[int, ...]:
    """Return the color in the middle of a frame."""
    image: PIL.Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    pixel = image.getpixel((frame.width // 2, frame.height // 2))
    assert isinstance(pixel, tuple)
    return pixel


def color_of(frame: VideoFrame) -> str:
    """Return which of red, green and blue a frame is, all over."""
    return max(zip(pixel_of(frame), ("red", "green", "blue"), strict=True))[1]
