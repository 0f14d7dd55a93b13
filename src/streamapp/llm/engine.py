"""Stream the tokens of one model to many readers: what is asked is checked, made by a backend, and told as text.

The engine has no thread. Who asks for a token, and finds none, makes the next one of every sequence that runs (`step`);
what is others' waits in their sequences until they ask. So in an app with `max_running` its inference thread asks its
jobs' generators in turn, and one forward serves all of them; elsewhere any thread may ask, one at a time. Where turns
are taken who gets nothing by one step pauses, while its prompt is read or until it has a place, and so do those who
begin: who begins in the same round is read together.

A sequence that nobody reads goes on to its end, at most `max_tokens` ahead, and then gives its place away. Closing the
iterator ends it at once, and nobody else's.
"""

import secrets
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Literal, NamedTuple, cast

from ..errors import DefinitionError, InvalidInput, Unavailable
from ..jobs.pause import Pause, takes_turns
from .batching import Batching
from .chat import calling, prompt_of
from .continuous import Continuous
from .generation import (
    Backend,
    Chosen,
    Ending,
    FinishReason,
    LogProb,
    Running,
    Sampling,
    Token,
    Usage,
    check_whole,
    refuse_loop,
    wrong,
)
from .sampling import Sampler
from .text import Writer, decoding, end_tokens

# What a generation config may say, and what holds where it says nothing; of these, what only the own loop knows.
_NEUTRAL: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
_OWN = {"min_p", "repetition_penalty"}


class EngineStatistics(NamedTuple):
    """Count what an engine has under way."""

    #: choices that are being made, or wait for a place
    running: int
    #: tokens that were made and wait for their readers
    unread: int


class _Choice:
    """Hold one choice of a request: its sequence, and its text so far."""

    def __init__(self, index: int, sequence: Running, writer: Writer) -> None:
        self.index = index
        self.sequence = sequence
        self.writer = writer
        self.made = 0
        self.is_over = False

    def ending(self, finish_reason: FinishReason) -> Ending:
        """Return what is told last of it."""
        prompt = len(self.sequence.prompt)
        usage = Usage(prompt_tokens=prompt, completion_tokens=self.made, total_tokens=prompt + self.made)
        return Ending(text=self.writer.text, index=self.index, finish_reason=finish_reason, usage=usage)


class _News(NamedTuple):
    """Hold what has come of a choice since it was asked last."""

    choice: _Choice
    tokens: list[Chosen]
    finish_reason: FinishReason | None
    error: BaseException | None


class Engine:
    """Answer prompts by one model, many at a time.

        self.llm = streamapp.llm.Engine(model, tokenizer)              # in setup
        yield from self.llm.stream(prompt, max_tokens=200, stop="\\n")  # in the endpoint, a `def`

    Args:
        model: of transformers', for causal language modelling.
        tokenizer: its own.
        max_sequences: so many run at a time; others wait in their order.
        max_length: tokens of a prompt and what is made of it; None is what the model reads, as the backend bounds it.
        backend: "own" is the loop that can do all of `Sampling`; "transformers" is its `ContinuousBatchingManager`, for
            big models, which knows temperature, top_p and top_k. Or a `Backend` that was made for this model.
        options: what "transformers" takes besides, by the names of its `ContinuousBatchingConfig`.
        name: what clients call the model; None is the last part of its `name_or_path`.
    Raises:
        DefinitionError: the backend cannot run the model; says what can.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        max_sequences: int = 16,
        max_length: int | None = None,
        backend: Literal["own", "transformers"] | Backend = "own",
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        config = getattr(model, "generation_config", None)
        self._defaults = _defaults(config, set(_NEUTRAL) - (_OWN if backend == "transformers" else set()))
        self._ends = end_tokens(config, tokenizer)
        sizes: dict[str, Any] = {"max_sequences": max_sequences, "max_length": max_length, "ends": sorted(self._ends)}
        if options and backend != "transformers":
            raise DefinitionError('Engine(options=...): these are transformers\'; write backend="transformers", too')
        if backend == "own":
            self._backend: Backend = Batching(model, Sampler(), **sizes)
        elif backend == "transformers":
            self._backend = Continuous(model, options=options, **sizes)
        elif isinstance(backend, str):
            raise DefinitionError(f'Engine(backend={backend!r}): write "own" or "transformers"')
        else:
            self._backend = backend
        self.tokenizer = tokenizer
        self.name = name or str(getattr(model, "name_or_path", "") or "model").rstrip("/").rpartition("/")[2]
        self.max_length = self._backend.max_length
        self._max_sequences = max_sequences
        self._decode = decoding(tokenizer)
        self._tokenizing = threading.Lock()
        tokenizer("")  # a truncation that it came with is off from now on; later that would meet what others decode
        self._making = threading.Lock()  # the backend's
        self._left: deque[Running] = deque()  # what the backend is to let go of
        self._running: set[Running] = set()
        self._is_closed = False

    def stream(self, prompt: str | Sequence[int], **sampling: Any) -> Iterator[Token | Ending]:
        """Go on behind a prompt: `Token`s, and an `Ending` for each choice.

        Args:
            prompt: a text, with the special tokens that the tokenizer adds to it, or token ids, as they are.
            sampling: keywords of `Sampling`.
        Raises:
            InvalidInput: something of what is asked cannot be; says what, and what to write.
        """
        return self._asked("prompt", self._tokenized(prompt) if isinstance(prompt, str) else prompt, sampling)

    def chat(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] = (), **sampling: Any
    ) -> Iterator[Token | Ending]:
        """Answer the last message of a conversation: `{"role", "content"}`, as the model's chat template has it.

        Args:
            tools: as OpenAI writes them; where the model calls some, its ending has `tool_calls`.
            sampling: keywords of `Sampling`.
        Raises:
            InvalidInput: the model takes no conversations, or not this one, or something of what is asked cannot be.
        """
        with self._tokenizing:
            prompt = prompt_of(self.tokenizer, messages, tools)
        answer = self._asked("messages", prompt, sampling)
        return calling(self.tokenizer, prompt, tools, answer) if tools else answer

    def statistics(self) -> EngineStatistics:
        """Count what is under way."""
        running = [*self._running]
        return EngineStatistics(len(running), sum(len(sequence.made) for sequence in running))

    def close(self) -> None:
        """Give back what the backend holds; what is under way fails, and so does what is asked later."""
        with self._making:
            self._is_closed = True
            self._backend.close()
            for sequence in [*self._running]:
                sequence.error = _closed()

    def _asked(self, field: str, ids: Sequence[int], sampling: Mapping[str, Any]) -> Iterator[Token | Ending]:
        """Return what comes behind tokens; where they cannot be, that is said of a field."""
        self._check(field, ids)
        return self._told(ids, self._settled(Sampling(**sampling), ids))

    def _check(self, field: str, ids: Sequence[int]) -> None:
        if not isinstance(ids, Sequence) or isinstance(ids, bytes):
            raise wrong(field, "a text, or a list of token ids", ids)
        if not ids:
            raise wrong(field, f"1 to {self.max_length - 1} tokens", 0)
        if len(ids) >= self.max_length:  # in the words that clients look for, so that they take less of a conversation
            room = f"1 to {self.max_length - 1} tokens, as this model's maximum context length is {self.max_length}"
            raise wrong(field, room, len(ids), type="context_length_exceeded")
        for token in ids:
            check_whole(field, token, 0, self._backend.vocabulary - 1)

    def _tokenized(self, prompt: str) -> list[int]:
        try:
            prompt.encode()
        except UnicodeEncodeError:
            raise wrong("prompt", "a text of Unicode", prompt) from None
        with self._tokenizing:
            ids: list[int] = self.tokenizer(prompt)["input_ids"]
        return ids

    def _settled(self, asked: Sampling, prompt: Sequence[int]) -> Sampling:
        """Fill in what was left to the model, and see what only this engine knows the bounds of."""
        for token in asked.logit_bias:
            check_whole("logit_bias", token, 0, self._backend.vocabulary - 1)
        check_whole("n", asked.n, 1, self._max_sequences)
        room = self.max_length - len(prompt)
        return replace(
            asked,
            max_tokens=min(asked.max_tokens or room, room),
            **{name: value for name, value in self._defaults.items() if getattr(asked, name) is None},
        )

    def _told(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Token | Ending]:
        refuse_loop("Engine")
        seed = secrets.randbits(62) if sampling.seed is None else sampling.seed
        sequences = [Running(prompt, sampling, (seed + index) % 2**63) for index in range(sampling.n)]
        under_way = [
            _Choice(index, sequence, Writer(self._decode, prompt, sampling.stop))
            for index, sequence in enumerate(sequences)
        ]
        self._running.update(sequences)
        pauses = takes_turns()
        try:
            self._begin(sequences)
            if pauses:
                yield _pause()
            while under_way:
                news = self._made(under_way)
                if pauses and not news:
                    yield _pause()
                for each in news:
                    yield from self._tell(each)
                under_way = [choice for choice in under_way if not choice.is_over]
        finally:
            self._let_go(*(sequence for sequence in sequences if sequence in self._running))

    def _begin(self, sequences: Sequence[Running]) -> None:
        with self._making:
            if self._is_closed:
                raise _closed()
            for sequence in sequences:
                self._backend.add(sequence)

    def _made(self, choices: Sequence[_Choice]) -> list[_News]:
        """Return what is new of these, also where another thread has made it; where nothing is, make a step first."""
        with self._making:
            self._drop()
            news = _news(choices)
            if not news:
                self._backend.step()
                news = _news(choices)
        self._drop_if_nobody_makes()
        return news

    def _tell(self, news: _News) -> Iterator[Token | Ending]:
        """Tell what has come of a choice, and its end."""
        choice, tokens, finish_reason, error = news
        writer = choice.writer
        for number, chosen in enumerate(tokens, 1):
            choice.made += 1
            text = "" if chosen.id in self._ends else writer.add(chosen.id)
            if finish_reason is not None and number == len(tokens):
                text += writer.end()
            yield self._token(choice.index, chosen, text)
            if writer.has_ended:
                break
        if writer.has_ended:
            finish_reason = "stop"
        elif error is not None:
            raise error
        if finish_reason is not None:
            choice.is_over = True
            self._let_go(choice.sequence)
            yield choice.ending(finish_reason)

    def _token(self, index: int, chosen: Chosen, text: str) -> Token:
        token = Token(text=text, token=chosen.id, index=index)
        if chosen.logprob is not None:
            token["logprob"] = chosen.logprob
            token["own_text"] = self._decode([chosen.id])
            token["top_logprobs"] = [
                LogProb(token=other, text=self._decode([other]), logprob=logprob)
                for other, logprob in chosen.alternatives
            ]
        return token

    def _let_go(self, *sequences: Running) -> None:
        """Have the backend drop sequences; waits for nobody, as the garbage collector may call it anywhere."""
        self._running.difference_update(sequences)
        self._left.extend(sequences)
        self._drop_if_nobody_makes()

    def _drop_if_nobody_makes(self) -> None:
        """Drop what is left; who has the lock does it else, at its next step or when it has given the lock back."""
        while self._left and self._making.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._making.release()

    def _drop(self) -> None:
        with suppress(IndexError):
            while True:
                self._backend.drop(self._left.popleft())


def _news(choices: Sequence[_Choice]) -> list[_News]:
    """Take what is new of some choices, where something is."""
    found = []
    for choice in choices:
        sequence = choice.sequence
        if sequence.made or sequence.finish_reason is not None or sequence.error is not None:
            found.append(_News(choice, [*sequence.made], sequence.finish_reason, sequence.error))
            sequence.made.clear()
    return found


def _pause() -> Token:
    pause: Any = Pause(text="", token=None, index=0)
    return cast("Token", pause)


def _defaults(config: Any, names: Collection[str]) -> dict[str, Any]:
    """Return how a model is to be sampled where a request leaves it open."""
    said = {name: getattr(config, name, None) for name in names}
    found: dict[str, Any] = {name: _NEUTRAL[name] if value is None else value for name, value in said.items()}
    try:
        Sampling(**found)
    except InvalidInput as error:
        raise DefinitionError(f"The model's generation config says what cannot be: {error}") from None
    return found


def _closed() -> Unavailable:
    return Unavailable("the language model is closed")
