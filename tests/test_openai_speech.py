"""OpenAI's requests for speech become an endpoint's input; its sound is sent while it is made, as one file."""

import base64
import io
import json
import threading
import wave
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send
from tests import at_work
from tests.asgi_client import Client
from tests.served import blocks
from tests.waiting import WAIT_S

import streamapp
import streamapp.testing
from streamapp.endpoint import inspect_endpoint
from streamapp.errors import DefinitionError, EndpointFailed, InvalidInput, NotEncodable
from streamapp.fetch import MediaLimits
from streamapp.inputs import InputReader
from streamapp.jobs.events import to_event
from streamapp.jobs.job import Job
from streamapp.openai.answers import answer_for
from streamapp.openai.asked import Asked
from streamapp.openai.speech import Speech
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles

SETTINGS = Settings()


class Spoken(BaseModel):
    text: str
    voice: str = "alloy"
    instructions: str = ""
    speed: float = 1.0
    pitch: int = 0


class Says(streamapp.App):
    @streamapp.endpoint("/speak")
    def speak(self, input: Spoken) -> Iterator[Any]:
        raise NotImplementedError

    @streamapp.endpoint("/plain")
    def plain(self, prompt: str) -> Iterator[Any]:
        raise NotImplementedError

    @streamapp.endpoint("/once")
    def once(self, prompt: str) -> streamapp.Audio:
        raise NotImplementedError

    @streamapp.endpoint("/wordless")
    def wordless(self, seed: int) -> None: ...


@pytest.fixture
def files() -> Iterator[LocalFiles]:
    files = LocalFiles(SETTINGS)
    yield files
    files.close()


@pytest.fixture
def ask(files: LocalFiles) -> Callable[..., Asked]:
    def asked(name: str = "plain", **body: Any) -> Asked:
        spec = inspect_endpoint(getattr(Says, name))
        reader = InputReader(spec, MediaLimits.of(SETTINGS))
        return Speech(spec, reader.adapter, files).asked({"input": "Hello", "voice": "alloy", **body})

    return asked


def wav(samples: bytes, *, rate: int = 8000, channels: int = 1, width: int = 2) -> streamapp.Audio:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(channels)
        written.setsampwidth(width)
        written.setframerate(rate)
        written.writeframes(samples)
    return streamapp.Audio(file.getvalue())


def chunk(samples: bytes, **form: Any) -> dict[str, Any]:
    return {"start_s": 0, "audio": wav(samples, **form)}


def made(*outputs: Any, failure: Exception | None = None) -> Job:
    """Return a job that is over and has emitted outputs."""
    job = at_work.new()
    job.start()
    for output in outputs:
        job.channel.emit(to_event(output))
    if failure is None:
        job.succeed(None)
    else:
        job.fail(failure)
    return job


def answered(asked: Asked, job: Job) -> Any:
    answer = asked.answer
    assert answer is not None

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(job, SETTINGS)(scope, receive, send)

    return TestClient(app).get("/")


def samples(data: bytes) -> bytes:
    """Return the samples of a WAV as the standard library reads them."""
    with wave.open(io.BytesIO(data)) as read:
        return bytes(read.readframes(read.getnframes()))


def refused(answer: Any) -> str:
    """Return the field that an answer refuses."""
    assert answer.status_code == 422  # which the face tells as 400
    field: str = answer.json()["detail"][0]["loc"][1]
    return field


Ask = Callable[..., Asked]


def test_the_text_is_given_in_the_word_of_the_input(ask: Ask) -> None:
    assert ask().input == {"prompt": "Hello"}
    said = {"voice": "ash", "speed": 1.5, "instructions": "Whisper.", "pitch": 2}
    assert ask("speak", model="tts-1", **said).input == {"text": "Hello", **said}
    assert ask("speak", voice={"id": "voice_1"}).input["voice"] == "voice_1"


@pytest.mark.parametrize("said", [{"speed": 1}, {"instructions": ""}, {"voice": None}, {"response_format": None}])
def test_what_holds_anyway_may_be_said(ask: Ask, said: dict[str, Any]) -> None:
    assert ask(**said).input == {"prompt": "Hello"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("input", ""), ("input", None), ("speed", 2), ("speed", 9), ("instructions", "Whisper."), ("voice", 1)),
        *(("response_format", "midi"), ("stream_format", "text"), ("pitch", 2)),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_field(ask: Ask, field: str, value: Any) -> None:
    with pytest.raises(RequestValidationError) as refusal:
        ask(**{field: value})
    assert refusal.value.errors()[0]["loc"][1] == field


def test_an_endpoint_without_a_text_is_refused_where_it_is_named(ask: Ask) -> None:
    with pytest.raises(DefinitionError, match=r"OpenAI\(speech='/wordless'\) on Says.wordless"):
        ask("wordless")


def test_chunks_are_one_wav_and_the_whole_is_not_sent_again(ask: Ask) -> None:
    job = made(chunk(b"abcd"), {"text": "no sound"}, chunk(b"efgh"), {"audio": wav(b"abcdefgh")})
    answer = answered(ask(), job)
    assert answer.headers["content-type"] == "audio/wav"
    assert answer.headers["x-streamapp-job-id"] == job.id
    assert samples(answer.content) == b"abcdefgh"
    assert answer.content.count(b"RIFF") == 1


def test_outputs_that_are_no_chunks_are_one_sound_all_the_same(ask: Ask) -> None:
    assert samples(answered(ask(), made(wav(b"abcd"), wav(b"ef"))).content) == b"abcdef"


def test_one_sound_alone_is_sent_as_it_is(ask: Ask) -> None:
    whole = wav(b"abcd")
    assert answered(ask("once"), made(whole)).content == whole.data


def test_an_endpoint_that_tells_of_one_sound_has_no_second(ask: Ask) -> None:
    telling = ask("once", stream_format="sse").telling
    assert telling.told(to_event(wav(b"abcd")))
    with pytest.raises(NotEncodable, match="expected one output"):
        telling.told(to_event(wav(b"ef")))


def test_pcm_is_samples_and_the_content_type_says_which(ask: Ask) -> None:
    for name in ("once", "plain"):
        answer = answered(ask(name, response_format="pcm"), made(wav(b"abcdefgh", rate=24_000, channels=2)))
        assert (answer.content, answer.headers["content-type"]) == (b"abcdefgh", "audio/pcm;rate=24000;channels=2")


def test_another_format_is_sent_as_it_is_made(ask: Ask) -> None:
    pieces = [streamapp.Audio(b"ID3" + bytes([n]), "audio/mpeg") for n in range(3)]
    for format in ("mp3", None):
        answer = answered(ask(response_format=format), made(*pieces))
        assert answer.headers["content-type"] == "audio/mpeg"
        assert answer.content == b"".join(piece.data for piece in pieces)


@pytest.mark.parametrize("format", ["mp3", "opus", "aac", "flac"])
def test_a_format_that_the_endpoint_does_not_make_is_refused_and_ends_its_job(ask: Ask, format: str) -> None:
    answer = answered(ask(response_format=format), made(wav(b"abcd")))
    assert refused(answer) == "response_format"
    assert "write wav or pcm" in answer.text


def test_a_wav_cannot_be_had_of_another_format(ask: Ask) -> None:
    for format in ("wav", "pcm"):
        answer = answered(ask(response_format=format), made(streamapp.Audio(b"fLaC", "audio/flac")))
        assert refused(answer) == "response_format"


def test_pcm_of_other_than_16_bits_is_refused(ask: Ask) -> None:
    assert refused(answered(ask(response_format="pcm"), made(wav(b"ab", width=1)))) == "response_format"


@pytest.mark.parametrize(
    "outputs",
    [
        *([], ["text"], [{"audio": None}], [{"audio": "https://example.com/a.wav"}]),
        [streamapp.Audio(b"RIFF\0\0\0\0WAVE")],
        [{"url": "data:audio/wav;base64,?", "content_type": "audio/wav"}],
    ],
)
def test_a_job_without_a_sound_is_the_endpoint_s_fault(ask: Ask, outputs: list[Any]) -> None:
    assert answered(ask(), made(*outputs)).status_code == 500


def test_a_failure_before_the_first_sound_is_an_answer(ask: Ask) -> None:
    assert answered(ask(), made(failure=InvalidInput("prompt: too loud"))).status_code == 422
    assert answered(ask(), made(failure=EndpointFailed("broken"))).status_code == 500


@pytest.mark.parametrize("other", [chunk(b"ef", rate=16_000), streamapp.Audio(b"ID3", "audio/mpeg")])
def test_a_sound_that_does_not_go_on_as_it_began_breaks_off(ask: Ask, other: Any) -> None:
    telling = ask(stream_format="sse").telling
    assert telling.told(to_event(wav(b"abcd")))
    with pytest.raises(NotEncodable):
        telling.told(to_event(other))


def test_files_of_the_server_are_read(ask: Ask, files: LocalFiles) -> None:
    url = files.publish(wav(b"abcd"), base_url="http://testserver")
    assert samples(answered(ask(), made({"audio": {"url": url}})).content) == b"abcd"


def test_events_hold_the_same_bytes(ask: Ask) -> None:
    asked, outputs = ask(stream_format="sse"), [chunk(b"abcd"), chunk(b"efgh")]
    assert asked.answer is None and asked.encodes_media and not asked.says_done
    told = b"".join(asked.telling.told(to_event(output)) for output in outputs)
    events = [json.loads(block["data"]) for block in blocks((told + asked.telling.ended(made(*outputs))).decode())]
    assert [event["type"] for event in events] == ["speech.audio.delta"] * 2 + ["speech.audio.done"]
    assert samples(b"".join(base64.b64decode(event["audio"]) for event in events[:2])) == b"abcdefgh"
    assert events[2]["usage"] == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


def test_events_without_a_sound_end_as_a_failure(ask: Ask) -> None:
    telling = ask(stream_format="sse").telling
    assert telling.told(to_event(streamapp.Preview({"audio": wav(b"ab")}))) == b""
    with pytest.raises(NotEncodable, match="expected outputs that hold audio"):
        telling.ended(made("text"))


async def test_who_does_not_read_is_cut_off(ask: Ask) -> None:
    job, client = Job(at_work.request(), SETTINGS), Client()
    client.is_stuck_at = "http.response.body"
    job.channel.emit(to_event(chunk(b"abcd")), waits=False)
    await client.call(answer_for(job, ask(), SETTINGS.model_copy(update={"send_timeout_s": 0.01})))
    assert (client.ended_by, job.status) == (["abort"], "cancelled")


async def test_a_reader_that_the_producer_gave_up_is_cut_off(ask: Ask) -> None:
    job = Job(at_work.request(), SETTINGS.model_copy(update={"ahead_events": 1, "send_timeout_s": 0.01}))
    client = Client()
    client.is_stuck_at = "http.response.body"
    job.channel.emit(to_event(chunk(b"abcd")), waits=False)
    answering = client.call(answer_for(job, ask(), SETTINGS))
    await client.until(messages=2)
    for samples in (b"ef", b"gh"):
        await job.channel.aemit(to_event(chunk(samples)))
    client.read_on()
    await answering
    assert (client.ended_by, job.status) == (["abort"], "cancelled")


async def test_a_sound_of_which_the_beginning_is_no_longer_kept_is_an_error(ask: Ask) -> None:
    job = Job(at_work.request(is_detached=True), SETTINGS.model_copy(update={"behind_events": 1}))
    for samples in (b"ab", b"cd", b"ef"):
        job.channel.emit(to_event(chunk(samples)))
    job.succeed(None)
    client = Client()
    await client.call(answer_for(job, ask(), SETTINGS))
    assert (client.status, "not read in time" in client.body) == (500, True)


class Speaker(streamapp.App):
    openai = streamapp.OpenAI(speech="/speak")

    def setup(self) -> None:
        self.left = threading.Event()

    @streamapp.endpoint("/speak")
    def speak(self, text: str) -> Iterator[Any]:
        try:
            yield chunk(b"abcd")
            while text == "on and on":
                yield chunk(b"efgh")
            raise ValueError("a secret")
        finally:
            self.left.set()


@pytest.fixture(scope="module")
def speaker() -> Iterator[tuple[Speaker, httpx.Client]]:
    app = Speaker()
    with streamapp.testing.TestClient(app) as client:
        yield app, client.http


def test_a_failure_behind_the_first_sound_cuts_the_connection(speaker: tuple[Speaker, httpx.Client]) -> None:
    with speaker[1].stream("POST", "/v1/audio/speech", json={"input": "Hello"}) as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            answer.read()


def test_who_leaves_ends_the_speech(speaker: tuple[Speaker, httpx.Client]) -> None:
    app, http = speaker
    app.left.clear()
    with http.stream("POST", "/v1/audio/speech", json={"input": "on and on"}) as answer:
        assert next(answer.iter_raw()).startswith(b"RIFF")
    assert app.left.wait(WAIT_S)


def test_errors_are_in_openai_s_shape(speaker: tuple[Speaker, httpx.Client]) -> None:
    for stream_format in ("audio", "sse"):
        asked = {"input": "Hello", "response_format": "opus", "stream_format": stream_format}
        answer = speaker[1].post("/v1/audio/speech", json=asked)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format")
        assert answer.headers["x-streamapp-job-id"]
