"""Hold keys and values of many sequences, each in a row of its own: what `batching` has a model read and write.

All layers' rows are one tensor, so that a row is copied by one call whatever the number of layers, and the rows of a
forward, which stand side by side, are read as a view of it: nothing is gathered. Rows may have different lengths; what
stands in a row behind its end is hidden by the mask, and has to be numbers (0 * NaN is NaN).

Knows no sequences: which token is where, and what a row is worth, `batching` knows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from ..errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

_MOST_BY_DEFAULT = 4_096
_FEWEST = 8  # which the check reads
_ATTENTION = ("sdpa", "eager")
OTHERWISE = "stream its generate() by TokenStream"
INSTEAD = f'write backend="transformers", or {OTHERWISE}'


class RowCache(Cache):  # type: ignore[misc] # transformers' own, which is not typed
    """Lend a model the rows that `aim` names, as the cache of its next forward.

    Args:
        keys, values: (layers, rows, heads, length, size) each, of which the size may differ.
    """

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        # What models ask of layers: that all of them are whole, and none is compiled.
        super().__init__(layers=[DynamicLayer() for _ in keys])
        self._both = (keys, values)
        self._read: list[Sequence[Tensor]] = []
        self._written: list[Sequence[Tensor]] = []
        self._at: tuple[Any, ...] = ()
        self._past = self._upto = 0

    @classmethod
    @torch.no_grad()
    def of(cls, model: PreTrainedModel, rows: int, length: int) -> Self:
        """Return one of zeros, in the shapes, type and device of the model's own cache.

        Raises:
            DefinitionError: its layers differ in these, or there is no memory for it.
        """
        own = DynamicCache(config=model.config)
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), past_key_values=own, use_cache=True)
        both = [layer.keys for layer in own.layers], [layer.values for layer in own.layers]
        if any(len({(one.shape, one.dtype, one.device) for one in tensors}) != 1 for tensors in both):
            raise DefinitionError(f"the layers of {name_of(model)} differ in shape or device; {INSTEAD}")
        shapes = [(len(tensors), rows, tensors[0].shape[1], length, tensors[0].shape[3]) for tensors in both]
        try:
            return cls(*(tensors[0].new_zeros(shape) for tensors, shape in zip(both, shapes, strict=True)))
        except RuntimeError as error:  # torch's, of a device or of the machine
            size = sum(math.prod(shape) * one[0].itemsize for one, shape in zip(both, shapes, strict=True))
            raise DefinitionError(
                f"{rows} sequences of {length} tokens of {name_of(model)} take {size / 2**20:,.0f} MiB, which "
                f"{model.device} does not have; write a smaller max_sequences or max_length"
            ) from error

    @property
    def length(self) -> int:
        """How many tokens a row holds."""
        return self._both[0].shape[3]

    @property
    def nbytes(self) -> int:
        """How much memory it takes."""
        return sum(tensor.nbytes for tensor in self._both)

    def aim(self, first: int, pasts: Sequence[int], counts: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        """Choose the rows of the next forward: `first` and those behind it.

        Args:
            pasts: how many tokens each row holds.
            counts: how many are given to each; those of fewer than the most are padded behind.
        Returns:
            The positions, (rows, most), and what is added to the scores of attention, (rows, 1, most, tokens read);
            None where it needs no more than what every model hides by itself, which spares the faster kernels a mask.
        """
        width = max(counts)
        rows = slice(first, first + len(pasts))
        self._upto = max(past + count for past, count in zip(pasts, counts, strict=True))
        self._past = self._upto - width
        self._read = [tensor[:, rows, :, : self._upto].unbind() for tensor in self._both]
        self._written = [tensor[:, rows].transpose(2, 3).unbind() for tensor in self._both]
        device = self._both[0].device
        if min(pasts) == max(pasts):
            self._at = (slice(None), slice(self._past, self._upto))
            return torch.arange(self._past, self._upto, device=device).expand(len(pasts), -1), None
        starts = torch.tensor(pasts).to(device, non_blocking=True)  # waits for nothing that the GPU has to do
        # The last place of a row is never read: no token is made behind it. What is padded goes there at worst.
        positions = (starts[:, None] + torch.arange(width, device=device)).clamp_(max=self.length - 1)
        self._at = (torch.arange(len(pasts), device=device)[:, None], positions)
        hidden = torch.arange(self._upto, device=device) > positions[:, None, :, None]
        mask = torch.zeros(hidden.shape, dtype=self._both[0].dtype, device=device)
        return positions, mask.masked_fill_(hidden, float("-inf"))

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Take in what a layer has made of the tokens given, and return the whole of it."""
        for written, states in zip(self._written, (key_states, value_states), strict=True):
            written[layer_idx][self._at] = states.transpose(1, 2)
        return self._read[0][layer_idx], self._read[1][layer_idx]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return how many tokens stand before those given."""
        return self._past

    def get_mask_sizes(self, query_length: int, layer_idx: int = 0) -> tuple[int, int]:
        """Return how many tokens are read, and the first of them."""
        return self._upto, 0

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """Return how many tokens a row holds."""
        return self.length

    def copy(self, source: int, target: int, count: int) -> None:
        """Copy the first tokens of a row over those of another."""
        for tensor in self._both:
            tensor[:, target, :, :count] = tensor[:, source, :, :count]

    def swap(self, one: int, other: int, count: int) -> None:
        """Change the first tokens of two rows for each other's."""
        for tensor in self._both:
            kept = tensor[:, one, :, :count].clone()
            tensor[:, one, :, :count] = tensor[:, other, :, :count]
            tensor[:, other, :, :count] = kept

    def clear(self, row: int) -> None:
        """Put zeros into a row."""
        for tensor in self._both:
            tensor[:, row] = 0


def room(model: PreTrainedModel, max_length: int | None) -> int:
    """Return how many tokens a sequence may have.

    Args:
        max_length: what is asked for; None is what the model reads, and 4,096 at most.
    Raises:
        DefinitionError: the model does not read so many, or not by keys and values of all of them.
    """
    see_that_it_goes_on(model)
    config = model.config.get_text_config(decoder=True)
    if config._attn_implementation not in _ATTENTION:
        raise DefinitionError(
            f"{name_of(model)} has attention {config._attn_implementation!r}, which takes no mask for each row; "
            'load it with attn_implementation="sdpa"'
        )
    reads = _reads(config)
    length = min(reads, _MOST_BY_DEFAULT) if max_length is None else max_length
    if not _FEWEST <= length <= reads:
        raise DefinitionError(f"Expected max_length of {name_of(model)} from {_FEWEST} to {reads}, got {max_length!r}")
    for layer in DynamicCache(config=config).layers:
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            raise DefinitionError(f"{name_of(model)} keeps other things than keys and values ({layer}); {INSTEAD}")
        if getattr(layer, "sliding_window", length) < length:
            raise DefinitionError(
                f"{name_of(model)} looks back {layer.sliding_window} tokens only, and max_length is {length}; "
                f"write max_length={layer.sliding_window}, or {INSTEAD.removeprefix('write ')}"
            )
    return length


def see_that_it_goes_on(model: PreTrainedModel) -> None:
    """See that a model goes on behind a text.

    Raises:
        DefinitionError: it has no head for that, or reads by an encoder.
    """
    if not model.can_generate():
        raise DefinitionError(
            f"Expected a model for causal language modelling, got {type(model).__name__}; "
            "load it by AutoModelForCausalLM"
        )
    if model.config.is_encoder_decoder:
        raise DefinitionError(f"{name_of(model)} has an encoder; {OTHERWISE}")


def _reads(config: PreTrainedConfig) -> int:
    """Return how many tokens a model reads, as far as that does not depend on what is beside them."""
    reads = getattr(config, "max_position_embeddings", None) or -1  # which says that nothing bounds it
    rope = getattr(config, "rope_parameters", None) or {}
    # A long sequence changes the positions of all in its forward. Layers of two types have each their own.
    bounds = [
        one["original_max_position_embeddings"]
        for one in (rope, *rope.values())
        if isinstance(one, dict) and one.get("rope_type") == "longrope"
    ]
    return int(min([*bounds, reads if reads > 0 else _MOST_BY_DEFAULT]))


def name_of(model: PreTrainedModel) -> str:
    """Return what to call a model in messages."""
    return str(model.config.name_or_path or type(model).__name__)
