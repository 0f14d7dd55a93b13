"""Ask an app's language model for text as `/v1/chat/completions` and `/v1/completions` do, and tell its tokens.

A request's job is one of an endpoint that the app gets for it, which nothing else leads to: it calls the `TextModel`
that `setup` has set, and goes through several prompts at a time. A model that passes requests on (`Forwards`) gets them
whole, and what it answers is passed back.

What a stream tells it tells token by token, but where tools are offered: whether a text is a call is known at its end.
"""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from starlette.responses import Response

from ..app import App
from ..endpoint import EndpointSpec, endpoint, inspect_endpoint
from ..errors import DefinitionError
from ..jobs.events import Event, encode
from ..jobs.job import Job
from ..text import whole
from .asked import Asked, Telling
from .requests import ChatBody, CompletionBody, read_chat, read_completion

if TYPE_CHECKING:
    from ..llm.generation import Ending, Token, Usage

_FINGERPRINT = "fp_streamapp"
CHAT, COMPLETIONS = "/chat/completions", "/completions"
_PREFIXES = {CHAT: "chatcmpl", COMPLETIONS: "cmpl"}  # of ids


@runtime_checkable
class Forwards(Protocol):
    """Be a language model elsewhere, which speaks as OpenAI does."""

    def forward(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Any]]:
        """Ask for `body` at a path below `/v1`: chunks of a stream as they come, else the one answer.

        Raises:
            StreamAppError: it was refused, or has failed.
        """
        ...

    async def models(self) -> Sequence[str]:
        """Return the names of its models; raises the same."""
        ...


class Text:
    """Ask one language model for text.

    Args:
        app: the class that is served.
        attribute: what `setup` sets to a `TextModel`.
    Attributes:
        specs: the endpoints whose jobs do that, by their paths below `/v1`.
    """

    def __init__(self, app: type[App], attribute: str) -> None:
        self._attribute = attribute
        self.specs: Mapping[str, EndpointSpec] = {path: _inner(app, attribute, path) for path in (CHAT, COMPLETIONS)}

    def model_of(self, app: App) -> Any:
        """Return the model, once `setup` has returned.

        Raises:
            DefinitionError: there is none.
        """
        return _model_of(app, self._attribute)

    def asked(self, path: str, given: Mapping[str, Any], *, job_id: str, name: str, forwards: bool) -> Asked:
        """Return what a request's body asks for.

        Args:
            name: the model's.
            forwards: it passes requests on whole.
        Raises:
            RequestValidationError: a field is not as documented, or cannot be honoured.
        """
        if forwards:
            telling: Telling = _Forwarded(f"{_PREFIXES[path]}-{job_id}", name)
            return Asked(self.specs[path], {"asked": {"path": path, "body": given}}, telling, bool(given.get("stream")))
        body = read_chat(given) if path == CHAT else read_completion(given)
        telling = _Chat(job_id, name, body) if isinstance(body, ChatBody) else _Completion(job_id, name, body)
        kept = {"streams": body.streams, "n": body.n or 1, "sampling": body.sampling()}
        if isinstance(body, ChatBody):
            asks: dict[str, Any] = {"messages": body.conversation(), "tools": body.offered_tools()}
        else:
            asks = {"prompts": body.prompts()}
        return Asked(self.specs[path], {"asked": {**kept, **asks}}, telling, body.streams)


# The endpoints


def _inner(cls: type[App], attribute: str, path: str) -> EndpointSpec:
    """Return the endpoint that has the model answer, at the path that it would have."""

    def answer(self: Any, asked: dict[str, Any]) -> Iterator[Any]:
        made: Iterator[Any] = _made(_model_of(self, attribute), **asked)
        return made

    answer.__name__ = path.strip("/").replace("/", "_")
    answer.__qualname__ = f"{cls.__qualname__}.OpenAI(text={attribute!r})"
    answer.__doc__ = "Have the language model answer one of OpenAI's clients."
    return inspect_endpoint(endpoint(f"/v1{path}")(answer), cls)


def _model_of(app: App, attribute: str) -> Any:
    model = getattr(app, attribute, None)
    if not (hasattr(model, "stream") and hasattr(model, "chat")):
        raise DefinitionError(
            f"{type(app).__qualname__}: OpenAI(text={attribute!r}) is answered by self.{attribute}, which "
            f"{'is not set' if model is None else f'is a {type(model).__name__}'}; in setup write self.{attribute} = "
            "streamapp.llm.Engine(model, tokenizer), or streamapp.Upstream(url)"
        )
    return model


def _made(
    model: Any,
    *,
    path: str = "",
    body: Mapping[str, Any] | None = None,
    streams: bool = False,
    n: int = 1,
    sampling: Mapping[str, Any] | None = None,
    messages: Sequence[Mapping[str, Any]] = (),
    tools: Sequence[Mapping[str, Any]] = (),
    prompts: Sequence[str | list[int]] = (),
) -> Any:
    """Return an iterator, or an async one, of what a request's job emits."""
    if body is not None:
        return model.forward(path, body)
    options = dict(sampling or {})
    if "logit_bias" in options:  # JSON has made texts of its ids
        options["logit_bias"] = {int(token): bias for token, bias in options["logit_bias"].items()}
    if messages:
        asked = [model.chat(messages, tools=tools, **options) if tools else model.chat(messages, **options)]
    else:
        asked = [model.stream(prompt, **options) for prompt in prompts]
    if hasattr(asked[0], "__aiter__"):
        return _told_on_loop(asked, n, streams=streams)
    return _told(asked, n, streams=streams)


def _told(asked: "Sequence[Iterator[Token | Ending]]", n: int, *, streams: bool) -> Iterator[Any]:
    """Go through several prompts by turns; at the end comes all of it, where nobody reads it as it comes."""
    kept = _Kept()
    going = dict(enumerate(asked))
    try:
        while going:
            for place, items in [*going.items()]:
                item = next(items, None)
                if item is None:
                    del going[place]
                    continue
                item["index"] += place * n
                if not streams:
                    kept.take(item)
                yield item
        if not streams:
            yield kept.all
    finally:
        for items in asked:
            with suppress(AttributeError):  # an iterator that cannot be closed
                items.close()  # type: ignore[attr-defined]


async def _told_on_loop(
    asked: "Sequence[AsyncIterator[Token | Ending]]", n: int, *, streams: bool
) -> AsyncIterator[Any]:
    kept = _Kept()
    try:
        for place, items in enumerate(asked):
            async for item in items:
                item["index"] += place * n
                if not streams:
                    kept.take(item)
                yield item
        if not streams:
            yield kept.all
    finally:
        for items in asked:
            with suppress(AttributeError):
                await items.aclose()  # type: ignore[attr-defined]


class _Kept:
    """Keep what an answer that is no stream needs of its tokens: the job's log is bounded."""

    def __init__(self) -> None:
        self.all: dict[str, list[Any]] = {"tokens": [], "endings": []}

    def take(self, item: Any) -> None:
        if "finish_reason" in item:
            self.all["endings"].append(item)
        elif "logprob" in item:
            self.all["tokens"].append(item)


# What is told of them


class _Told:
    """Tell a job's tokens in OpenAI's chunks, and its end.

    Args:
        job_id: what the ids of answers are made of.
        name: the model's.
    """

    path, object, whole_object = "", "", ""

    def __init__(self, job_id: str, name: str, body: ChatBody | CompletionBody) -> None:
        self._head = {"id": f"{_PREFIXES[self.path]}-{job_id}", "created": int(time.time()), "model": name}
        self._n = body.n or 1
        self._includes_usage = body.includes_usage
        self._usages: dict[int, Usage] = {}

    def told(self, event: Event) -> bytes:
        """Return the chunks of one item."""
        if event.kind != "output":
            return b""
        item = event.json()
        if "finish_reason" in item:
            if "usage" in item:  # which servers elsewhere tell of all choices at once
                self._usages[item["index"]] = item["usage"]
            choices = self._ended(item)
        else:
            choices = self._token(item)
        return b"".join([self._chunk([choice]) for choice in choices])

    def ended(self, job: Job) -> bytes:
        """Return the count of tokens, where that was asked for."""
        return self._chunk([], usage=self._usage(self._usages)) if self._includes_usage else b""

    def whole(self, job: Job) -> Response:
        """Return the document."""
        assert job.result is not None
        made = job.result.json()
        endings: list[Ending] = sorted(made["endings"], key=lambda ending: ending["index"])
        tokens: dict[int, list[Token]] = {ending["index"]: [] for ending in endings}
        for token in made["tokens"]:
            tokens[token["index"]].append(token)
        usage = self._usage({ending["index"]: ending["usage"] for ending in endings if "usage" in ending})
        choices = [self._choice(ending, tokens[ending["index"]]) for ending in endings]
        document = {**self._head, "object": self.whole_object, "choices": choices, "usage": usage}
        return Response(encode({**document, "system_fingerprint": _FINGERPRINT}), media_type="application/json")

    def _chunk(self, choices: list[Any], *, usage: "Usage | None" = None) -> bytes:
        chunk = {**self._head, "object": self.object, "choices": choices, "system_fingerprint": _FINGERPRINT}
        return b"data: %b\n\n" % encode({**chunk, "usage": usage} if self._includes_usage else chunk)

    def _usage(self, usages: "Mapping[int, Usage]") -> "Usage":
        """Return what all choices have taken; those of one prompt have read it once."""
        prompts = {index // self._n: usage["prompt_tokens"] for index, usage in usages.items()}
        read, made = sum(prompts.values()), sum(usage["completion_tokens"] for usage in usages.values())
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    def _token(self, token: "Token") -> list[dict[str, Any]]:
        raise NotImplementedError

    def _ended(self, ending: "Ending") -> list[dict[str, Any]]:
        raise NotImplementedError

    def _choice(self, ending: "Ending", tokens: "list[Token]") -> dict[str, Any]:
        raise NotImplementedError


class _Chat(_Told):
    path, object, whole_object = CHAT, "chat.completion.chunk", "chat.completion"

    def __init__(self, job_id: str, name: str, body: ChatBody) -> None:
        super().__init__(job_id, name, body)
        self._begun: set[int] = set()
        self._is_held = bool(body.offered_tools())

    def _token(self, token: "Token") -> list[dict[str, Any]]:
        index = token["index"]
        choices = self._opening(index)
        logprobs = _chat_logprobs([token]) if "logprob" in token else None
        if (token["text"] and not self._is_held) or logprobs is not None:
            delta = {} if self._is_held else {"content": token["text"]}
            choices.append(_choice(index, delta, logprobs=logprobs))
        return choices

    def _ended(self, ending: "Ending") -> list[dict[str, Any]]:
        index = ending["index"]
        choices = self._opening(index)
        if self._is_held:
            message = _message_of(ending)
            calls = [{"index": n, **call} for n, call in enumerate(message.pop("tool_calls", ()))]
            choices.append(_choice(index, {**message, "tool_calls": calls} if calls else message))
        return [*choices, _choice(index, {}, finish_reason=ending["finish_reason"])]

    def _opening(self, index: int) -> list[dict[str, Any]]:
        if index in self._begun:
            return []
        self._begun.add(index)
        return [_choice(index, {"role": "assistant", "content": "", "refusal": None})]

    def _choice(self, ending: "Ending", tokens: "list[Token]") -> dict[str, Any]:
        return {
            "index": ending["index"],
            "message": {"role": "assistant", **_message_of(ending), "refusal": None},
            "logprobs": _chat_logprobs(tokens) if tokens else None,
            "finish_reason": ending["finish_reason"],
        }


class _Completion(_Told):
    path, object, whole_object = COMPLETIONS, "text_completion", "text_completion"

    def __init__(self, job_id: str, name: str, body: CompletionBody) -> None:
        super().__init__(job_id, name, body)
        self._echoed = [str(prompt) if body.echo else "" for prompt in body.prompts()]
        self._offsets: dict[int, int] = {}

    def _token(self, token: "Token") -> list[dict[str, Any]]:
        index, offset = token["index"], self._offsets.get(token["index"])
        before = self._echoed[index // self._n] if offset is None else ""
        text = before + token["text"]
        logprobs = _completion_logprobs([token], offset or 0) if "logprob" in token else None
        self._offsets[index] = (offset or 0) + len(text)
        return [_completion(index, text, logprobs=logprobs)] if text or logprobs is not None else []

    def _ended(self, ending: "Ending") -> list[dict[str, Any]]:
        index = ending["index"]
        before = "" if index in self._offsets else self._echoed[index // self._n]
        return [_completion(index, before, finish_reason=ending["finish_reason"])]

    def _choice(self, ending: "Ending", tokens: "list[Token]") -> dict[str, Any]:
        index = ending["index"]
        logprobs = _completion_logprobs(tokens, 0) if tokens else None
        text = self._echoed[index // self._n] + ending["text"]
        return _completion(index, text, logprobs=logprobs, finish_reason=ending["finish_reason"])


class _Forwarded:
    """Pass on what another server tells, under our ids and names."""

    def __init__(self, id: str, name: str) -> None:
        self._ours = {"id": id, "model": name}

    def told(self, event: Event) -> bytes:
        """Return a chunk."""
        return b"data: %b\n\n" % encode(self._named(event)) if event.kind == "output" else b""

    def ended(self, job: Job) -> bytes:
        """Return nothing: what comes last came as a chunk."""
        return b""

    def whole(self, job: Job) -> Response:
        """Return the document."""
        assert job.result is not None
        return Response(encode(self._named(job.result)), media_type="application/json")

    def _named(self, event: Event) -> dict[str, Any]:
        return {**event.json(), **self._ours}


def _choice(
    index: int, delta: Mapping[str, Any], *, logprobs: Any = None, finish_reason: str | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _completion(index: int, text: str, *, logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


def _message_of(ending: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an ending says as a message: its text, and which tools it calls."""
    calls = ending.get("tool_calls")
    return {"content": ending["text"] or None, "tool_calls": calls} if calls else {"content": ending["text"]}


def _chat_logprobs(tokens: "Iterable[Token]") -> dict[str, Any]:
    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(whole(text).encode())}

    def of(token: "Token") -> dict[str, Any]:
        top = [entry(each["text"], each["logprob"]) for each in token.get("top_logprobs", ())]
        return {**entry(token.get("own_text", token["text"]), token["logprob"]), "top_logprobs": top}

    return {"content": [of(token) for token in tokens], "refusal": None}


def _completion_logprobs(tokens: "Sequence[Token]", offset: int) -> dict[str, Any]:
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["text"])
    return {
        "tokens": [token.get("own_text", token["text"]) for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [{each["text"]: each["logprob"] for each in token.get("top_logprobs", ())} for token in tokens],
        "text_offset": offsets,
    }
