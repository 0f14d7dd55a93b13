"""Make tokens by transformers' `ContinuousBatchingManager`: a paged cache, CUDA graphs and flash, for big models.

It runs the model in a thread of its own, from its start to its end; everything else here is called by the engine. What
that thread has made crosses in one place, `_Newest`: one lock, and no more outputs than sequences. One request that it
cannot take ends it for everybody and tells nobody, so such requests are refused before, and it is watched: when it has
ended, all that it had at work fails with an error that says to ask again, and the next request starts it anew.

What each request may choose there is temperature, top_k and top_p. The rest needs the engine's own loop.

Divergence: batches are not prepared ahead (`use_async_batching`), although transformers would on a GPU. There a request
that is cancelled while a batch is under way which fills one of its blocks is looked for in vain, which ends the loop.
`cancel` of this one is an everyday matter: `mark_complete_blocks` in transformers 5.23's `cache_allocators`.
"""

import itertools
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingTemperatureLogitsWarper
from transformers.generation.continuous_batching.continuous_api import OutputRouter
from transformers.generation.continuous_batching.model_runner import infer_max_single_request_tokens
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus

from ..errors import (
    DefinitionError,
    GpuFailed,
    InvalidInput,
    OutOfMemory,
    StreamAppError,
    Unavailable,
    is_out_of_memory,
    tells_of_gpu,
)
from ..process.logs import logger
from .cache import OTHERWISE, name_of, see_that_it_goes_on
from .generation import Chosen, Running, Sampling

_LOOK_S = 0.5  # how often who waits for a token looks whether the thread is alive; it is told of tokens at once
_STOP_S = 10.0
_MAX_PAUSE_S = 60
_BATCH_TOKENS = 1024  # of prompts in one step: the others' tokens wait for it
# What a manager must be told at its start to heed what its requests say: neither None nor 1.0, which mean "never".
_PER_REQUEST: dict[str, Any] = {"do_sample": True, "temperature": 0.5, "top_k": 50, "top_p": 0.5}
_TRIED = [[1, 2], [0, 1, 2, 3, 4]], 4  # prompts of the trial, and how many tokens are made of each
_FEWEST = 9  # which the trial needs
_GREEDY_BELOW = 1e-6  # there the next best token has no chance, and a division would come near what floats can hold
# What of a request only the own loop can do, by its neutral value.
_NEUTRAL = {
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "logit_bias": {},
    "seed": None,
    "logprobs": None,
}


class _Temperature(ContinuousBatchingTemperatureLogitsWarper):  # type: ignore[misc]
    """Take the likeliest token where the temperature is 0, for which `top_k` of 1 leaves several of the same score.

    No temperature makes infinities, as dividing the scores themselves does: of those there is no drawing.
    """

    def __call__(self, scores: Tensor, tensor_arg: Tensor) -> Tensor:
        """Return the scores, (sequences, vocabulary), by each one's temperature; waits for no GPU."""
        temperature = tensor_arg[: len(scores)].view(dtype=torch.float32).unsqueeze(-1)
        likeliest = torch.full_like(scores, -math.inf).scatter(-1, scores.argmax(-1, keepdim=True), 0.0)
        below = scores - scores.amax(-1, keepdim=True)
        return torch.where(temperature < _GREEDY_BELOW, likeliest, below / temperature)


class _Newest(OutputRouter):  # type: ignore[misc]
    """Hold the newest output of each sequence that is awaited, from the manager's thread to the engine's. Thread-safe.

    An output has all tokens of its sequence, so that a newer one takes its place: there are never more than sequences.
    """

    def __init__(self, manager: ContinuousBatchingManager) -> None:
        super().__init__()
        self._manager = manager
        self._has_news = threading.Condition()  # of a lock that can be had again, by the garbage collector
        self._awaited: set[str] = set()
        self._news: dict[str, GenerationOutput] = {}
        self._left: deque[str] = deque()

    def expect(self, request_id: str) -> None:
        """Keep what comes for this one from now on."""
        with self._has_news:
            self._awaited.add(request_id)

    def forget(self, request_id: str) -> None:
        """Keep nothing more of it."""
        with self._has_news:
            self._awaited.discard(request_id)
            self._news.pop(request_id, None)

    def leave(self, request_id: str) -> None:
        """Have it cancelled with the next token that is made, or waited for.

        Not at once: the garbage collector calls this anywhere, in the midst of the manager's own queues as well, whose
        locks cannot be had twice.
        """
        self.forget(request_id)
        self._left.append(request_id)

    def take(self, timeout_s: float) -> list[GenerationOutput]:
        """Return what is new; waits for it, but not for longer."""
        self._cancel_left()
        with self._has_news:
            self._has_news.wait_for(lambda: self._news, timeout_s)
            taken = [output for request_id, output in self._news.items() if request_id in self._awaited]
            self._news.clear()
        return taken

    def deliver(self, output: GenerationOutput) -> None:
        """Take in one output; the manager's thread calls it."""
        self.deliver_batch([output])

    def deliver_batch(self, outputs: list[GenerationOutput]) -> None:
        """Take in what a step has made; the manager's thread calls it."""
        with self._has_news:
            for output in outputs:
                if output.request_id in self._awaited:
                    self._news[output.request_id] = output
                elif not output.is_finished():  # one cancelled before the manager had it, of which that does not hear
                    self._left.append(output.request_id)
            self._has_news.notify_all()
        self._cancel_left()

    def _cancel_left(self) -> None:
        with suppress(IndexError):
            while True:
                self._manager.cancel_request(self._left.popleft())


@dataclass(slots=True)
class _Place:
    """Hold a sequence that the manager has, and how many of its tokens were passed on."""

    sequence: Running
    taken: int = 0


class Continuous:
    """Run sequences in transformers' manager: a `Backend`. Its attention is switched to one with a paged cache.

    Args:
        model: any that has `init_continuous_batching`; it is put into `eval` mode.
        ends: ids of the tokens that end a text.
        max_sequences: so many run at a time, more wait.
        max_length: of a sequence, prompt and what is made; None is the model's own.
        options: what transformers' `ContinuousBatchingConfig` takes. Without `num_blocks` or `max_memory_percent` there
            is room for all sequences at their full length on a CPU, or where `max_length` says how much that is; else
            for what the GPU has free.
    Raises:
        DefinitionError: there is no such option, or not so much memory, or the model makes other tokens than alone.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        ends: Collection[int],
        max_sequences: int,
        max_length: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if max_length is not None and max_length < _FEWEST:
            raise DefinitionError(f"Expected max_length of at least {_FEWEST}, got {max_length!r}")
        see_that_it_goes_on(model)
        alone = [_alone(model.eval(), prompt) for prompt in _TRIED[0]]
        text = model.config.get_text_config()
        self._model = model
        self._attention: str = model.config._attn_implementation
        self._ends = [*ends]
        self._numbers = itertools.count()
        self._places: dict[str, _Place] = {}
        self._ids: dict[Running, str] = {}
        self._failures = 0  # since the last sequence that has come to its end
        self._not_before = -math.inf
        self.vocabulary: int = text.vocab_size
        try:
            self._config = _config(model, max_sequences, max_length, options or {})
            self._start()
        except (TypeError, ValueError, MemoryError) as error:
            raise DefinitionError(
                f'Engine(backend="transformers", max_sequences={max_sequences}, max_length={max_length}, '
                f"options={options}): {error}; write what transformers' ContinuousBatchingConfig takes, or {OTHERWISE}"
            ) from error
        room = infer_max_single_request_tokens(self._manager.batch_processor.cache)
        reads = getattr(text, "max_position_embeddings", room)
        self.max_length: int = min(max_length or room, reads if reads > 0 else room, room)
        self._try(alone)

    def add(self, sequence: Running) -> None:
        """Give a sequence to the manager. Starts it, which takes its time, where it has ended.

        Raises:
            InvalidInput: only the own loop can do this, or the manager would end by it.
            Unavailable: it ends again and again; says when it is tried anew.
        """
        self._check(sequence)
        if not self._manager.is_running():
            self._begin_again()
        request_id = str(next(self._numbers))
        self._ids[sequence] = request_id
        self._places[request_id] = _Place(sequence)
        self._newest.expect(request_id)
        sampling = sequence.sampling
        room = self.max_length - len(sequence.prompt)
        # It returns None where it has ended just now, which `step` finds out.
        self._manager.add_request(
            [*sequence.prompt],
            request_id=request_id,
            max_new_tokens=min(sampling.max_tokens or room, room),
            streaming=True,
            eos_token_id=self._ends,
            temperature=float(1.0 if sampling.temperature is None else sampling.temperature),
            top_k=min(sampling.top_k or self.vocabulary, self.vocabulary),
            top_p=float(1.0 if sampling.top_p is None else sampling.top_p),
        )

    def step(self) -> None:
        """Wait until there is something new of any sequence."""
        while self._places and not self._pass_on(self._newest.take(_LOOK_S)):
            pass

    def drop(self, sequence: Running) -> None:
        """Have the manager let go of a sequence; does not wait for it."""
        request_id = self._ids.pop(sequence, None)
        if request_id is not None:
            del self._places[request_id]
            self._newest.leave(request_id)

    def close(self) -> None:
        """End the manager and its thread, and give the model its attention back; waits for 10 s at most."""
        self._end()
        self._fail_all(None)

    def _try(self, alone: Sequence[Sequence[Tensor]]) -> None:
        """Compare what is made here with what the model makes alone: not all that transformers batches comes out right.

        Source: in transformers 5.23 attention that models compute themselves (Bloom, GPT-J, MPT) knows no paged cache.
        """
        prompts, count = _TRIED
        sequences = [Running(prompt, Sampling(max_tokens=count, temperature=0), 0) for prompt in prompts]
        for sequence in sequences:
            self.add(sequence)
        while self._places:
            self.step()
        tolerance = 1e-3 if self._model.dtype == torch.float32 else 0.1  # as in `batching`
        failed = next((sequence.error for sequence in sequences if sequence.error is not None), None)
        error = failed and (self._manager.background_thread_status.fatal_error or failed)
        agree = [_agree(made.made, one, tolerance) for made, one in zip(sequences, alone, strict=True)]
        if error is not None or not all(agree):
            self._end()
            if error is not None and is_out_of_memory(error):
                raise error
            found = "makes other tokens than alone" if error is None else f"fails ({error!r:.200})"
            raise DefinitionError(f"{name_of(self._model)} {found} by transformers' batching; {OTHERWISE}") from error

    def _check(self, sequence: Running) -> None:
        _refuse_what_the_own_loop_does(sequence.sampling)
        length = len(sequence.prompt)
        if not 0 < length < self.max_length:
            raise InvalidInput(f"Expected a prompt of 1 to {self.max_length - 1} tokens, got {length}")
        if min(sequence.prompt) < 0 or max(sequence.prompt) >= self.vocabulary:
            raise InvalidInput(f"Expected tokens from 0 to {self.vocabulary - 1}, got {max(sequence.prompt)}")

    def _pass_on(self, outputs: list[GenerationOutput]) -> bool:
        """Give each sequence what is new, or its error when the thread has ended; False when there was nothing."""
        made = [output for output in outputs if output.status != RequestStatus.FAILED]
        for output in made:
            place = self._places[output.request_id]
            tokens = output.generated_tokens
            place.sequence.made.extend(map(Chosen, tokens[place.taken :]))
            place.taken = len(tokens)
            if output.is_finished():
                place.sequence.finish_reason = "stop" if tokens[-1] in self._ends else "length"
                self._failures = 0
                self._newest.forget(output.request_id)
                del self._places[output.request_id], self._ids[place.sequence]
        if len(made) == len(outputs) and (outputs or self._manager.is_running()):
            return bool(outputs)
        self._fail()
        return True

    # Its start, and how it ends.

    def _start(self) -> None:
        """Make a manager, with its cache and CUDA graphs, and start its thread."""
        config = GenerationConfig(**_PER_REQUEST, eos_token_id=-1)
        try:
            manager = self._model.init_continuous_batching(config, self._config)
            processors = manager.logit_processor.logits_processor
            processors[0] = _Temperature(processors[0])
            self._newest = manager.output_router = _Newest(manager)
            manager.warmup()
        except Exception:  # out of memory, say: whoever has it start hears of it, and the model is as it was
            _give_back(self._model, self._attention)
            raise
        self._manager = manager
        self._end = weakref.finalize(self, _end, manager, self._attention)
        # Its thread is a daemon as this one is: not ended, it does not keep the process.
        starter = threading.Thread(target=manager.start, daemon=True)
        starter.start()
        starter.join(_STOP_S)

    def _begin_again(self) -> None:
        if self._end.alive:
            self._fail()
        left = self._not_before - time.monotonic()
        if left > 0:
            raise Unavailable(
                f"the language model has failed {self._failures} times; it is started again in {math.ceil(left)} s",
                retry_after_s=math.ceil(left),
            )
        try:
            self._start()
        except Exception as error:  # the GPU's memory may be somebody else's by now, and torch raises anything
            self._count(error)
            raise _told(error) from error

    def _fail(self) -> None:
        """End all that is at work, once the thread has ended: it says only then why."""
        self._end()
        error = self._manager.background_thread_status.fatal_error
        self._count(error)
        self._fail_all(error)

    def _count(self, error: Exception | None) -> None:
        pause_s = min(2 ** (self._failures - 1), _MAX_PAUSE_S) if self._failures else 0
        self._failures += 1
        self._not_before = time.monotonic() + pause_s
        logger.error(
            "transformers' batching has ended by %r with %d sequences at work; a request starts it again, after %d s",
            error,
            len(self._places),
            pause_s,
        )

    def _fail_all(self, error: Exception | None) -> None:
        for place in self._places.values():
            place.sequence.error = _told(error)
        self._places.clear()
        self._ids.clear()


def _config(
    model: PreTrainedModel, max_sequences: int, max_length: int | None, options: Mapping[str, Any]
) -> ContinuousBatchingConfig:
    chosen = {
        "max_requests_per_batch": max_sequences,
        "max_batch_tokens": max(_BATCH_TOKENS, max_sequences),
        "use_async_batching": False,
        **options,
    }
    config = ContinuousBatchingConfig(**chosen, per_request_processors=True)
    length = max_length or getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if (max_length or model.device.type == "cpu") and length and not {"num_blocks", "max_memory_percent"} & {*options}:
        config.num_blocks = max_sequences * math.ceil(length / config.page_size)
    return config


@torch.inference_mode()
def _alone(model: PreTrainedModel, prompt: Sequence[int]) -> list[Tensor]:
    """Return the logits of the tokens that a model makes of a prompt by itself, the likeliest each."""
    ids, found = torch.tensor([prompt], device=model.device), []
    for _ in range(_TRIED[1]):
        found.append(model(input_ids=ids, use_cache=False).logits[0, -1].float())
        ids = torch.cat([ids, found[-1].argmax()[None, None]], 1)
    return found


def _agree(made: Iterable[Chosen], alone: Iterable[Tensor], tolerance: float) -> bool:
    """Tell whether tokens are the likeliest ones; behind one that was about as likely nothing is known."""
    for (token, *_), logits in zip(made, alone, strict=False):
        if token != logits.argmax():
            return bool(logits.max() - logits[token] <= tolerance * (logits.max() - logits.min()))
    return True


def _refuse_what_the_own_loop_does(sampling: Sampling) -> None:
    for name, neutral in _NEUTRAL.items():
        value = getattr(sampling, name)
        if value is not None and value != neutral:
            raise InvalidInput(
                f"{name}={value!r} is not possible with this model: transformers batches it; leave {name} out, or have "
                'it served by Engine(..., backend="own")'
            )


def _told(error: BaseException | None) -> StreamAppError:
    """Return what a sequence's reader hears of the manager's end, by its reason."""
    if error is not None and is_out_of_memory(error):
        return OutOfMemory("the language model ran out of GPU memory; ask for less, or try again")
    if error is not None and tells_of_gpu(error):
        return GpuFailed("GPU error")
    return Unavailable("the language model has ended what it was at; try again")


def _end(manager: ContinuousBatchingManager, attention: str) -> None:
    """End a manager's thread, and give its model back the attention that it had."""
    manager.stop(timeout=_STOP_S, hard_stop=True)
    _give_back(manager.model, attention)


def _give_back(model: PreTrainedModel, attention: str) -> None:
    if model.config._attn_implementation != attention:
        model.set_attn_implementation(attention)
