"""Stream the tokens of any `generate()` as text, whoever wrote it: it calls `streamer.put` with them.

`generate` cannot be left in the middle, so it has a thread of its own. That one goes on only while the reader asks for
the next token, who waits meanwhile: the two take turns. So what is said of the reader's thread, that one job at a time
is on the model, holds here as well; torch's modes (gradients, inference, autocast) and context variables are the
reader's.

Divergence: not transformers' `TextIteratorStreamer`, which makes its reader wait for ever when `generate` raises, goes
on to the end when nobody reads, and decodes words again and again.
"""

import contextvars
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ..errors import DefinitionError
from .generation import Ending, FinishReason, Token, Usage, refuse_loop, stop_texts
from .text import Writer, decoding, end_tokens

_DEVICES = ("cpu", "cuda")
_NUMBERS = itertools.count()


class TokenStream:
    """Go through the tokens that a `generate` makes, and its `Ending`; closing it ends that within a token.

        yield from TokenStream(tokenizer, model.generate, **tokenizer(prompt, return_tensors="pt"), max_new_tokens=50)

    Args:
        generate: called with `inputs` and a `streamer`, whose `put` it gives the prompt, then each token. Of one
            sequence, without beams.
        stop: texts that end it, up to 16, or one.
        inputs: what `generate` takes.
    Raises:
        DefinitionError: it would make several sequences, or beams; says what to write.
        InvalidInput: `stop` is no such text.
    """

    def __init__(
        self, tokenizer: Any, generate: Callable[..., Any], /, *, stop: str | Sequence[str] = (), **inputs: Any
    ) -> None:
        config = inputs.get("generation_config") or getattr(
            getattr(generate, "__self__", None), "generation_config", None
        )
        _refuse_several(config, inputs)
        ends = end_tokens(config, tokenizer) | end_tokens(SimpleNamespace(**inputs))
        self._items = _told(_Generation(generate, inputs), decoding(tokenizer), stop_texts(stop), ends)

    def __iter__(self) -> Iterator[Token | Ending]:
        return self

    def __next__(self) -> Token | Ending:
        return next(self._items)

    def close(self) -> None:
        """End the generation; waits until it has ended."""
        self._items.close()


class _ReaderHasLeft(BaseException):
    """End a `generate` that nobody reads; a `BaseException`, so that no `except Exception` in it goes on."""


class _Generation:
    """Run a `generate` in a thread that goes on while it is asked for a token; the `streamer` that it is given.

    Attributes:
        prompt: the ids that were put first.
        made: tokens that were put and not taken.
        error: what it has raised.
    """

    def __init__(self, generate: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
        self._generate = generate
        self.inputs = inputs
        self.prompt: list[int] | None = None
        self.made: deque[int] = deque()
        self.error: BaseException | None = None
        self._has_left = self._has_ended = False
        self._given = threading.Semaphore(0)
        self._given_back = threading.Semaphore(0)
        self._thread: threading.Thread | None = None

    def go_on(self) -> bool:
        """Have it make the next token, and wait for it; False when it has ended."""
        if self._thread is None:
            run = partial(contextvars.copy_context().run, self._work, _modes())
            self._thread = threading.Thread(target=run, name=f"generate-{next(_NUMBERS)}", daemon=True)
            self._thread.start()
        else:
            self._given.release()
        self._given_back.acquire()
        return not self._has_ended

    def leave(self) -> None:
        """Have it end at its next token, and wait until it has."""
        self._has_left = True
        if self._thread is not None:
            self._given.release()
            self._thread.join()

    def put(self, value: Any) -> None:
        """Take the prompt, then tokens: `generate` calls it, and goes on when it is its turn again."""
        if self._has_left:
            raise _ReaderHasLeft
        tokens = torch.as_tensor(value)
        if self.prompt is None:
            if tokens.dim() > 1 and len(tokens) > 1:
                raise _several("sequences", len(tokens))
            self.prompt = tokens.flatten().tolist()
            return
        self.made.extend(tokens.flatten().tolist())
        self._given_back.release()
        self._given.acquire()
        if self._has_left:
            raise _ReaderHasLeft

    def end(self) -> None:
        """Hear that it has made all; that it returns says the same."""

    def _work(self, modes: list[AbstractContextManager[Any]]) -> None:
        try:
            with ExitStack() as stack:
                for mode in modes:
                    stack.enter_context(mode)
                self._generate(**self.inputs, streamer=self)
        except _ReaderHasLeft:
            pass
        except BaseException as error:  # the model's code's: its reader hears of it
            self.error = error
        finally:
            self._has_ended = True
            self._given_back.release()


def _modes() -> list[AbstractContextManager[Any]]:
    """Return what torch is told in this thread, for another one."""
    casts = [
        torch.autocast(device, torch.get_autocast_dtype(device))
        for device in _DEVICES
        if torch.is_autocast_enabled(device)
    ]
    return [
        torch.inference_mode(torch.is_inference_mode_enabled()),
        torch.set_grad_enabled(torch.is_grad_enabled()),
        *casts,
    ]


def _told(
    generation: _Generation, decode: Callable[[list[int]], str], stops: Sequence[str], ends: frozenset[int]
) -> Generator[Token | Ending, None, None]:
    refuse_loop("TokenStream")
    writer = Writer(decode, (), stops)
    count, token = 0, -1
    try:
        while not writer.has_ended and generation.go_on():
            if not count:
                writer = Writer(decode, generation.prompt or (), stops)
            while generation.made and not writer.has_ended:
                token = generation.made.popleft()
                count += 1
                yield Token(text="" if token in ends else writer.add(token), token=token, index=0)
    finally:
        generation.leave()
    if generation.error is not None:
        raise generation.error
    rest = writer.end()
    if rest:
        yield Token(text=rest, index=0)
    most = generation.inputs.get("max_new_tokens")
    is_short = most is not None and count < most
    finish_reason: FinishReason = "stop" if writer.has_ended or token in ends or is_short else "length"
    prompt = _prompt_size(generation)
    usage = Usage(prompt_tokens=prompt, completion_tokens=count, total_tokens=prompt + count)
    yield Ending(text=writer.text, index=0, finish_reason=finish_reason, usage=usage)


def _prompt_size(generation: _Generation) -> int:
    """Count the tokens of what was given; an encoder's are not what is put."""
    given = _given(generation.inputs)
    return len(generation.prompt or ()) if given is None else given.numel()


def _given(inputs: Mapping[str, Any]) -> Tensor | None:
    found = (inputs.get(name) for name in ("input_ids", "inputs"))
    return next((one for one in found if isinstance(one, Tensor) and one.dim() == 2), None)


def _refuse_several(config: Any, inputs: Mapping[str, Any]) -> None:
    given = _given(inputs)
    if given is not None and len(given) != 1:
        raise _several("sequences", len(given))
    for name in ("num_beams", "num_return_sequences"):
        count = inputs.get(name) or getattr(config, name, None) or 1
        if count > 1:
            raise _several(name, count)


def _several(what: str, count: int) -> DefinitionError:
    write = "one prompt for each TokenStream" if what == "sequences" else f"{what}=1"
    return DefinitionError(f"TokenStream: tokens come of one sequence at a time, not of {what}: {count}; write {write}")
