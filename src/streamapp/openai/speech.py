"""Ask an endpoint for sound as OpenAI's `/v1/audio/speech` does, and send it while it is made.

The endpoint is an ordinary one of the app: its input has an `input`, `text` or `prompt`, and its outputs hold `audio`,
or are it. Outputs with `start_s` are chunks of one sound, as in the playground: what comes after them without it is the
whole once more, and is left out. Of an endpoint without such all outputs are one sound, one after another.

WAV is sent as one file, of which nobody knows yet how long it will be: its sizes are the largest there are, as FFmpeg
writes them into a pipe. What is no WAV is sent as it comes. Nothing is encoded here but WAV to PCM.

Source: https://platform.openai.com/docs/api-reference/audio/createSpeech, and the types of `openai` 3.57.

Divergences: without a `response_format` the sound is what the endpoint makes, not MP3; the content type says which. PCM
has the rate and channels of the endpoint's sound, which its content type tells, not 24 kHz in any case. A `voice`, that
clients have to name, is without effect where the endpoint has one voice. No tokens are counted: `usage` is zeros.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import pybase64
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..endpoint import EndpointSpec
from ..errors import DefinitionError, ErrorReport, InvalidInput, NotEncodable, StreamAppError, describe
from ..http.connection import Connection
from ..http.response import ErrorResponse
from ..jobs.events import Event, encode
from ..jobs.job import Job
from ..media import File
from ..process.threads import in_encoder
from ..settings import Settings
from ..stores.files import FileStore
from .asked import Asked, fields_of, file_at, own_fields, read_body, refusal

_TEXTS = ("input", "text", "prompt")
_TYPES = {
    "mp3": {"audio/mpeg", "audio/mp3"},
    "opus": {"audio/ogg", "audio/opus"},
    "aac": {"audio/aac", "audio/mp4"},
    "flac": {"audio/flac", "audio/x-flac"},
    "wav": {"audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave"},
}
_UNKNOWN_SIZE = 0xFFFFFFFF
_INTEGERS, _EXTENSIBLE = 1, 0xFFFE  # of the forms of samples in a WAV
_USAGE = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


class _Voice(BaseModel):
    id: str


class _Body(BaseModel):
    """Hold what OpenAI documents."""

    model_config = ConfigDict(strict=True)

    input: Annotated[str, Field(min_length=1)]
    model: str | None = None
    voice: str | _Voice | None = None
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None = None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None = None
    stream_format: Literal["sse", "audio"] | None = None


_DOCUMENTED = frozenset(_Body.model_fields)


class Speech:
    """Ask one endpoint for sound.

    Args:
        adapter: of the endpoint's input.
        files: the server's, where the job's larger files are.
    Raises:
        DefinitionError: the endpoint cannot be asked so.
    """

    def __init__(self, spec: EndpointSpec, adapter: TypeAdapter[Any], files: FileStore) -> None:
        self._spec = spec
        self._files = files
        self._fields = fields_of(adapter)
        text = next((name for name in _TEXTS if name in self._fields), None)
        if text is None or spec.kind == "response":
            raise DefinitionError(
                f"OpenAI(speech={spec.path!r}) on {spec.function.__qualname__}: expected an endpoint whose input has "
                "an input, text or prompt, and whose outputs hold audio"
            )
        self._text = text

    def asked(self, given: Mapping[str, Any]) -> Asked:
        """Return what a request's body asks for.

        Raises:
            RequestValidationError: a field is not as documented, or cannot be honoured.
        """
        body = read_body(_Body, given)
        input = own_fields(given, self._fields, _DOCUMENTED) | self._said(body) | {self._text: body.input}
        sound = Sound(self._files, body.response_format, is_whole=self._spec.kind == "value")
        tells = body.stream_format == "sse"
        return Asked(
            spec=self._spec,
            input=input,
            telling=_Told(sound),
            streams=True,
            says_done=False,
            encodes_media=True,
            answer=None if tells else lambda job, settings: SoundResponse(job, settings, sound),
        )

    def _said(self, body: _Body) -> dict[str, Any]:
        """Return how it is to be said, as far as the input has a place for that."""
        voice = body.voice.id if isinstance(body.voice, _Voice) else body.voice
        said = {
            "voice": voice,
            "speed": body.speed,
            "instructions": body.instructions or None,
            "response_format": body.response_format,
        }
        if said["speed"] not in (None, 1) and "speed" not in self._fields:
            raise refusal("speed", f"this model has one speed; write 1, or leave it out, got {body.speed:g}")
        if said["instructions"] is not None and "instructions" not in self._fields:
            raise refusal("instructions", "this model takes none; leave them out")
        return {name: value for name, value in said.items() if value is not None and name in self._fields}


class Sound:
    """Make one sound of a job's outputs: bytes that follow one another.

    Args:
        files: where those of them are that are too large for the log.
        format: as `response_format` has it; the endpoint's own where None.
        is_whole: the one output is the sound: a WAV is sent with its own head.
    Attributes:
        content_type: what the bytes are; "" until the first have come.
    """

    def __init__(self, files: FileStore, format: str | None, *, is_whole: bool) -> None:
        self.content_type = ""
        self._files = files
        self._format = format
        self._is_whole = is_whole
        self._has_chunks = False
        self._form: bytes | None = None  # of a WAV

    def of(self, event: Event) -> bytes:
        """Return the bytes that an event adds, which are none for most; may block.

        Raises:
            InvalidInput: the sound cannot be had in the format that was asked for.
            NotEncodable: it is none, or does not go on as it has begun.
        """
        audio = _audio_of(event) if event.kind == "output" else None
        if audio is None:
            return b""
        url, is_chunk = audio
        if self._has_chunks and not is_chunk:
            return b""
        self._has_chunks |= is_chunk
        try:
            return self._goes_on(file_at(url, self._files))
        except ValueError as error:
            raise NotEncodable(f"the endpoint's audio: {error}") from None

    def _goes_on(self, file: File) -> bytes:
        told = file.content_type.partition(";")[0].strip().lower()
        is_wav = told in _TYPES["wav"]
        if not self.content_type:
            self._check(told, is_wav=is_wav)
        elif self._is_whole:
            raise ValueError(
                "expected one output; say by the endpoint's annotation that there are more: -> Iterator[...]"
            )
        if is_wav and not (self._is_whole and self._format != "pcm"):
            return self._of_wav(_wave(file.data))
        if self.content_type not in ("", told):
            raise ValueError(f"expected {self.content_type}, as it has begun, got {told}")
        self.content_type = told
        return file.data

    def _check(self, told: str, *, is_wav: bool) -> None:
        made = "wav or pcm" if is_wav else next((name for name, types in _TYPES.items() if told in types), "")
        if self._format is None or self._format in made.split():
            return
        instead = f"write {made}, or leave it out" if made else "leave it out"
        raise _cannot("response_format", f"this model's sound is {told}; {instead}, got {self._format}")

    def _of_wav(self, wave: "_Wave") -> bytes:
        if self._form is not None:
            if wave.form != self._form:
                raise ValueError("expected chunks of one rate, of as many channels and bits")
            return wave.samples
        self._form = wave.form
        if self._format != "pcm":
            self.content_type = "audio/wav"
            return _endless_head(wave.form) + wave.samples
        kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", wave.form)
        if kind not in (_INTEGERS, _EXTENSIBLE) or bits != 16:
            raise _cannot("response_format", f"PCM is of 16 bits, this model's sound of {bits}; write wav")
        self.content_type = f"audio/pcm;rate={rate};channels={channels}"
        return wave.samples


class _Told:
    """Tell a sound in events: a `Telling`, whose methods decode and encode."""

    def __init__(self, sound: Sound) -> None:
        self._sound = sound

    def told(self, event: Event) -> bytes:
        """Return a block with what an event adds to the sound."""
        piece = self._sound.of(event)
        return _block("speech.audio.delta", audio=pybase64.b64encode_as_string(piece)) if piece else b""

    def ended(self, job: Job) -> bytes:
        """Return the block that says that this was all."""
        _check_has_sound(self._sound, job)
        return _block("speech.audio.done", usage=_USAGE)

    def whole(self, job: Job) -> Response:
        """Never be called: a sound is sent while it is made."""
        raise NotImplementedError


class SoundResponse(Response):
    """Send the sound of a job while it is made. A client that leaves cancels the job.

    What goes wrong before the first of it is answered as an error; later the connection is cut.
    """

    def __init__(self, job: Job, settings: Settings, sound: Sound) -> None:
        super().__init__()
        self._job = job
        self._settings = settings
        self._sound = sound
        self._is_started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        subscriber = self._job.attach(takes_over=True, shows_previews=False)
        connection = Connection(
            scope,
            receive,
            send,
            send_timeout_s=self._settings.send_timeout_s,
            on_disconnect=subscriber.close,
        )
        try:
            while not subscriber.is_closed:
                if subscriber.is_dropped:
                    return await connection.abort()
                events = subscriber.take()
                failure = await self._send(connection, events)
                if failure is not None and not self._is_started:
                    answer = ErrorResponse(failure, {"X-Streamapp-Job-Id": self._job.id})
                    return await answer(scope, receive, send)
                if failure is not None:
                    return await connection.fail()
                if events and events[-1].is_terminal:
                    return await connection.end(b"")
                await subscriber.wait(self._settings.heartbeat_s)
        except OSError:  # the client does not read, or has left
            await connection.abort()
        finally:
            connection.listener.cancel()
            self._job.detach(subscriber)

    async def _send(self, connection: Connection, events: Sequence[Event]) -> ErrorReport | None:
        """Send what events add to the sound; return why there will be no more of it, where that is so."""
        try:
            for event in events:
                if event.kind == "lagged":  # nothing can stand for the sound that is missing
                    raise NotEncodable("some of the sound was not read in time")
                if event.kind == "output":
                    await self._send_piece(connection, await in_encoder(self._sound.of, event))
                if event.kind == "done":
                    _check_has_sound(self._sound, self._job)
        except StreamAppError as error:
            return describe(error)
        return events[-1].error if events else None

    async def _send_piece(self, connection: Connection, piece: bytes) -> None:
        if not piece:
            return
        if not self._is_started:
            self._is_started = True
            content_type = self._sound.content_type.encode("latin-1")
            headers = [(b"content-type", content_type), (b"x-streamapp-job-id", self._job.id.encode())]
            await connection.start(200, [*headers, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
        await connection.write(piece)


class _Wave(NamedTuple):
    #: what samples are: kind, channels, rate, bits
    form: bytes
    samples: bytes


def _wave(data: bytes) -> _Wave:
    """Take a WAV apart.

    Source: https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html
    """
    at, form = 12, b""
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        content = data[at + 8 : at + 8 + size]
        if name == b"fmt ":
            form = content
        elif name == b"data" and len(form) >= 16:
            return _Wave(form, content)
        at += 8 + size + size % 2
    raise ValueError(f"expected a WAV with a form and samples, got {len(data)} bytes without")


def _endless_head(form: bytes) -> bytes:
    sizes = struct.pack("<I", _UNKNOWN_SIZE)
    return b"RIFF" + sizes + b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + sizes


def _audio_of(event: Event) -> tuple[str, bool] | None:
    """Return the URL of the audio that an output holds or is, and whether that is a chunk of a longer one."""
    match event.json():
        case {"audio": {"url": str(url)} | str(url), **others}:
            return url, "start_s" in others
        case {"url": str(url), "content_type": str(content_type)} if content_type.startswith("audio/"):
            return url, False
    return None


def _check_has_sound(sound: Sound, job: Job) -> None:
    if not sound.content_type:
        raise NotEncodable(f"{job.request.path}: expected outputs that hold audio, none did")


def _cannot(field: str, message: str) -> InvalidInput:
    return InvalidInput(f"{field}: {message}", detail=refusal(field, message).errors())


def _block(name: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode({"type": name, **fields}))
