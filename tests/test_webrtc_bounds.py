"""What a client's packets may cost: each test sends what no browser does."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.rtcsctptransport import Chunk, DataChunk, InitChunk, RTCSctpTransport, SackChunk, serialize_packet
from aiortc.rtp import RTCP_RTPFB_NACK, RtcpRtpfbPacket
from starlette.testclient import TestClient
from tests.waiting import until
from tests.webrtc_browser import Browser, browsers_are_here, opened, served  # noqa: F401 - a fixture

import streamapp
from streamapp.webrtc import bounds

STRING = 51  # of a message's kind: https://www.rfc-editor.org/rfc/rfc8831#section-8
WHOLE, UNORDERED = 0x03, 0x04


class Echo(streamapp.App):
    @streamapp.realtime("/rt", webrtc=True)
    async def echo(self, input: dict[str, Any]) -> dict[str, Any]:
        return input


@pytest.fixture
def client() -> Iterator[TestClient]:
    with served(Echo()) as client:
        yield client


def association_of(browser: Browser) -> RTCSctpTransport:
    assert browser.pc.sctp is not None
    return browser.pc.sctp


async def send(browser: Browser, *chunks: Chunk) -> None:
    """Send what aiortc's own side would not, in one packet."""
    sctp = association_of(browser)
    ports = sctp._local_port, sctp._remote_port or 0
    body: Any = b"".join(map(bytes, chunks))
    await sctp.transport._send_data(serialize_packet(*ports, sctp._remote_verification_tag, body))


def piece(browser: Browser, ahead: int, **fields: Any) -> DataChunk:
    """Return a piece so many numbers ahead of the next."""
    chunk = DataChunk()
    chunk.tsn = (association_of(browser)._local_tsn + ahead) % 2**32
    chunk.stream_id, chunk.stream_seq, chunk.protocol, chunk.user_data = 1, 0, STRING, b"."
    vars(chunk).update(fields)
    return chunk


async def is_cut(client: TestClient) -> None:
    peers = client.app.state.peers  # type: ignore[attr-defined]
    await asyncio.to_thread(until, lambda: not peers)


def acknowledging(browser: Browser) -> list[Chunk]:
    chunk = SackChunk()
    chunk.cumulative_tsn, chunk.gaps = association_of(browser)._last_received_tsn or 0, [(1, 65_535)] * 250
    return [chunk]


def another_stream(browser: Browser) -> list[Chunk]:
    return [piece(browser, 0, stream_id=77)]


def second_beginning(browser: Browser) -> list[Chunk]:
    chunk = InitChunk()
    chunk.initiate_tag = chunk.advertised_rwnd = chunk.initial_tsn = 1
    chunk.inbound_streams = chunk.outbound_streams = 1
    return [chunk, chunk]


def no_text(browser: Browser) -> list[Chunk]:
    return [piece(browser, 0, stream_id=browser.channel.id, stream_seq=1, flags=WHOLE, user_data=b"\xff")]


@pytest.mark.parametrize("made", [acknowledging, another_stream, second_beginning, no_text])
async def test_who_sends_what_no_browser_does_is_cut_and_the_loop_goes_on(
    client: TestClient, made: Callable[[Browser], list[Chunk]], caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(client) as browser:
        await browser.open()
        await send(browser, *made(browser))
        await is_cut(client)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("flags", [0, WHOLE | UNORDERED])
async def test_pieces_that_wait_for_another_are_so_many_at_most(client: TestClient, flags: int) -> None:
    async with opened(client) as browser:
        await browser.open()
        for first in range(1, bounds._MOST_PIECES + 100, 50):  # the one before them does not come
            await send(
                browser, *(piece(browser, first + n, flags=flags, stream_id=browser.channel.id) for n in range(50))
            )
        await is_cut(client)


async def test_a_message_without_an_end_is_cut(client: TestClient) -> None:
    async with opened(client) as browser:
        await browser.open()
        association_of(browser)._remote_max_message_size = 0  # which the server has told, and this client does not heed
        browser.channel.send("." + 8_000_000 * "x")
        await is_cut(client)


async def test_a_message_without_an_end_is_cut_before_there_is_a_channel(client: TestClient) -> None:
    browser = Browser()
    sctp = association_of(browser)
    sctp._data_channel_queue.clear()  # in which the channel is, that opens with the association
    answer = await asyncio.to_thread(client.post, "/rt/webrtc", json=await browser.offer())
    await browser.pc.setRemoteDescription(RTCSessionDescription(**answer.json()))
    await asyncio.to_thread(until, lambda: sctp.state == "connected")
    await sctp._send(1, STRING, 8_000_000 * b"x")
    await sctp._transmit()
    await is_cut(client)
    await browser.close()


async def test_packets_of_the_video_are_sent_again_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    resent: list[int] = []

    async def resend(self: RTCRtpSender, number: int) -> None:
        resent.append(number)

    monkeypatch.setattr(RTCRtpSender, "_retransmit", resend)
    pc = RTCPeerConnection(RTCConfiguration([]))
    pc.createDataChannel("streamapp.v1")
    sender = pc.addTransceiver("video", direction="sendonly").sender
    bounds.bound(pc, lambda: None)
    asked = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=1, media_ssrc=1, lost=[5] * 2000)
    await sender._handle_rtcp_packet(asked)
    assert len(resent) == bounds._MOST_RESENT
    monkeypatch.setattr(bounds, "_RESENT_S", -1.0)
    await sender._handle_rtcp_packet(asked)
    assert len(resent) == bounds._MOST_RESENT + 2000
    await pc.close()
