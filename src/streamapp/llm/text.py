"""Make texts of tokens while they come: characters are never split, and texts that end a choice are held back.

`Detokenizer` decodes a window of the newest tokens, so a token costs the same however long the text is. It begins with
the end of the prompt, as where words are joined depends on what stands before. `StopTexts` goes through the text
character by character; what it lets out is decided. `Writer` is both.

Divergence: not `tokenizers.decoders.DecodeStream`, which raises where bytes turn out to be no UTF-8 ("Invalid prefix"),
and keeps more and more tokens while what they spell is none; its speed is the same. What cannot be read is U+FFFD, as
in `decode`, and what was shown is never withdrawn.
"""

from collections.abc import Callable, Sequence
from typing import Any

_UNREADABLE = "\ufffd"
_PROMPT = 8  # tokens of the prompt's end: of a character there are four at most
_WINDOW = 32  # tokens that may spell nothing to the end: then what there is counts as it is


class Detokenizer:
    """Decode tokens one by one; special tokens are left out.

    Args:
        decode: the text of some tokens.
        prompt: token ids before them.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int] = ()) -> None:
        self._decode = decode
        self._ids = [*prompt[-_PROMPT:]]
        self._read = len(self._ids)  # of these the text was shown whole
        self._shown = _readable(decode(self._ids))

    def add(self, token: int) -> str:
        """Return the text that is decided with this token: mostly its own, or none until a character is whole."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if not text.startswith(self._shown):
            # Bytes behind others can make all of them unreadable; what was shown stays, and these stand for themselves.
            new, is_whole = self._decode(self._ids[self._read :]), not text.endswith(_UNREADABLE)
            return self._begin_again(new) if is_whole or self._is_long() else ""
        if text == self._shown:  # a special token, or a space that the next one shows
            if self._is_long():
                self._ids.pop()
            return ""
        if not text.endswith(_UNREADABLE):
            return self._begin_again(text[len(self._shown) :])
        if self._is_long():
            return self._begin_again(text[len(self._shown) :])
        new = _readable(text)[len(self._shown) :]
        self._shown += new
        return new

    def end(self) -> str:
        """Return what is left: a character that has not become whole is U+FFFD."""
        text = self._decode(self._ids)
        if text.startswith(self._shown):
            return text[len(self._shown) :]
        return self._decode(self._ids[self._read :])

    def _is_long(self) -> bool:
        return len(self._ids) - self._read >= _WINDOW

    def _begin_again(self, new: str) -> str:
        """Let go of what stands before the newest text."""
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        self._shown = self._decode(self._ids)
        return new


def decoding(tokenizer: Any) -> Callable[[list[int]], str]:
    """Return what decodes with a tokenizer of transformers': its `backend_tokenizer`, or itself where it has none."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return lambda ids: str(backend.decode(ids, skip_special_tokens=True))
    return lambda ids: str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def end_tokens(*said_by: Any) -> frozenset[int]:
    """Return the tokens that end a text, as generation configs and tokenizers say: `eos_token_id`, one or several."""
    said = [getattr(one, "eos_token_id", None) for one in said_by]
    return frozenset(token for one in said for token in (one if isinstance(one, list) else [one]) if token is not None)


class StopTexts:
    """Hold back what may be the beginning of a text that ends it all.

    The one that is complete first counts, wherever the tokens' borders are; of several the one that began first.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [(text, _fallbacks(text)) for text in texts]
        self._matched = [0] * len(texts)  # so many characters of each stand at the end
        self._held = ""

    def add(self, text: str) -> tuple[str, bool]:
        """Return what is decided, and whether one of the texts has come, before which it ends."""
        if not self._texts:
            return text, False
        for count, character in enumerate(text, 1):
            self._matched = [
                _advance(one, fallbacks, matched, character)
                for (one, fallbacks), matched in zip(self._texts, self._matched, strict=True)
            ]
            complete = [
                len(one) for (one, _), matched in zip(self._texts, self._matched, strict=True) if matched == len(one)
            ]
            if complete:
                return (self._held + text[:count])[: -max(complete)], True
        self._held += text
        decided = len(self._held) - max(self._matched)
        text, self._held = self._held[:decided], self._held[decided:]
        return text, False

    def end(self) -> str:
        """Return what was held back and has not become one of them."""
        return self._held


class Writer:
    """Write the text of a choice.

    Attributes:
        has_ended: a text that ends it has come.
    """

    def __init__(self, decode: Callable[[list[int]], str], prompt: Sequence[int], stops: Sequence[str]) -> None:
        self._detokenizer = Detokenizer(decode, prompt)
        self._stops = StopTexts(stops)
        self._pieces: list[str] = []
        self.has_ended = False

    @property
    def text(self) -> str:
        """What was written."""
        return "".join(self._pieces)

    def add(self, token: int) -> str:
        """Return the text that is decided with a token."""
        return self._write(self._detokenizer.add(token))

    def end(self) -> str:
        """Return the rest, when no token comes any more."""
        if self.has_ended:
            return ""
        rest = self._write(self._detokenizer.end())
        if self.has_ended:
            return rest
        self._pieces.append(self._stops.end())
        return rest + self._pieces[-1]

    def _write(self, text: str) -> str:
        text, self.has_ended = self._stops.add(text)
        self._pieces.append(text)
        return text


def _readable(text: str) -> str:
    """Leave out what may be the beginning of a character: up to three unreadable ones at the end."""
    end = len(text)
    while end and len(text) - end < 3 and text[end - 1] == _UNREADABLE:
        end -= 1
    return text[:end]


def _fallbacks(text: str) -> list[int]:
    """Return for each count of matched characters how many still match when the next one does not.

    Source: Knuth, Morris, Pratt, Fast pattern matching in strings, 1977.
    """
    found = [0, 0]
    for character in text[1:]:
        found.append(_advance(text, found, found[-1], character))
    return found


def _advance(text: str, fallbacks: Sequence[int], matched: int, character: str) -> int:
    """Return how many characters of a text stand at the end when another one has come."""
    while matched and text[matched] != character:
        matched = fallbacks[matched]
    return matched + (text[matched] == character)
