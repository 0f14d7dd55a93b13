"""Say what answers in a room, and stand in for it.

`RuleBased` is no language model. It answers by patterns, as ELIZA did (J. Weizenbaum, CACM 9, 1966), and by what it
finds in the history: names, and what people said they like. It is here so that the app starts at once; a
language model is `language.LanguageModel`; `STREAMAPP_CHAT_MODEL=rules` takes this one instead.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, Field


class Turn(BaseModel):
    """Hold what one of those who talk has said."""

    role: Literal["user", "assistant"] = Field(default="user", description="Who speaks: a person, or the model.")
    name: str = Field(default="", max_length=40, description="The person's, where several talk.", examples=["Ann"])
    content: str = Field(max_length=4000, description="What was said.", examples=["Hello! My name is Ann."])


class Model(Protocol):
    """Answer what was said last."""

    def answer(self, messages: Sequence[Turn]) -> Iterator[str]:
        """Yield the answer in pieces, in the inference thread; closed early when nobody wants the rest."""
        ...


class RuleBased:
    """Answer by patterns, a word at a time.

    Args:
        pace_s: how long each word takes, so that one can see it come.
    """

    def __init__(self, pace_s: float = 0.04) -> None:
        self._pace_s = pace_s

    def answer(self, messages: Sequence[Turn]) -> Iterator[str]:
        """Yield what the rules say to each of those who wait for an answer."""
        replies = [_reply(messages[: n + 1]) for n in _asking(messages)]
        for word in re.findall(r"\S+\s*", " ".join(replies)):
            time.sleep(self._pace_s)
            yield word


def _asking(messages: Sequence[Turn]) -> list[int]:
    """Return where those stand who have called the model since its last answer; where nobody has, the last message."""
    last = max((n for n, turn in enumerate(messages) if turn.role == "assistant"), default=-1)
    calling = [n for n in range(last + 1, len(messages)) if "@" in messages[n].content]
    return calling or [len(messages) - 1]


def _reply(messages: Sequence[Turn]) -> str:
    text = re.sub(r"@\w+[,:]?\s*", "", messages[-1].content).strip()
    for pattern, reply in _RULES:
        if found := re.search(pattern, text, re.IGNORECASE):
            return reply(messages, found)
    likes = _likes(messages)
    return f"Has that to do with {likes[-1]}, which you like?" if likes else _MORE[len(messages) % len(_MORE)]


def _name(messages: Sequence[Turn]) -> str:
    """Return what who speaks last wants to be called."""
    said = [found[1] for text in _own(messages) for found in re.finditer(_NAME, text, re.IGNORECASE)]
    return said[-1] if said else messages[-1].name


def _likes(messages: Sequence[Turn]) -> list[str]:
    """Return what who speaks last has said to like."""
    found = [each[1] for text in _own(messages) for each in re.finditer(_LIKE, text, re.IGNORECASE)]
    return list(dict.fromkeys(_turned(each) for each in found))


def _own(messages: Sequence[Turn]) -> list[str]:
    return [turn.content for turn in messages if (turn.role, turn.name) == ("user", messages[-1].name)]


def _people(messages: Sequence[Turn]) -> list[str]:
    return list(dict.fromkeys(turn.name for turn in messages if turn.role == "user" and turn.name))


def _turned(text: str) -> str:
    """Return words of theirs as one says them to them: "my cat" is "your cat"."""
    return re.sub(r"[\w']+", lambda word: _TURNS.get(word[0].lower(), word[0]), text).strip(" .!?,")


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _greet(messages: Sequence[Turn], found: re.Match[str]) -> str:
    name = _name(messages)
    return f"Hello{', ' if name else ''}{name}. What would you like to talk about?"


def _say_name(messages: Sequence[Turn], found: re.Match[str]) -> str:
    name = _name(messages)
    return f"You are {name}." if name else "You have not told me your name."


def _say_likes(messages: Sequence[Turn], found: re.Match[str]) -> str:
    likes = _likes(messages)
    return f"You like {_and(likes)}." if likes else "You have not told me what you like."


def _say_people(messages: Sequence[Turn], found: re.Match[str]) -> str:
    people = _people(messages)
    return f"I have heard from {_and(people)}." if people else "I have heard from you alone."


def _say_said(messages: Sequence[Turn], found: re.Match[str]) -> str:
    before = _own(messages)[:-1]
    return f'You said: "{before[-1]}"' if before else "You have said nothing before."


_NAME = r"\b(?:my name is|call me|i am called)\s+([\w'-]+)"
_LIKE = r"\bi (?:really )?(?:like|love|enjoy)\s+([^.,!?;]+)"
_TURNS = {
    "i": "you",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "am": "are",
    "you": "me",
    "your": "my",
    "myself": "yourself",
}
_MORE = ("Tell me more.", "Go on.", "What makes you say that?", "How does that feel?")
_RULES: list[tuple[str, Callable[[Sequence[Turn], re.Match[str]], str]]] = [
    (r"\bwho am i\b|\bwhat(?:'s| is) my name\b", _say_name),
    (r"\bwhat do i (?:like|love|enjoy)\b", _say_likes),
    (r"\bwho(?:'s| is| else is) (?:here|there)\b", _say_people),
    (r"\bwhat did i (?:just )?say\b", _say_said),
    (r"\b(?:who|what) are you\b", lambda *_: "A stand-in for a language model: I answer by a few rules."),
    (_NAME, lambda messages, found: f"Nice to meet you, {found[1]}. What do you like?"),
    (_LIKE, lambda messages, found: f"What do you like about {_turned(found[1])}?"),
    (r"^(?:hello|hi|hey|good \w+)\b", _greet),
    (r"\bi(?:'m| am| feel) ([^.,!?;]+)", lambda messages, found: f"Why are you {_turned(found[1])}?"),
    (
        r"\bi (?:want|need) ([^.,!?;]+)",
        lambda messages, found: f"What would it mean to you to have {_turned(found[1])}?",
    ),
    (r"\bbecause\b", lambda *_: "Is that the only reason?"),
    (r"\b(?:bye|goodbye|see you)\b", lambda messages, found: f"Goodbye, {_name(messages)}.".replace(", .", ".")),
    (r"\bthank", lambda *_: "You are welcome."),
    (r"\?$", lambda *_: "What do you think yourself?"),
]
