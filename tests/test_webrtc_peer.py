"""Sessions by WebRTC, from the offer to the end of the connection; the client is aiortc's, both are on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import PIL.Image
import pytest
from pydantic import BaseModel
from pyee.asyncio import AsyncIOEventEmitter
from starlette.testclient import TestClient
from tests.at_work import Gate
from tests.served import drain, runtime_of
from tests.waiting import until
from tests.webrtc_browser import Browser, browsers_are_here, color_of, opened, served  # noqa: F401 - a fixture

import streamapp
from streamapp.budget import Budget
from streamapp.webrtc.datasocket import DataSocket


class Stroke(BaseModel):
    color: str = "red"
    size: int = 64


def painted(stroke: Stroke) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (stroke.size, stroke.size), stroke.color)


class Answer(BaseModel):
    picture: streamapp.Image
    color: str


class Painter(streamapp.App):
    gate: Gate

    @streamapp.realtime("/rt", webrtc=True, buffering=1)
    def paint(self, stroke: Stroke, stream: streamapp.Stream) -> dict[str, Any]:
        stream.preview(PIL.Image.new("RGB", (32, 32), "white"), step=1, total=2)
        return {"image": painted(stroke), "mask": painted(stroke), "color": stroke.color}

    @streamapp.realtime("/server-streaming", webrtc=True)
    def each(self, stroke: Stroke) -> Iterator[PIL.Image.Image]:
        yield painted(stroke)

    @streamapp.realtime("/client-streaming", webrtc=True)
    async def last(self, strokes: AsyncIterator[Stroke]) -> Answer:
        async for stroke in strokes:
            return Answer(picture=streamapp.Image.from_pil(painted(stroke)), color=stroke.color)
        raise AssertionError

    @streamapp.realtime("/bidi", webrtc=True)
    async def all(self, strokes: AsyncIterator[Stroke]) -> AsyncIterator[list[PIL.Image.Image]]:
        async for stroke in strokes:
            yield [painted(stroke)]

    @streamapp.realtime("/text", webrtc=True)
    async def text(self, stroke: Stroke) -> str:
        return stroke.color * stroke.size

    @streamapp.realtime("/wait", webrtc=True)
    def wait(self, stroke: Stroke) -> str:
        return self.gate()


@pytest.fixture
def client() -> Iterator[TestClient]:
    with served(Painter()) as client:
        yield client


async def becomes(is_true: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, is_true)


def peers(client: TestClient) -> int:
    count: int = len(client.app.state.peers)  # type: ignore[attr-defined]
    return count


def video(size: int, frame: int) -> dict[str, Any]:
    return {"content_type": "video", "width": size, "height": size, "frame": frame}


async def test_inputs_go_over_the_channel_and_images_come_as_a_video(client: TestClient) -> None:
    async with opened(client) as browser:
        await browser.open()
        browser.say(type="input", n=1, data={"color": "blue"})
        assert await browser.event("preview") == {"image": video(32, 1), "step": 1, "total": 2}
        output = await browser.event()
        assert (output["image"], output["color"]) == (video(64, 2), "blue")
        assert output["mask"]["content_type"] == "image/png"
        assert color_of(await browser.sees(64, 64)) == "blue"
        browser.say(type="finish")
        assert (await browser.event("done"))["status"] == "succeeded"
        assert await browser.heard("close") == {"type": "close", "code": 1000, "reason": ""}


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/server-streaming", video(64, 1)),
        ("/client-streaming", {"picture": video(64, 1), "color": "green"}),
        ("/bidi", [video(64, 1)]),
    ],
)
async def test_every_mode_shows_its_images(client: TestClient, path: str, answer: Any) -> None:
    async with opened(client, path) as browser:
        await browser.open()
        browser.say(type="input", n=1, data={"color": "green"})
        assert await browser.event() == answer
        assert color_of(await browser.sees(64, 64)) == "green"


async def test_images_may_change_their_size(client: TestClient) -> None:
    async with opened(client, "/bidi") as browser:
        await browser.open()
        for n, size in enumerate((64, 128, 33), 1):
            browser.say(type="input", n=n, data={"size": size})
            assert await browser.event() == [video(size // 2 * 2, n)]
            await browser.sees(size // 2 * 2, size // 2 * 2)


async def test_a_client_without_a_video_hears_of_the_images_all_the_same(client: TestClient) -> None:
    async with opened(client, "/text", has_video=False) as browser:
        await browser.open()
        browser.say(type="input", n=1, data={"color": "é", "size": 40_000})
        assert await browser.event() == "é" * 40_000


async def test_a_session_goes_on_over_another_offer_with_the_newest_image(client: TestClient) -> None:
    async with opened(client, "/bidi") as browser:
        session = await browser.open(resume_s=60)
        browser.say(type="input", n=1, data={"color": "green"})
        first = await browser.heard("event")
    async with opened(client, "/bidi") as browser:
        browser.say(type="resume", job_id=session["job_id"], key=session["key"], last_event_id=first["id"])
        assert (await browser.heard("session"))["received"] == 1
        assert color_of(await browser.sees(64, 64)) == "green"
        browser.say(type="input", n=2, data={"color": "red", "size": 32})
        assert await browser.event() == [video(32, 2)]
        browser.say(type="finish")
        await browser.heard("close")


async def test_a_session_that_goes_on_over_a_websocket_has_its_images_written_out(client: TestClient) -> None:
    async with opened(client, "/bidi") as browser:
        session = await browser.open(resume_s=60)
        browser.say(type="input", n=1, data={})
        first = await browser.heard("event")
    with client.websocket_connect("/bidi", subprotocols=["streamapp.v1"]) as socket:
        frame = {"type": "resume", "job_id": session["job_id"], "key": session["key"], "last_event_id": first["id"]}
        socket.send_text(json.dumps(frame))
        assert json.loads(socket.receive_text())["received"] == 1
        socket.send_text('{"type":"input","n":2,"data":{}}')
        assert json.loads(socket.receive_text())["data"][0]["url"].startswith("data:image/png")


async def test_who_watches_the_job_hears_which_frames_there_were(client: TestClient) -> None:
    async with opened(client, "/bidi") as browser:
        session = await browser.open()
        browser.say(type="input", n=1, data={})
        browser.say(type="finish")
        await browser.heard("close")
    events = client.get(f"/jobs/{session['job_id']}/events").text
    assert f"data: [{json.dumps(video(64, 1), separators=(',', ':'))}]" in events


async def test_a_session_without_a_window_ends_with_its_connection(client: TestClient) -> None:
    async with opened(client, "/bidi") as browser:
        session = await browser.open()
    await becomes(lambda: client.get(f"/jobs/{session['job_id']}").json()["status"] == "cancelled")


async def test_a_newer_connection_takes_a_session_over(client: TestClient) -> None:
    async with opened(client, "/bidi") as old, opened(client, "/bidi") as new:
        session = await old.open(resume_s=60)
        new.say(type="resume", job_id=session["job_id"], key=session["key"], last_event_id=None)
        await new.heard("session")
        assert (await old.heard("close"))["code"] == 4409


async def test_with_its_session_the_connection_goes_and_nothing_of_it_is_left(client: TestClient) -> None:
    assert client.portal is not None
    before = client.portal.call(asyncio.all_tasks)
    async with opened(client, "/bidi") as browser:
        assert peers(client) == 1
        await browser.open()
        browser.say(type="finish")
        await browser.heard("close")
        await becomes(lambda: peers(client) == 0)
    await becomes(lambda: len(client.portal.call(asyncio.all_tasks)) <= len(before))  # type: ignore[union-attr]
    assert len(runtime_of(client).places) == 0


@pytest.mark.parametrize(
    ("message", "code", "why"),
    [
        ('{"type":"open"}', 4400, "begin with"),
        (b".", 4400, "binary"),
        (".nothing", 4400, "frame of JSON"),
        ('.{"type":"resume","job_id":"a","key":"b","last_event_id":null}', 4404, "no session"),
        ("." + 2000 * "x", 1009, "larger than 1000 bytes"),
    ],
)
async def test_what_cannot_be_heard_is_refused(message: str | bytes, code: int, why: str) -> None:
    with served(Painter(), max_message_bytes=1000) as client:
        async with opened(client) as browser:
            browser.channel.send(message)
            assert why in (await browser.heard("refused"))["detail"]
            assert (await browser.heard("close"))["code"] == code


async def test_a_malformed_piece_cancels_the_session(client: TestClient) -> None:
    async with opened(client) as browser:
        session = await browser.open(resume_s=60)
        browser.channel.send("nothing")
        assert (await browser.heard("close"))["code"] == 4400
    assert client.get(f"/jobs/{session['job_id']}").json()["status"] == "cancelled"


async def test_who_sends_more_than_is_taken_is_seen_off(gate: Gate) -> None:
    app = Painter()
    app.gate = gate
    with served(app, max_message_bytes=2000) as client:
        async with opened(client, "/wait") as browser:
            await browser.open(resume_s=60)
            for n in range(1, 200):
                browser.say(type="input", n=n, data={"color": "red"})
            assert (await browser.heard("close"))["code"] == 1013
        gate.opened.set()


async def test_a_drain_ends_sessions_and_connections_that_have_none(client: TestClient) -> None:
    async with opened(client, "/bidi") as busy, opened(client, "/bidi") as idle:
        await busy.open()
        drain(client)
        assert (await busy.heard("close"))["code"] == 1012
        idle.say(type="open")
        assert (await idle.heard("close"))["code"] == 1012
        await becomes(lambda: peers(client) == 0)


async def test_a_connection_that_does_not_come_about_is_closed(client: TestClient, monkeypatch: Any) -> None:
    monkeypatch.setattr("streamapp.webrtc.peer._CONNECT_S", 0.01)
    offer = await (browser := Browser()).offer()
    assert client.post("/rt/webrtc", json=offer).status_code == 200
    await becomes(lambda: peers(client) == 0)
    assert len(runtime_of(client).places) == 0
    await browser.close()


async def test_a_connection_counts_as_a_session_until_it_has_one() -> None:
    with served(Painter(), max_sessions=1) as client:
        async with opened(client) as browser:
            offer = await (other := Browser()).offer()
            assert client.post("/rt/webrtc", json=offer).json()["error"]["code"] == "unavailable"
            await browser.open()
            assert len(runtime_of(client).places) == 1
            await other.close()


@pytest.mark.parametrize(
    "options", [{"label": "other"}, {"label": "streamapp.v1"}, {"label": "more", "ordered": False}]
)
async def test_a_client_that_opens_another_channel_is_cut(client: TestClient, options: dict[str, Any]) -> None:
    async with opened(client, "/bidi") as browser:
        session = await browser.open()
        browser.pc.createDataChannel(**options)
        await becomes(lambda: peers(client) == 0)
    assert client.get(f"/jobs/{session['job_id']}").json()["status"] == "cancelled"


async def test_a_frame_is_whole_though_another_is_due_meanwhile(client: TestClient) -> None:
    async with opened(client, "/text") as browser:
        await browser.open()
        browser.say(type="input", n=1, data={"color": "x", "size": 2_000_000})
        await becomes(lambda: browser.is_hearing)
        for n in range(2, 18):  # after 16 the server says that it has received them
            browser.say(type="input", n=n, data={"color": "x", "size": n})
        assert [len(await browser.event()) for _ in range(17)] == [2_000_000, *range(2, 18)]


async def test_outputs_of_many_pieces_come_whole_and_in_order(client: TestClient) -> None:
    async with opened(client, "/text") as browser:
        await browser.open()
        for n in range(1, 6):
            browser.say(type="input", n=n, data={"color": "x", "size": 200_000})
        assert [len(await browser.event()) for _ in range(5)] == 5 * [200_000]


async def test_an_offer_without_a_codec_of_ours_is_refused(client: TestClient) -> None:
    offer = await (browser := Browser()).offer()
    sdp = offer["sdp"].replace("VP8/90000", "VP7/90000")
    assert "can be answered" in client.post("/rt/webrtc", json={**offer, "sdp": sdp}).json()["detail"]
    await browser.close()


async def test_a_server_that_helps_and_is_away_stands_in_nobodys_way() -> None:
    away = {"urls": "turn:127.0.0.1:9?transport=tcp", "username": "u", "credential": "c"}
    with served(Painter(), webrtc_ice_servers=[away]) as client:
        async with opened(client, "/text") as browser:
            await browser.open()


async def test_a_machine_without_an_address_refuses_offers() -> None:
    offer = await (browser := Browser()).offer()
    await browser.close()
    with served(Painter(), webrtc_addresses=("192.0.2.123",)) as client:  # not this machine's
        assert client.post("/rt/webrtc", json=offer).json()["error_type"] == "unavailable"


class FullChannel(AsyncIOEventEmitter):
    """A data channel whose client has taken nothing yet."""

    readyState = "open"
    bufferedAmount = 0

    def send(self, piece: str) -> None:
        self.bufferedAmount += len(piece)


@pytest.mark.parametrize("end", ["bufferedamountlow", "close"])
async def test_who_sends_waits_until_the_client_has_taken_enough_or_gone(end: str) -> None:
    channel = FullChannel()
    socket = DataSocket(channel, Budget(1000).share("", channel), 1000)  # type: ignore[arg-type]
    async with asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(socket.send({"type": "websocket.send", "text": 70_000 * "x"}))
        await asyncio.wait({sending}, timeout=0.01)
        assert not sending.done()
        channel.bufferedAmount = 60_000 if end == "bufferedamountlow" else channel.bufferedAmount
        channel.emit(end)
