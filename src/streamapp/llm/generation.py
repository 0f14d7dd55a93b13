"""Say what is asked of a language model, and what comes of it: plain data, whatever makes the tokens.

Prompt and tokens are ids of the model's tokenizer. Texts are the reader's: `text` (detokenization) makes them.
"""

import asyncio
import reprlib
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, Protocol, TypedDict

from ..errors import DefinitionError, InvalidInput

#: why a sequence has ended: an end-of-sequence token or a stop string; `max_tokens` or the room in the cache; a call
FinishReason = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Say how tokens are chosen; checked where it is made.

    Attributes:
        max_tokens: at most so many are made, and no more than there is room for, which is what None says.
        temperature: 0 takes the likeliest token each time (greedy), up to 2. Where it, `top_p`, `top_k`, `min_p` or
            `repetition_penalty` is None it is what the model's generation config says, or else 1, 1, 0, 0 and 1.
        top_p: in (0, 1]; top_k: 0 is all; min_p: in [0, 1].
        presence_penalty, frequency_penalty: in [-2, 2], over what was made, as OpenAI defines them.
        repetition_penalty: over 0, over prompt and what was made, as transformers has it; 1 is none.
        logit_bias: token id to what is added, in [-100, 100].
        seed: the same one gives the same tokens, of 64 bits; None is a new one each time. Choice `i` of several has
            `seed + i`.
        stop: texts that end it, up to 16, or one; the text stops before them.
        logprobs: how many alternatives are told with each token, 0 to 20; None is no logprobs at all.
        n: how many choices of the same prompt.
    Raises:
        InvalidInput: a value is out of its range; says which, what came and what to write.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stop: Sequence[str] = ()
    logprobs: int | None = None
    n: int = 1

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _WHOLE.items():
            check_whole(name, getattr(self, name), lowest, highest)
        for name, (least, most) in _REAL.items():
            _check_real(name, getattr(self, name), least, most)
        for name in ("top_p", "repetition_penalty"):
            if getattr(self, name) == 0:
                raise wrong(name, "more than 0", 0)
        if not isinstance(self.logit_bias, Mapping):
            raise wrong("logit_bias", "token ids and what is added to each, as {50256: -100}", self.logit_bias)
        for token, bias in self.logit_bias.items():
            check_whole("logit_bias", token, 0, _MOST)
            _check_real("logit_bias", bias, -100, 100)
        object.__setattr__(self, "stop", stop_texts(self.stop))


_MOST = 2**63 - 1
_OPTIONAL = {"max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "logprobs"}
_WHOLE: dict[str, tuple[int, int]] = {
    "max_tokens": (1, _MOST),
    "top_k": (0, _MOST),
    "seed": (-(2**63), _MOST),
    "logprobs": (0, 20),
    "n": (1, 128),
}
_REAL: dict[str, tuple[float, float]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "repetition_penalty": (0, 10),
}


def wrong(field: str, expected: str, value: object, *, type: str = "value_error") -> InvalidInput:
    """Return the error that says of a field what was expected, and what came."""
    message = f"expected {expected}, got {reprlib.repr(value)}"
    error = {"type": type, "loc": ["body", field], "msg": message}
    return InvalidInput(f"{field}: {message}", detail=[error])


def check_whole(name: str, value: object, lowest: int, highest: int) -> None:
    """See that a field is a whole number within bounds; True is none."""
    if value is None and name in _OPTIONAL:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise wrong(name, f"a whole number {_within(lowest, highest)}", value)


def _check_real(name: str, value: object, lowest: float, highest: float) -> None:
    if value is None and name in _OPTIONAL:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not lowest <= value <= highest:  # NaN is not
        raise wrong(name, f"a number {_within(lowest, highest)}", value)


def _within(lowest: float, highest: float) -> str:
    return f"from {lowest} to {highest}" if highest < _MOST else f"from {lowest} on"


def stop_texts(stop: object) -> tuple[str, ...]:
    """Return the texts that end a choice; one alone is one."""
    stops = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stops, Sequence) or not all(isinstance(text, str) and text for text in stops):
        raise wrong("stop", "texts that are not empty", stop)
    if len(stops) > 16:
        raise wrong("stop", "up to 16 texts", stop)
    return tuple(stops)


def refuse_loop(what: str) -> None:
    """See that tokens are not asked for on an event loop, where that would block it.

    Raises:
        DefinitionError: says what to write.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise DefinitionError(
        f"{what}: its tokens were asked for on the event loop, which that blocks; write `def` instead of `async def`, "
        "or return it"
    )


class Chosen(NamedTuple):
    """Hold one token as a backend has made it."""

    id: int
    #: its logarithmic probability in the model's own distribution, where that was asked for
    logprob: float | None = None
    #: the likeliest tokens and theirs, as many as were asked for
    alternatives: tuple[tuple[int, float], ...] = ()


class Running:
    """Hold one sequence that a backend makes tokens of: one choice of a request.

    Attributes:
        prompt: token ids.
        made: what came so far and was not taken by its reader; a backend appends, `Engine` takes.
        finish_reason: why no more will come; None while it goes on. `tool_calls` is none of a backend's.
        error: why it has failed; nothing more comes then.
    """

    __slots__ = ("error", "finish_reason", "made", "prompt", "sampling", "seed")

    def __init__(self, prompt: Sequence[int], sampling: Sampling, seed: int) -> None:
        self.prompt = tuple(prompt)
        self.sampling = sampling
        self.seed = seed
        self.made: deque[Chosen] = deque()
        self.finish_reason: FinishReason | None = None
        self.error: BaseException | None = None


class Backend(Protocol):
    """Make tokens of several sequences at a time. All methods are called under one lock, by one thread at a time.

    It ends a sequence at a token of `ends` (which is in `made`), at `max_tokens` and where its room ends. Stop strings,
    `n` and texts are the engine's.

    Attributes:
        max_length: tokens that a sequence may have, prompt and what is made.
        vocabulary: ids are below it.
    """

    max_length: int
    vocabulary: int

    def add(self, sequence: Running) -> None:
        """Take a sequence in that was checked: its prompt is 1 to `max_length - 1` ids below `vocabulary`. It may wait
        for a place.

        Raises:
            InvalidInput: this backend cannot do what its sampling asks for.
        """
        ...

    def step(self) -> None:
        """Make at least one token of a sequence, or end one; blocks. A failure ends those that it concerns, by their
        `error`, and nobody else's, and the next `add` is served.
        """
        ...

    def drop(self, sequence: Running) -> None:
        """Let go of a sequence, at its end or before it; no further token is made of it."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Usage(TypedDict):
    """Count tokens, as OpenAI tells them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LogProb(TypedDict):
    """Tell a token's logarithmic probability."""

    #: its id, which an upstream does not tell
    token: NotRequired[int]
    text: str
    logprob: float


class Token(TypedDict, total=False):
    """Tell one token: the text that is decided with it, which may be empty.

    What is decided when no more comes is told with the last one, or where that was told already without a `token`. In
    jobs that take turns one without text, whose `token` is None, says that there is nothing yet (`jobs/pause`): passed
    on as it is, nobody hears of it.
    """

    text: str
    #: its id, which an upstream does not tell
    token: int
    index: int
    #: where they were asked for; of the token alone, which may be no more than a part of a character
    logprob: float
    own_text: str
    top_logprobs: list[LogProb]


class Ending(TypedDict):
    """Tell the end of a choice: the whole text."""

    text: str
    index: int
    finish_reason: FinishReason
    #: an upstream counts all choices at once, in the last one's ending, or not at all
    usage: NotRequired[Usage]
    #: what the model calls, as OpenAI has it: `{"id", "type": "function", "function": {"name", "arguments"}}`
    tool_calls: NotRequired[list[dict[str, Any]]]


class TextModel(Protocol):
    """Answer prompts and conversations: `Engine`, or what stands in for one.

    What comes is `Token`s, and for each choice an `Ending`: an iterator in the thread of a `def` endpoint, or an async
    one. Closing it ends the making.
    """

    def stream(
        self, prompt: str | Sequence[int], **sampling: Any
    ) -> Iterator[Token | Ending] | AsyncIterator[Token | Ending]:
        """Go on behind a prompt; keywords are those of `Sampling`."""
        ...

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), **sampling: Any
    ) -> Iterator[Token | Ending] | AsyncIterator[Token | Ending]:
        """Answer the last message of a conversation, as the model's chat template has it."""
        ...
