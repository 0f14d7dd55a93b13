"""Ask another server that speaks OpenAI's protocol for texts: vLLM, SGLang, llama.cpp's, Ollama, another streamapp.

All of it is on the loop. Each request has a connection of its own, so none has died meanwhile, and who leaves the
iteration closes it, which is what ends the work over there. Nothing of our client's request goes along but the body.

What is told of a failure names neither the server nor its words, but for what it says of the input: those are in the
log.
"""

import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from ..errors import (
    DefinitionError,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    StreamAppError,
    Unavailable,
    UpstreamFailed,
)
from ..fetch import transport_to
from ..jobs.events import encode
from ..jsontext import read_json
from ..later import module
from ..media import shown
from ..process.logs import logger

if TYPE_CHECKING:
    import httpx

    from ..llm.generation import Ending, FinishReason, LogProb, Token, Usage
else:
    httpx = module("httpx")

_MODELS_KEPT_S = 5.0
#: of an answer that is no stream, or of one block of a stream: what a request for 128 choices with logprobs may take
_MAX_BYTES = 16 * 1024 * 1024
_MAX_REFUSAL_BYTES = 64 * 1024
_MAX_SAID = 500
# What these servers read of a body and clients must not choose: the ids of requests, which another one's may be, and
# hosts that they connect to.
_NOT_PASSED_ON = ("request_id", "rid", "kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room")

_REASONS = ("stop", "length", "tool_calls")

M = TypeVar("M", bound=BaseModel)


class _Model(BaseModel):
    id: str


class _Models(BaseModel):
    data: list[_Model]


class _Likely(BaseModel):
    token: str
    logprob: float


class _Chosen(_Likely):
    top_logprobs: list[_Likely] | None = None


class _LogProbs(BaseModel):
    """Hold both forms: a conversation's `content`, else lists of the same length."""

    content: list[_Chosen] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None

    def chosen(self) -> list[_Chosen]:
        if self.content is not None:
            return self.content
        tops = self.top_logprobs or repeat(None)
        return [
            _Chosen(
                token=token, logprob=logprob, top_logprobs=[_Likely(token=t, logprob=p) for t, p in (top or {}).items()]
            )
            for token, logprob, top in zip(self.tokens or (), self.token_logprobs or (), tops, strict=False)
            if logprob is not None
        ]


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _Call(BaseModel):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(BaseModel):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Going(BaseModel):
    """Hold of a choice whether it goes on."""

    index: int = 0
    finish_reason: str | None = None


class _Choice(_Going):
    text: str | None = None
    delta: _Delta | None = None
    logprobs: _LogProbs | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int | None = None


class _Passed(BaseModel):
    """Hold what is read of what is passed on, in which all the rest stays."""

    choices: list[_Going] | None = None
    error: Any = None


class _Block(BaseModel):
    """Hold what is read of a block whose tokens are told."""

    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


P = TypeVar("P", _Passed, _Block)


class Decoder:
    """Take a stream apart, in linear time, wherever its bytes were cut: the data of each block; all else is left out.

    Attributes:
        size: of what is not complete yet.
    """

    def __init__(self) -> None:
        self.size = 0
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._ends_with_cr = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Take the next bytes in, and yield the data that they complete."""
        if self._ends_with_cr:
            chunk = chunk.removeprefix(b"\n")
        self._ends_with_cr = chunk.endswith(b"\r")
        self.size += len(chunk)
        for piece in chunk.splitlines(keepends=True):
            text = piece.rstrip(b"\r\n")
            self._line.append(text)
            if len(text) < len(piece):
                line = b"".join(self._line)
                self._line.clear()
                yield from self._end_line(line)

    def _end_line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line:
            if self._data:
                yield b"\n".join(self._data)
            self._data.clear()
            self.size = 0


class _Made:
    """Put one choice together."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._places: dict[int | None, dict[str, Any]] = {}
        self._reason: str | None = None

    def take(self, choice: _Choice) -> "Iterator[Token]":
        """Yield the tokens of a block; where it tells of several, the text is decided with the last one."""
        delta = choice.delta or _Delta()
        self._reason = choice.finish_reason or self._reason
        for call in delta.tool_calls or ():
            self._take_call(call)
        text = choice.text or delta.content or ""
        self._texts.append(text)
        chosen = choice.logprobs.chosen() if choice.logprobs is not None else []
        for n, each in enumerate(chosen, 1):
            tops: list[LogProb] = [{"text": top.token, "logprob": top.logprob} for top in each.top_logprobs or ()]
            told = text if n == len(chosen) else ""
            own: Token = {"logprob": each.logprob, "own_text": each.token, "top_logprobs": tops}
            yield {"text": told, "index": choice.index, **own}
        if text and not chosen:
            yield {"text": text, "index": choice.index}

    def _take_call(self, part: _Call) -> None:
        call = self._places.get(part.index)
        if call is None or (part.id is not None and part.id != call["id"]):
            call = {"id": part.id, "type": "function", "function": {"name": "", "arguments": ""}}
            self._places[part.index] = call
            self._calls.append(call)
        if part.function is not None:
            call["function"]["name"] += part.function.name or ""
            call["function"]["arguments"] += part.function.arguments or ""

    def ending(self, index: int, usage: _Usage | None) -> "Ending":
        """Return the end; a reason that is none of ours is that the model has stopped."""
        reason = cast("FinishReason", self._reason if self._reason in _REASONS else "stop")
        ending: Ending = {"text": "".join(self._texts), "index": index, "finish_reason": reason}
        if usage is not None:
            prompt, made, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
            counted: Usage = {
                "prompt_tokens": prompt,
                "completion_tokens": made,
                "total_tokens": total or prompt + made,
            }
            ending["usage"] = counted
        if self._calls:
            ending["tool_calls"] = self._calls
        return ending


class Upstream:
    """Be the language model that another server runs: a `TextModel` whose iterators are async.

        def setup(self) -> None:
            self.llm = streamapp.Upstream("http://127.0.0.1:8001")

    Args:
        url: the server's, with `/v1` at its end or without.
        model: what it calls the model; when None the one that a client names, if it has that, else the first it has.
        api_key: the server's own. The keys of our clients are not shown to it.
        timeout_s: how long it may be silent, in a queue of its own as well.
        connect_timeout_s: how long connecting to it may take.
    Attributes:
        name: what our clients call the model, the app's name when None.
    Raises:
        DefinitionError: the URL or the key is none.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 300,
        connect_timeout_s: float = 10,
    ) -> None:
        self.url = _base_of(url)
        if api_key is not None and re.fullmatch(r"[!-~]+", api_key) is None:
            raise DefinitionError("Upstream(api_key=...): expected a key of visible ASCII characters, or None for none")
        for name, seconds in {"timeout_s": timeout_s, "connect_timeout_s": connect_timeout_s}.items():
            if not seconds > 0:
                raise DefinitionError(f"Upstream({name}=...): expected seconds, more than 0, got {seconds!r}")
        self.name = model
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._models: tuple[str, ...] = ()
        self._models_until = 0.0

    def stream(self, prompt: str | Sequence[int], **sampling: Any) -> "AsyncGenerator[Token | Ending]":
        """Go on behind a prompt.

        Args:
            sampling: fields of the request by the names of `Sampling`, which are vLLM's where OpenAI has none, and
                whatever else the server takes.
        Raises:
            InvalidInput, NotFound, PayloadTooLarge: the server refuses what it was asked.
            QueueFull, Unavailable: it takes no more requests now; with its `Retry-After`.
            UpstreamFailed: it cannot be reached, fails, is silent, or its answer breaks off.
        """
        return self._tokens("/completions", {"prompt": prompt, **sampling})

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), **sampling: Any
    ) -> "AsyncGenerator[Token | Ending]":
        """Answer the last message of a conversation; raises as `stream` does. Reasoning is left out."""
        asked = {"messages": messages, **({"tools": tools} if tools else {}), **sampling}
        logprobs = asked.pop("logprobs", None)
        if logprobs is not None:
            asked |= {"logprobs": True, "top_logprobs": logprobs}
        return self._tokens("/chat/completions", asked)

    async def models(self) -> Sequence[str]:
        """Return the names of its models, as they were up to 5 s ago."""
        if self.name is not None:
            return (self.name,)
        if time.monotonic() >= self._models_until:
            async with self._asked("GET", "/models") as response:
                found = self._read_as(_Models, await self._document(response))
            self._models = tuple(model.id for model in found.data)
            self._models_until = time.monotonic() + _MODELS_KEPT_S
        return self._models

    async def forward(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any]]:
        """Pass on a body that a client has sent, whole, to a path like `/chat/completions`.

        Yields the blocks of a stream as they come, without `[DONE]`; else the one answer. Model names and ids in it are
        the server's.

        Raises:
            InvalidInput: the body also asks for what is not a client's: a URL that this server would fetch.
            StreamAppError: as `stream` does.
        """
        _check(body)
        models = await self.models()
        named = body.get("model")
        asked = {**body, "model": named if named in models else await self._first_model()}
        async with self._asked("POST", path, asked) as response:
            if body.get("stream"):
                async with aclosing(self._blocks(response, _Passed)) as blocks:
                    async for block, _ in blocks:
                        yield block
            else:
                yield self._checked(await self._document(response), _Passed)[0]

    async def _first_model(self) -> str:
        models = await self.models()
        if not models:
            raise self._failed("it has no model", "the upstream has no model to answer with")
        return models[0]

    async def _tokens(self, path: str, asked: Mapping[str, Any]) -> "AsyncGenerator[Token | Ending]":
        given = {name: value for name, value in asked.items() if value is not None}
        streams = {"stream": True, "stream_options": {"include_usage": True}}
        body = {"model": await self._first_model(), **given, **streams}
        choices: dict[int, _Made] = {}
        usage: _Usage | None = None
        async with self._asked("POST", path, body) as response, aclosing(self._blocks(response, _Block)) as blocks:
            async for _, block in blocks:
                usage = block.usage or usage
                for choice in block.choices or ():
                    for token in choices.setdefault(choice.index, _Made()).take(choice):
                        yield token
        for index, made in sorted(choices.items()):
            yield made.ending(index, usage if index == max(choices) else None)

    async def _blocks(self, response: "httpx.Response", model: type[P]) -> AsyncGenerator[tuple[dict[str, Any], P]]:
        """Yield the blocks of a stream, which has ended at `[DONE]`, or where each choice has said why."""
        if _content_type(response) != "text/event-stream":
            raise self._failed("it answers with no stream", "the upstream does not stream", retryable=False)
        decoder, goes_on = Decoder(), {0}
        async for chunk in response.aiter_raw():
            for data in decoder.feed(chunk):
                if data == b"[DONE]":
                    return
                raw, block = self._checked(await self._json(data), model)
                for choice in block.choices or ():
                    (goes_on.add if choice.finish_reason is None else goes_on.discard)(choice.index)
                yield raw, block
            if decoder.size > _MAX_BYTES:
                raise self._failed("a block is too large", "the upstream's answer is too large", retryable=False)
        if goes_on:
            raise self._failed("its stream ends without an end", "the upstream's answer broke off")

    async def _document(self, response: "httpx.Response") -> dict[str, Any]:
        content = await _content(response, _MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise self._failed("its answer is too large", "the upstream's answer is too large", retryable=False)
        return await self._json(content)

    async def _json(self, text: bytes) -> dict[str, Any]:
        try:
            read = await read_json(text)
        except (ValueError, PayloadTooLarge):
            read = None
        if not isinstance(read, dict):
            raise self._unreadable()
        return read

    def _checked(self, raw: dict[str, Any], model: type[P]) -> tuple[dict[str, Any], P]:
        """Return what came, and what it says; an error may come with status 200, and in the midst of a stream."""
        read = self._read_as(model, raw)
        if read.error:
            raise self._told_in_answer(raw)
        return raw, read

    def _read_as(self, model: type[M], read: dict[str, Any]) -> M:
        try:
            return model.model_validate(read)
        except ValidationError:
            raise self._unreadable() from None

    def _unreadable(self) -> UpstreamFailed:
        return self._failed(
            "it does not speak OpenAI's protocol", "the upstream's answer cannot be read", retryable=False
        )

    @asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> "AsyncIterator[httpx.Response]":
        """Ask, and give an answer of status 200, with its body unread."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "streamapp", "Content-Type": "application/json"}
        if self._api_key is not None:
            headers["Authorization"] = f"Bearer {self._api_key}"
        try:
            transport = await transport_to(allow_private=True, connects_s=self._connect_timeout_s)
            async with (
                httpx.AsyncClient(transport=transport, timeout=self._timeout_s, trust_env=False) as client,
                client.stream(
                    method, f"{self.url}{path}", headers=headers, content=None if body is None else encode(body)
                ) as response,
            ):
                if response.status_code != 200:
                    raise self._refused(response, await _content(response, _MAX_REFUSAL_BYTES))
                if "Content-Encoding" in response.headers:  # a few kilobytes can hold gigabytes
                    raise self._failed("its answer is compressed", "the upstream's answer cannot be read")
                yield response
        except (httpx.HTTPError, OSError, ValueError) as error:  # the last: a name that is none
            raise self._failed(f"{type(error).__name__}: {error}", self._broken(error)) from error

    def _broken(self, error: Exception) -> str:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | OSError | ValueError):
            return "the upstream cannot be reached"
        if isinstance(error, httpx.TimeoutException):
            return f"the upstream was silent for {self._timeout_s:g} s"
        return "the upstream's answer broke off"

    def _refused(self, response: "httpx.Response", content: bytes) -> StreamAppError:
        try:
            body = from_json(content)
        except ValueError:
            body = None
        wait = response.headers.get("Retry-After", "")
        retry_after_s = int(wait) if re.fullmatch(r"[0-9]{1,6}", wait) else None
        return self._error(response.status_code, body, retry_after_s)

    def _told_in_answer(self, block: Mapping[str, Any]) -> StreamAppError:
        error = block["error"]
        code = error.get("code") if isinstance(error, dict) else None
        return self._error(code if type(code) is int else 500, block)

    def _error(self, status: int, body: Any, retry_after_s: int | None = None) -> StreamAppError:
        said = self._said(body)
        match status:
            case 400 | 422:
                return InvalidInput(said or "the upstream refuses this input", detail=_openai_error(body, said))
            case 404 if said is not None:
                return NotFound(said, detail=_openai_error(body, said))
            case 413:
                return PayloadTooLarge(said or "the upstream refuses so much")
            case 429:
                return QueueFull("the upstream takes no more requests now", retry_after_s=retry_after_s)
            case 503:
                return Unavailable("the upstream takes no requests now", retry_after_s=retry_after_s)
            case 401 | 403:
                return self._failed(
                    f"it refuses the key (HTTP {status})", "the upstream refuses this server's key", retryable=False
                )
            case _ if status >= 500:
                return self._failed(f"HTTP {status}, {said!r}", "the upstream failed")
        return self._failed(f"HTTP {status}; is its URL right?", f"the upstream answers HTTP {status}", retryable=False)

    def _said(self, body: Any) -> str | None:
        """Return what it says of a request, in one of the forms that such servers have; without the key."""
        error = body.get("error") if isinstance(body, dict) else None
        if isinstance(body, dict) and error is None:  # older ones of vLLM
            error = body if body.get("object") == "error" else None
        said = error.get("message") if isinstance(error, dict) else error
        if error is None and isinstance(body, dict):  # FastAPI's
            match body.get("detail"):
                case [{"loc": [*path], "msg": str(wrong)}, *_]:
                    said = f"{'.'.join(map(str, path))}: {wrong}"
        if not isinstance(said, str) or (self._api_key is not None and self._api_key in said):
            return None
        return said[:_MAX_SAID]

    def _failed(self, why: str, told: str, *, retryable: bool = True) -> UpstreamFailed:
        logger.warning("upstream %s: %s", self.url, why)
        return UpstreamFailed(told, retryable=retryable)


def _base_of(url: str) -> str:
    """Return the URL below which OpenAI's paths are."""
    expected = "expected a URL like http://127.0.0.1:8001, or https://example.org/v1"
    try:
        read = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        read = httpx.URL()
    if read.userinfo or (isinstance(url, str) and "@" in url):  # not shown: it may be a password
        raise DefinitionError(f"Upstream(url): {expected}, without a password; write that as api_key=...")
    is_http = read.scheme in ("http", "https") and read.host and (read.port or 0) < 65536
    if not is_http or read.query or read.fragment:
        raise DefinitionError(f"Upstream({url!r}): {expected}")
    path = read.path.rstrip("/")
    if path.endswith("/completions"):
        raise DefinitionError(f"Upstream({url!r}): expected what stands before /chat/completions")
    is_whole = re.fullmatch(r"v[0-9]\w*", path.rpartition("/")[2])
    return str(read.copy_with(path=path if is_whole else f"{path}/v1"))


def _check(body: Mapping[str, Any]) -> None:
    """Refuse what of a client's body would reach into the network that the server is in."""
    for name in _NOT_PASSED_ON:
        if name in body:
            raise InvalidInput(f"{name}: not passed on to the model's server; leave it out")
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            for name, value in part.items() if isinstance(part, dict) else ():
                url = value.get("url") if isinstance(value, dict) else value
                if name.endswith("_url") and isinstance(url, str) and not url[:5].lower() == "data:":
                    raise InvalidInput(f"messages: expected a data URI as {name}, got {shown(url)}")


def _openai_error(body: Any, said: str | None) -> Any:
    """Return the error as OpenAI's clients read it, where it was told in that form."""
    error = body.get("error") if isinstance(body, dict) else None
    if said is None or not isinstance(error, dict):
        return said
    kept = {name: error.get(name) for name in ("type", "param", "code")}
    return {"message": said, **{name: value[:_MAX_SAID] for name, value in kept.items() if isinstance(value, str)}}


def _content_type(response: "httpx.Response") -> str:
    content_type: str = response.headers.get("Content-Type", "")
    return content_type.partition(";")[0].strip().lower()


async def _content(response: "httpx.Response", most: int) -> bytes:
    """Return the beginning of a body: as much, or a little more."""
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) >= most:
            break
    return bytes(content)
