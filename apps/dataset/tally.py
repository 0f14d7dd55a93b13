"""Sum up any number of texts in constant memory.

All that is kept are whole numbers and maxima, and these come out the same in whatever pieces the texts come: two runs,
of which the second goes on where the first was cut, have the summary of one. (Welford's sums would be rounded, each
time another way.)
"""

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from hashlib import md5
from operator import mul
from typing import Annotated, Any

import pybase64
from pydantic import BaseModel, Field, ValidationError, field_serializer, field_validator

from streamapp.errors import InvalidInput

from .records import Place

_REGISTERS = 1024  # of the sketch: its estimate is within 3 % in two of three cases
_BITS = 10
_BIAS = 0.7213 / (1 + 1.079 / _REGISTERS)

_MOST_JSON = 32 * 1024  # bytes of a state, which a request may have made

Count = Annotated[int, Field(ge=0, lt=2**63)]


class Tally(BaseModel):
    """Hold what of the texts of a file is known, and where the next one begins.

    Attributes:
        size: the file's.
        squares: the sum of the lengths' squares.
        feelings: how many texts have each label, where that was asked for.
        registers: of HyperLogLog, a byte each, for how many different texts there are: the most zeros at the end of a
            hash, and one. Source: Flajolet et al., 2007.
    """

    size: Count = 0
    offset: Count = 0
    line: Count = 0
    processed: Count = 0
    failed: Count = 0
    total_length: Count = 0
    squares: int = Field(default=0, ge=0, lt=2**127)
    shortest: Count | None = None
    longest: Count = 0
    feelings: dict[Annotated[str, Field(max_length=100)], Count] = Field(default={}, max_length=100)
    registers: list[Annotated[int, Field(ge=0, le=64)]] = Field(
        default_factory=lambda: [0] * _REGISTERS, min_length=_REGISTERS, max_length=_REGISTERS
    )

    @field_serializer("registers")
    def _packed(self, registers: list[int]) -> str:
        return pybase64.b64encode_as_string(bytes(registers))

    @field_validator("registers", mode="before")
    @classmethod
    def _unpacked(cls, given: Any) -> Any:
        return list(pybase64.b64decode(given, validate=True)) if isinstance(given, str) else given

    def add(self, texts: Sequence[str], feelings: Sequence[str] = ()) -> list[bytes]:
        """Take texts in, and how they feel; return their MD5 hashes."""
        for label, count in Counter(feelings).items():
            self.feelings[label] = self.feelings.get(label, 0) + count
        lengths = list(map(len, texts))
        self.processed += len(texts)
        self.total_length += sum(lengths)
        self.squares += sum(map(mul, lengths, lengths))
        self.longest = max(self.longest, *lengths, 0)
        if lengths:
            self.shortest = min(lengths) if self.shortest is None else min(self.shortest, *lengths)
        hashes = [md5(text.encode(), usedforsecurity=False).digest() for text in texts]
        registers = self.registers
        for hashed in hashes:
            number = int.from_bytes(hashed[8:])
            register, number = number % _REGISTERS, number >> _BITS
            zeros = (number & -number).bit_length()
            if zeros > registers[register]:
                registers[register] = zeros
        return hashes

    @property
    def place(self) -> Place:
        """Return where the next record begins."""
        return Place(self.offset, self.line)

    @property
    def distinct(self) -> int:
        """Return about how many different texts there are."""
        estimate = _BIAS * _REGISTERS**2 / sum(2.0**-zeros for zeros in self.registers)
        empty = self.registers.count(0)
        if empty and estimate <= 2.5 * _REGISTERS:  # few: the empty registers tell it better
            estimate = _REGISTERS * math.log(_REGISTERS / empty)
        return round(estimate)

    def summary(self) -> dict[str, object]:
        """Return what the guide's summary has, and more."""
        count = self.processed
        mean = self.total_length / count if count else 0.0
        # In whole numbers up to here: the difference of two large sums would be nothing but rounding.
        variance = (count * self.squares - self.total_length**2) / count**2 if count else 0.0
        return {
            "total_items": count,
            "total_length": self.total_length,
            "average_length": mean,
            "deviation": math.sqrt(variance),
            "shortest": self.shortest,
            "longest": self.longest if count else None,
            "distinct": self.distinct,
            **({"sentiment": self.feelings} if self.feelings else {}),
        }

    def state(self) -> str:
        """Return all of it as a short text to go on with: JavaScript would round its numbers."""
        return pybase64.b64encode_as_string(zlib.compress(self.model_dump_json().encode()))

    @classmethod
    def of(cls, state: str, size: int, *, has_feelings: bool = False) -> "Tally":
        """Return what a state of this file says.

        Args:
            has_feelings: it is asked how records feel.
        Raises:
            InvalidInput: it is none, another file's, or that of a run in which something else was asked.
        """
        try:
            packed = pybase64.b64decode(state, validate=True)
            tally = cls.model_validate_json(zlib.decompressobj().decompress(packed, _MOST_JSON))
        except (ValidationError, ValueError, zlib.error) as error:
            first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            raise InvalidInput(f"state: expected the text that a progress event has as `state`: {first}") from None
        if tally.processed * tally.squares < tally.total_length**2:
            raise InvalidInput("state: its sums cannot be of any texts; send back what a progress event has as `state`")
        if tally.offset > tally.size:
            raise InvalidInput("state: it goes on behind its file; send back what a progress event has as `state`")
        if tally.size != size:
            raise InvalidInput(
                f"state: it is of a file of {tally.size} bytes, and this one has {size}; send the same file"
            )
        if sum(tally.feelings.values()) != (tally.processed if has_feelings else 0):
            raise InvalidInput("state: expected `sentiment` as in the run that it is of; its counts would be of a part")
        return tally
