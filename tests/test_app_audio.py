"""The app that plays music while it makes it: its synthesiser, its chunks, its file that grows; in a real browser.

With SCREENSHOTS in the environment the README's picture is made anew.
"""

import io
import os
import re
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import PIL.Image
import pytest
from numpy.typing import NDArray
from playwright.sync_api import expect
from tests.openai_package import openai_of
from tests.tabs import ROOT, Opener, Playground, running_jobs, serving
from tests.waiting import until

import streamapp
from streamapp.testing import TestClient
from streamapp_client import Event, InvalidInput

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.audio.app import Audio
from apps.audio.synthesiser import RATE, Synthesiser, compose, sound, style_of
from apps.audio.wav import Samples, Sketch, in_chunks, wav

QUICK: dict[str, Any] = {"prompt": "a happy dance", "duration_s": 3, "seed": 1, "speed": 100}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Audio) as client:
        yield client


def stream(client: TestClient, **input: Any) -> list[Event]:
    return [event for event in client.stream("/stream", {**QUICK, **input}) if event.name == "output"]


def performed(prompt: str = "a happy dance", *, duration_s: float = 12, seed: int = 1) -> Samples:
    return np.concatenate(list(Synthesiser().perform(prompt, duration_s=duration_s, seed=seed)))


def heard(event: Event) -> NDArray[np.int16]:
    """Return what the file in an event holds."""
    return frames_of(streamapp.Audio.from_data_uri(event.data["audio"]["url"]).data)


def frames_of(file: bytes) -> NDArray[np.int16]:
    """Return what a WAV file holds, by the reader of Python's own."""
    with wave.open(io.BytesIO(file)) as sounds:
        assert (sounds.getnchannels(), sounds.getsampwidth(), sounds.getframerate()) == (2, 2, RATE)
        return np.frombuffer(sounds.readframes(sounds.getnframes()), "<i2").reshape(-1, 2)


# The synthesiser


@pytest.mark.parametrize("duration_s", [1, 2.2, 7.00003, 30])
def test_a_piece_is_as_long_as_asked_for_to_the_sample(duration_s: float) -> None:
    assert len(performed(duration_s=duration_s)) == round(duration_s * RATE)


def test_the_same_seed_plays_the_same_and_another_one_does_not() -> None:
    assert np.array_equal(performed(), performed())
    assert not np.array_equal(performed(), performed(seed=2))


def test_bars_join_to_the_bit_as_if_all_notes_had_been_added_at_once() -> None:
    """A longer piece has the same beginning: what a bar leaves to the next one is all that there is of it."""
    short, long = performed(duration_s=20), performed(duration_s=40)
    faded = 2 * RATE
    assert np.array_equal(short[:-faded], long[: len(short) - faded])


@pytest.mark.parametrize("prompt", ["a happy dance", "slow organ", "bells in the rain, 200 bpm", "flute, 40 bpm", ""])
def test_it_is_loud_and_never_clips(prompt: str) -> None:
    played = performed(prompt, duration_s=30)
    assert 0.3 < np.abs(played).max() < 1
    assert 0.05 < np.sqrt(np.mean(played**2)) < 0.35


@pytest.mark.parametrize("prompt", ["calm piano without drums", "organ without drums", "flute, no drums"])
def test_nothing_clicks(prompt: str) -> None:
    """A click has all frequencies; above 12 kHz these instruments have nothing."""
    played = performed(prompt, duration_s=20)[:, 0].astype(float)
    blocks = played[: len(played) // 1024 * 1024].reshape(-1, 1024) * np.hanning(1024)
    spectrum = np.abs(np.fft.rfft(blocks)) ** 2
    assert (spectrum[:, 384:].sum(1) / 1024 < 1e-6).all()


def test_a_piece_begins_and_ends_in_silence() -> None:
    played = performed()
    assert np.abs(played[0]).max() < 1e-3
    assert np.abs(played[-1]).max() == 0


@pytest.mark.parametrize("voice", ["pad", "piano", "bell", "organ", "flute", "bass", "kick", "snare", "hat"])
def test_a_note_begins_and_ends_in_silence(voice: Any) -> None:
    note = sound(voice, 60, RATE)
    assert (abs(note[0]), abs(note[-1])) == (0, 0)
    assert np.abs(note).max() > 0.1


def test_a_tone_has_its_pitch() -> None:
    tone = sound("flute", 69, RATE)
    assert abs(int(np.abs(np.fft.rfft(tone[:RATE])).argmax()) - 440) <= 1


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (
            "slow organ in D minor, 80 bpm",
            {"key": 2, "is_minor": True, "bpm": 80, "melody": "organ", "has_drums": False},
        ),
        ("key of F# major", {"key": 6, "is_minor": False, "has_drums": True, "has_bass": True}),
        ("B flat minor", {"key": 10, "is_minor": True}),
        ("a SAD flute without bass", {"is_minor": True, "melody": "flute", "has_bass": False}),
        ("calm, with drums", {"has_drums": True}),
        ("without drums and bass, bells", {"has_drums": False, "has_bass": False, "melody": "bell"}),
        ("no melody, bass or drums", {"has_drums": False, "has_bass": False, "melody": None}),
        ("slow organ without the bells", {"melody": "organ"}),
        ("no piano, no beats", {"melody": None, "has_drums": False, "has_bass": True}),
        ("c-sharp minor", {"key": 1, "is_minor": True}),
        ("in b\N{MUSIC FLAT SIGN} major", {"key": 10, "is_minor": False}),
        ("dance without drums and no melody", {"has_drums": False, "melody": None}),
        ("9 bpm, 999 bpm", {"bpm": 200}),
        ("10 bpm", {"bpm": 40}),
        ("glad dancers, badminton in the sadlands", {"is_minor": False, "melody": "piano"}),
        ("a sharp knife", {"melody": "piano"}),
        ("", {"melody": "piano", "is_minor": False, "has_bass": True, "has_drums": True}),
        ("дождь \U0001f3b5 \x00", {"melody": "piano"}),
    ],
)
def test_words_of_the_prompt_choose_how_it_sounds(prompt: str, told: dict[str, Any]) -> None:
    style = style_of(prompt, 1)
    assert {name: getattr(style, name) for name in told} == told


def test_slow_is_slower_than_fast_whatever_the_seed() -> None:
    assert all(style_of("slow", seed).bpm < style_of("", seed).bpm < style_of("fast", seed).bpm for seed in range(50))


def test_all_notes_are_of_the_key() -> None:
    style = style_of("in c major", 1)
    bars = compose(style, 1)
    tones = [note.pitch for _ in range(40) for note in next(bars) if note.voice not in ("kick", "snare", "hat")]
    assert {pitch % 12 for pitch in tones} <= {0, 2, 4, 5, 7, 9, 11}


# Chunks


@pytest.mark.parametrize("pieces", [[10], [3, 3, 4], [1] * 10, [7, 5], [0, 10, 0], [12]])
def test_chunks_are_all_of_the_pieces_and_no_more(pieces: list[int]) -> None:
    whole = np.arange(24, dtype=np.float32).reshape(-1, 2)
    ends = np.cumsum(pieces)
    chunks = list(in_chunks(np.split(whole, ends)[:-1], size=4, total=10))
    assert [len(chunk) for chunk in chunks if not isinstance(chunk, Sketch)] == [4, 4, 2]
    assert np.array_equal(np.concatenate([c for c in chunks if not isinstance(c, Sketch)]), whole[:10])


def test_what_is_too_loud_is_clipped_and_does_not_turn_over() -> None:
    assert frames_of(wav(np.array([[2, -2]], np.float32), RATE)).tolist() == [[32767, -32767]]


# The app


def test_the_chunks_of_a_stream_are_to_the_bit_the_whole_file(client: TestClient) -> None:
    *chunks, whole = stream(client, chunk_s=0.7)
    joined = np.concatenate([heard(chunk) for chunk in chunks])
    assert np.array_equal(joined, heard(whole))
    assert len(joined) == 3 * RATE


def test_a_chunk_says_where_it_begins(client: TestClient) -> None:
    *chunks, whole = stream(client, chunk_s=1.3)
    assert [(chunk.data["chunk"], chunk.data["start_s"]) for chunk in chunks] == [(0, 0), (1, 1.3), (2, 2.6)]
    assert {chunk.data["sample_rate"] for chunk in chunks} == {RATE}
    assert whole.data.keys() == {"audio", "duration_s", "sample_rate", "seed"}
    assert (whole.data["duration_s"], whole.data["seed"]) == (3, 1)


@pytest.mark.parametrize(("chunk_s", "total"), [(0.1, 30), (0.3, 10), (0.7, 5), (5, 1)])
def test_progress_counts_all_chunks(client: TestClient, chunk_s: float, total: int) -> None:
    events = list(client.stream("/stream", {**QUICK, "chunk_s": chunk_s}))
    assert [e.data for e in events if e.name == "progress"][-1] == {"step": total, "total": total}


def test_a_drawn_seed_is_told_and_plays_the_same_again(client: TestClient) -> None:
    first = stream(client, seed=None)[-1]
    assert stream(client, seed=first.data["seed"])[-1].data == first.data


def test_the_file_that_grows_is_what_the_stream_ends_with(client: TestClient) -> None:
    response = client.get("/audio.wav", params=QUICK)
    assert response.headers["content-type"] == "audio/wav"
    assert client.post("/audio.wav", json=QUICK).content == response.content
    assert np.array_equal(frames_of(response.content), heard(stream(client)[-1]))


def test_a_file_that_is_asked_for_again_is_the_same(client: TestClient) -> None:
    link = "/audio.wav?prompt=rain&duration_s=2&speed=100"
    assert client.get(link).content == client.get(link).content != client.get(link.replace("rain", "sun")).content


def test_the_file_begins_before_it_is_made(client: TestClient) -> None:
    """It may be made as fast as it is heard, and no faster: nobody waits that long."""
    with client.http.stream("GET", "/audio.wav", params={**QUICK, "duration_s": 180, "speed": 1}) as response:
        beginning = next(response.iter_raw())
    assert beginning[:4] == b"RIFF"
    assert int(response.headers["content-length"]) == 44 + 4 * 180 * RATE


def test_it_is_cancelled_in_the_middle(client: TestClient) -> None:
    with client.stream("/stream", {**QUICK, "duration_s": 180, "speed": 1}) as events:
        next(events)
        job = client.job(events.job_id)
    assert stream(client)  # the worker is free again
    assert job.status == "cancelled"


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": None},
        {"prompt": "a" * 2001},
        {"duration_s": 0.5},
        {"duration_s": 181},
        {"duration_s": "inf"},
        {"duration_s": "nan"},
        {"seed": -1},
        {"seed": 2**32},
        {"chunk_s": 0.05},
        {"chunk_s": 6},
        {"speed": 0},
    ],
)
def test_an_input_out_of_bounds_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        stream(client, **wrong)
    assert refusal.value.detail[0]["loc"][-1] == next(iter(wrong))


def test_openai_s_client_hears_one_wav_while_it_is_made(client: TestClient) -> None:
    said = {"duration_s": 2, "seed": 3}
    speech = openai_of(client).audio.speech
    asked: dict[str, Any] = {"model": "audio", "voice": "alloy", "input": "slow organ"}
    with speech.with_streaming_response.create(**asked, extra_body=said) as answer:
        pieces = [*answer.iter_bytes()]
    assert answer.headers["content-type"] == "audio/wav"
    assert len(pieces) > 2
    assert np.array_equal(frames_of(b"".join(pieces)), heard(stream(client, prompt="slow organ", **said)[-1]))
    with pytest.raises(openai.BadRequestError, match="write wav or pcm"):
        speech.create(**asked, response_format="mp3")


# In the playground


def test_it_is_heard_while_it_is_made_until_it_is_cancelled(playground: Opener) -> None:
    with serving("apps/audio/app.py") as server:
        tab = playground(server, viewport={"width": 1280, "height": 720}).open("/stream", duration_s=60, speed=2)
        tab.field("Prompt").fill("happy dance in D major with drums")
        tab.run()
        until(lambda: tab.loudness() > 0.1)
        tab.ends("running")
        expect(tab.output).to_contain_text(re.compile("0:0[4-9] / "))
        take_picture(tab)
        tab.cancel().ends("cancelled")
        until(lambda: tab.loudness() == 0)
        expect(tab.button("Play")).to_be_visible()


@pytest.mark.long
def test_a_page_plays_the_file_while_it_grows_and_ends_it_by_leaving(playground: Opener) -> None:
    with serving("apps/audio/app.py") as server:
        page = playground(server).page
        page.goto(f"{server}/health")
        page.evaluate("document.onclick = () => (window.sound = new Audio('/audio.wav?prompt=bells&speed=1')).play()")
        page.click("body")
        until(lambda: page.evaluate("window.sound.currentTime") > 0)
        assert running_jobs(server) == 1
        page.goto("about:blank")
        until(lambda: running_jobs(server) == 0)


def take_picture(tab: Playground) -> None:
    """Keep what the tab shows, where pictures are wanted."""
    if "SCREENSHOTS" in os.environ:
        picture = PIL.Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB")
        picture.quantize(64).save(ROOT / "apps" / "audio" / "screenshot.png", optimize=True)
