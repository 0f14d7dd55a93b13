"""Measure a stroke's way to its picture, by a video over WebRTC and as JPEG over a WebSocket.

    python -m benchmarks.webrtc [--rounds 5] [--pictures 40] [--out FILE]

A client on the same machine sends a stroke, waits until its picture is decoded, and rests until a tenth of a second has
passed. The latency is the time of one; the CPU is the server's for each, all its threads together, the frames by which
WebRTC shows a picture again among it. Both ways take turns; the figures are medians. Nothing is lost, and there is no
way to go: what a network does to either is not seen here. Needs the extra `webrtc`.
"""

import argparse
import asyncio
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aioice.ice
import httpx
import PIL.Image
import psutil
import pybase64
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, rtcrtpreceiver
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from pydantic import BaseModel

import streamapp
import streamapp_client

from .figures import machine

PORT = 8797
URL = f"http://127.0.0.1:{PORT}"
SIZES = (128, 512)
LIGHT, DARK = 255, 0
EVERY_S = 0.1

Draw = Callable[[int, int], Awaitable[None]]


class Stroke(BaseModel):
    size: int = 128
    light: int = LIGHT


class Painter(streamapp.App):
    @streamapp.realtime("/paint", webrtc=True)
    def paint(self, stroke: Stroke, stream: streamapp.Stream) -> None:
        """Answer with a picture that no encoder finds easy, light or dark in the middle."""
        noise = PIL.Image.effect_noise((stroke.size, stroke.size), 40).convert("RGB")
        noise.paste((stroke.light,) * 3, (stroke.size // 4, stroke.size // 4, stroke.size // 2, stroke.size // 2))
        stream.preview(noise)


class AtOnce(JitterBuffer):
    """Give a frame with its last packet, as browsers do; aiortc's own waits for the first one of the next."""

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        packets: list[Any] = []
        for count in range(self.capacity):
            packet = self._packets[(self._origin + count) % self.capacity]  # type: ignore[operator]
            if packet is None:
                break
            packets.append(packet)
            if packet.marker:
                self.remove(count + 1)
                return JitterFrame(b"".join(each._data for each in packets), packets[0].timestamp)
        return None


async def by_video(measure: Callable[[Draw], Awaitable[None]]) -> None:
    """Connect by WebRTC, and have it measured."""
    pc = RTCPeerConnection(RTCConfiguration([]))
    channel = pc.createDataChannel("streamapp.v1")
    video = pc.addTransceiver("video", direction="recvonly").receiver
    opened = asyncio.Event()
    channel.on("open", opened.set)
    await pc.setLocalDescription(await pc.createOffer())
    async with httpx.AsyncClient() as client:
        offer = {"type": "offer", "sdp": pc.localDescription.sdp}
        answer = (await client.post(f"{URL}/paint/webrtc", json=offer)).json()
    await pc.setRemoteDescription(RTCSessionDescription(**answer))
    await opened.wait()
    channel.send('.{"type":"open","resume_s":0}')
    drawn = 0

    async def draw(size: int, light: int) -> None:
        nonlocal drawn
        drawn += 1
        stroke = {"type": "input", "n": drawn, "data": {"size": size, "light": light}}
        channel.send("." + json.dumps(stroke))
        while True:
            frame: Any = await video.track.recv()
            middle = frame.to_ndarray(format="gray")[size * 3 // 8, size * 3 // 8] if frame.width == size else 128
            if abs(int(middle) - light) < 64:
                return

    try:
        await measure(draw)
    finally:
        await pc.close()


async def by_socket(measure: Callable[[Draw], Awaitable[None]]) -> None:
    """Connect by a WebSocket, and have it measured."""
    async with streamapp_client.AsyncClient(URL).connect("/paint") as session:

        async def draw(size: int, light: int) -> None:
            await session.send({"size": size, "light": light})
            async for event in session:
                if event.name == "preview":
                    picture = pybase64.b64decode(event.data["image"]["url"].partition(",")[2])
                    PIL.Image.open(io.BytesIO(picture)).load()
                    return

        await measure(draw)


WAYS = {"WebRTC, VP8": by_video, "WebSocket, JPEG": by_socket}


async def round_of(way: str, size: int, pictures: int, server: psutil.Process) -> dict[str, float]:
    """Draw some pictures; return the median latency and the server's CPU for each, in milliseconds."""
    latencies: list[float] = []
    used = 0.0

    async def measure(draw: Draw) -> None:
        nonlocal used
        await draw(size, DARK)  # what is made once
        before = sum(server.cpu_times()[:2])
        for n in range(pictures):
            began = time.perf_counter()
            await draw(size, (LIGHT, DARK)[n % 2])
            latencies.append(time.perf_counter() - began)
            await asyncio.sleep(EVERY_S - latencies[-1])
        used = sum(server.cpu_times()[:2]) - before

    await WAYS[way](measure)
    return {"latency_ms": 1000 * statistics.median(latencies), "cpu_ms": 1000 * used / pictures}


def measure_all(rounds: int, pictures: int) -> dict[str, dict[str, float]]:
    """Return the medians of the rounds, by way and size."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    rtcrtpreceiver.JitterBuffer = AtOnce  # type: ignore[misc]
    command = [sys.executable, "-m", "streamapp", "serve", "benchmarks.webrtc:Painter", "--port", str(PORT)]
    environment = {**os.environ, "STREAMAPP_WEBRTC_ADDRESSES": "127.0.0.1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            httpx.Client(transport=httpx.HTTPTransport(retries=20)).get(f"{URL}/ready", timeout=60)
            process = psutil.Process(server.pid)
            taken: dict[str, list[dict[str, float]]] = {}
            for _ in range(rounds):
                for way in WAYS:
                    for size in SIZES:
                        figures = asyncio.run(round_of(way, size, pictures, process))
                        taken.setdefault(f"{way}, {size} px", []).append(figures)
        finally:
            server.terminate()
    return {
        name: {figure: round(statistics.median(each[figure] for each in rows), 1) for figure in rows[0]}
        for name, rows in taken.items()
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = measure_all(options.rounds, options.pictures)
    for name, row in figures.items():
        print(f"{name:26} {row['latency_ms']:6.1f} ms   {row['cpu_ms']:6.1f} ms of CPU")
    if options.out is not None:
        options.out.write_text(json.dumps({"machine": machine(), "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
