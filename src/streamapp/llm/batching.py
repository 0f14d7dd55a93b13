"""Make tokens of several sequences by one forward: the own loop, which knows each sequence's every token.

A step is a forward for all sequences that make tokens, and one for the prompts that have come in meanwhile, a part of
them at a time, so that a long one holds nobody up; then the tokens of both are chosen at once, which waits for the
device once. Each sequence has a row of a `RowCache`. Those that make tokens stand first, behind them those whose prompt
is being read, and last the free rows with what sequences have left behind: a new prompt takes what it begins with over
from any row, so that n choices of a prompt, or a conversation that goes on, are read once.

Whatever stands beside a sequence, its tokens are those that it has alone. A model of which that cannot be is refused
where the loop is made, by what it keeps and by trying it. Stop strings, texts and locks are the engine's.
"""

from __future__ import annotations

import operator
import traceback
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from ..errors import DefinitionError, is_out_of_memory
from ..process.logs import logger
from .cache import INSTEAD, RowCache, name_of, room

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel

    from .generation import Chosen, Running

_WORTH_REUSE = 16  # tokens: reading fewer beside other prompts costs no more than copying them


class Choosing(Protocol):
    """Choose tokens, as `Sampler` does."""

    def begin(self, sequence: Running) -> Any:
        """Return what to keep for a sequence while it runs."""
        ...

    def choose(self, logits: Tensor, states: Sequence[Any]) -> Sequence[Chosen | None]:
        """Choose a token for each row of (rows, vocabulary); None has told in its sequence's `error` why not."""
        ...


class BatchingStatistics(NamedTuple):
    """Count what the loop has, and what it has done."""

    #: sequences that have a row
    running: int
    #: sequences that wait for one
    waiting: int
    steps: int
    #: tokens made
    made: int
    #: tokens of prompts that were read
    read: int
    #: tokens of prompts that were taken over from other sequences
    reused: int


# Where rows stand: those that make tokens, those whose prompt is being read, the free ones.
_MAKES, _READS, _FREE = range(3)


class _Row:
    """Hold what a row of the cache has, and whose it is.

    Attributes:
        tokens: those whose keys and values it has.
        ahead: what comes next: the rest of a prompt, or the last token made.
        left: the step at which its last sequence has ended.
        is_soiled: what stands in it may be no numbers.
    """

    __slots__ = ("ahead", "is_soiled", "left", "made", "sequence", "state", "tokens")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.ahead: list[int] = []
        self.sequence: Running | None = None
        self.state: Any = None
        self.made = self.left = 0
        self.is_soiled = False

    @property
    def stage(self) -> int:
        """Where it stands among the rows."""
        if self.sequence is None:
            return _FREE
        return _MAKES if self.made else _READS


class _Part(NamedTuple):
    """Hold what a forward has read: the rows that have their next token now, and its logits; how much of the others."""

    whole: list[_Row]
    logits: Tensor
    partly: list[tuple[_Row, int]]


class Batching:
    """Make tokens of any of transformers' models whose cache is keys and values of all tokens.

    Args:
        model: for causal language modelling; put into evaluation mode.
        sampler: chooses tokens of logits in float32.
        max_sequences: so many run at a time; the others wait in their order.
        max_length: tokens of a sequence, prompt and what is made; None is what the model reads, and 4,096 at most.
        ends: tokens that end a sequence.
        prefill_tokens: at most so many tokens of prompts are read in a step.
    Raises:
        DefinitionError: this loop cannot run the model; says what can.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sampler: Choosing,
        *,
        max_sequences: int = 16,
        max_length: int | None = None,
        ends: Collection[int] = (),
        prefill_tokens: int = 512,
    ) -> None:
        if type(max_sequences) is not int or max_sequences < 1:
            raise DefinitionError(f"Expected max_sequences of at least 1, got {max_sequences!r}")
        self.max_length = room(model, max_length)
        self._model = model.eval()
        self._sampler = sampler
        self._ends = frozenset(ends)
        self._prefill_tokens = prefill_tokens
        self._rows = [_Row() for _ in range(max_sequences)]
        self._waiting: deque[tuple[Running, Any]] = deque()
        self._steps = self._made = self._read = self._reused = 0
        try:
            self._cache = RowCache.of(model, max_sequences, self.max_length)
            self.vocabulary = self._check()
        except Exception as error:  # the model's, which takes no such cache
            if isinstance(error, DefinitionError) or is_out_of_memory(error):
                raise
            raise DefinitionError(f"{name_of(model)} takes no cache of rows ({error!r:.200}); {INSTEAD}") from error
        logger.info(
            "%s: room for %d sequences of %d tokens in %.0f MiB of %s",
            *(name_of(model), max_sequences, self.max_length, self._cache.nbytes / 2**20, model.device),
        )

    @torch.inference_mode()
    def _check(self) -> int:
        """Compare what the model makes of tokens at once with what it makes of them in pieces, beside others.

        Returns how many tokens it knows.
        """
        ids = list(range(6))
        alone = self._model(input_ids=torch.tensor([ids], device=self._model.device), use_cache=False).logits[0].float()
        rows = self._rows[:2]
        for pieces in (ids[:2], ids[:4]), (ids[2:5], ids[4:6]):
            for row, piece in zip(rows, pieces, strict=False):
                row.ahead = [*piece]
            logits = self._forward(0, rows, [row.ahead for row in rows]).logits
            for row in rows:
                row.tokens += row.ahead
        expected = alone[[len(row.tokens) - 1 for row in rows]]
        tolerance = 1e-3 if self._model.dtype == torch.float32 else 0.1  # what rounding makes of another order of sums
        if not (logits - expected).abs().max() <= tolerance * (expected.max() - expected.min()):
            raise DefinitionError(f"{name_of(self._model)} makes other tokens beside others than alone; {INSTEAD}")
        for row in rows:
            self._free(row, is_sound=False)
        return int(alone.shape[-1])

    def add(self, sequence: Running) -> None:
        """Take a sequence in, which was checked; it waits for a row."""
        self._waiting.append((sequence, self._sampler.begin(sequence)))

    def drop(self, sequence: Running) -> None:
        """Let go of a sequence; its row's tokens stay for others that begin with them. Never raises."""
        self._waiting = deque(entry for entry in self._waiting if entry[0] is not sequence)
        for row in self._rows:
            if row.sequence is sequence:
                self._free(row, is_sound=row.stage == _MAKES)

    def close(self) -> None:
        """Give the cache's memory back; nothing is asked of it any more."""
        self._waiting.clear()
        self._rows.clear()
        del self._cache

    def statistics(self) -> BatchingStatistics:
        """Count what it has, and has done."""
        running = sum(row.sequence is not None for row in self._rows)
        return BatchingStatistics(running, len(self._waiting), self._steps, self._made, self._read, self._reused)

    @torch.inference_mode()
    def step(self) -> None:
        """Make a token of each sequence that makes some, and read prompts on; waits for the device once.

        What raises in a forward ends the sequences of that one, by their `error`. What is no `Exception` passes
        through, and the next step begins where this one did.
        """
        self._steps += 1
        with self._ending(self._rows):
            self._arrange()
        parts: list[_Part] = []
        first = 0
        for stage in (_MAKES, _READS):
            rows = [row for row in self._rows if row.stage == stage]
            if rows:
                width = max(1, self._prefill_tokens // len(rows))
                with self._ending(rows):
                    parts.append(self._forward(first, rows, [row.ahead[:width] for row in rows]))
                first += len(rows)
        whole = [row for part in parts for row in part.whole]
        if whole:
            with self._ending(whole):
                logits = torch.cat([part.logits for part in parts if part.whole])
                for row, chosen in zip(whole, self._sampler.choose(logits, [row.state for row in whole]), strict=True):
                    self._take(row, chosen)
        for part in parts:
            for row, count in part.partly:
                row.tokens += row.ahead[:count]
                del row.ahead[:count]
                self._read += count

    def _forward(self, first: int, rows: Sequence[_Row], given: Sequence[list[int]]) -> _Part:
        """Have the model read what is given to each of some rows, of which `first` is the first."""
        counts = [len(ids) for ids in given]
        width = max(counts)
        positions, mask = self._cache.aim(first, [len(row.tokens) for row in rows], counts)
        padded = torch.tensor([[len(ids) - 1, *ids, *[0] * (width - len(ids))] for ids in given])
        padded = padded.to(self._model.device, non_blocking=True)
        logits = self._model(
            input_ids=padded[:, 1:],
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1 if min(counts) == width else padded[:, :1],  # of each row's last token
        ).logits[:, 0]
        whole = [n for n, row in enumerate(rows) if counts[n] == len(row.ahead)]
        partly = [(row, count) for row, count in zip(rows, counts, strict=True) if count < len(row.ahead)]
        if whole and partly:
            logits = torch.stack([logits[n] for n in whole])
        return _Part([rows[n] for n in whole], logits.float(), partly)

    def _arrange(self) -> None:
        """Give free rows to those that wait, and put the rows in order."""
        for place, row in enumerate(self._rows):
            if row.is_soiled:
                self._cache.clear(place)
                row.is_soiled = False
        for entry in [*self._waiting]:
            if not any(row.stage == _FREE for row in self._rows):
                break
            self._admit(*entry)
        for place, stage in enumerate(sorted(row.stage for row in self._rows)):
            if self._rows[place].stage != stage:  # then the last of that stage stands too far behind
                other = max(n for n, row in enumerate(self._rows) if row.stage == stage)
                one, two = self._rows[place], self._rows[other]
                self._cache.swap(place, other, max(len(one.tokens), len(two.tokens)))
                self._rows[place], self._rows[other] = two, one

    def _admit(self, sequence: Running, state: Any) -> None:
        """Give a sequence a free row, with as much of its prompt in it as any row has.

        Where a row that is being read will have more of it, it waits for that.
        """
        prompt = sequence.prompt[:-1]  # the last one is read in any case: what follows it is asked for
        promised = [_shared(row.tokens + row.ahead, prompt) for row in self._rows if row.stage == _READS]
        held = [_shared(row.tokens, prompt) for row in self._rows]
        shared = max(held)
        if max(promised, default=0) >= max(_WORTH_REUSE, shared + 1):
            return
        free = [place for place, row in enumerate(self._rows) if row.stage == _FREE]
        place = min(free, key=lambda place: (self._rows[place].tokens != [], self._rows[place].left))
        source = held.index(shared)
        if shared < _WORTH_REUSE:
            shared = 0
        elif source in free and 2 * shared >= len(self._rows[source].tokens):
            place = source
        elif source != place:
            self._cache.copy(source, place, shared)
        self._waiting.remove((sequence, state))
        self._reused += shared
        row = self._rows[place]
        row.sequence, row.state = sequence, state
        row.tokens, row.ahead = [*prompt[:shared]], [*sequence.prompt[shared:]]

    def _take(self, row: _Row, chosen: Chosen | None) -> None:
        """Hand a token out that was made behind all that a row had ahead."""
        assert row.sequence is not None
        if chosen is None:  # its error says why
            self._free(row, is_sound=False)
            return
        self._read += len(row.ahead) if not row.made else 0
        row.tokens += row.ahead
        row.ahead = [chosen.id]
        row.made += 1
        self._made += 1
        row.sequence.made.append(chosen)
        if chosen.id in self._ends:
            row.sequence.finish_reason = "stop"
        elif row.made == row.sequence.sampling.max_tokens or len(row.tokens) + 1 == self.max_length:
            row.sequence.finish_reason = "length"
        if row.sequence.finish_reason is not None:
            self._free(row)

    def _free(self, row: _Row, *, is_sound: bool = True) -> None:
        """Take a row from its sequence; what is sound in it stays to be taken over."""
        row.sequence = row.state = None
        row.ahead = []
        row.made, row.left = 0, self._steps
        if not is_sound:
            row.tokens, row.is_soiled = [], True

    @contextmanager
    def _ending(self, rows: Sequence[_Row]) -> Iterator[None]:
        """End the sequences of rows where it fails, and nobody else's."""
        try:
            yield
        except Exception as error:  # the model's, or the device's: each reader's job logs it
            traceback.clear_frames(error.__traceback__)  # which hold the layers' tensors
            for row in rows:
                if row.sequence is not None:
                    row.sequence.error = error
                    self._free(row, is_sound=False)


def _shared(tokens: Sequence[int], others: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with in common."""
    differ = map(operator.ne, tokens, others)
    return next((n for n, differs in enumerate(differ) if differs), min(len(tokens), len(others)))
