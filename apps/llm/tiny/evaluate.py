"""Measure the embedded language model against its gates, and show what it says.

    python -m apps.llm.tiny.evaluate              # the gates, as a table
    python -m apps.llm.tiny.evaluate --samples    # what the model card shows, unedited

Texts that are held out are about a hero and a thing of which training never told together. Beside the perplexity of the
model stand those of counts of its tokens: alone, and behind the two before (interpolated).
"""

import argparse
import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from apps.llm.tiny import stories, talks
from apps.llm.tiny.train import UNREAD, encode, plain
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

MODEL = Path(__file__).parent / "model"
Encoded = tuple[list[int], list[int]]
SAMPLES = (
    "Tell me a story about a shy dragon and a clock.",
    "Tell me a story about a penguin and a teapot, please.",
    "Who are you?",
    "Write a poem about an owl.",
    "What is the capital of Peru?",
)


@dataclass(frozen=True)
class Gate:
    """Hold one measurement and its bound; of perplexities less is better."""

    name: str
    value: float
    bound: float
    unit: str = "%"

    @property
    def passed(self) -> bool:
        """Say whether the bound is met."""
        return self.value >= self.bound if self.unit == "%" else self.value <= self.bound


# --- What it reads -------------------------------------------------------------------------------------------------


@torch.inference_mode()
def perplexity(model: LlamaForCausalLM, texts: Iterable[Encoded]) -> float:
    """Return the exponential of the mean loss of all tokens that have a label."""
    total, count = 0.0, 0
    for ids, labels in texts:
        logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels[1:]), ignore_index=UNREAD, reduction="sum"
        )
        total, count = total + losses.item(), count + sum(label != UNREAD for label in labels[1:])
    return math.exp(total / count)


class Counts:
    """Guess the next token by counts of one, two and three."""

    def __init__(self, texts: Iterable[Encoded], vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.grams: tuple[Counter[tuple[int, ...]], ...] = (Counter(), Counter(), Counter(), Counter())
        for ids, _ in texts:
            for size, counter in enumerate(self.grams):
                counter.update(tuple(ids[at : at + size]) for at in range(len(ids) - size + 1))

    def chance(self, before: Sequence[int], token: int) -> float:
        """Return a token's probability behind others: each length is smoothed by the next shorter one."""
        shorter = 1 / self.vocabulary if not before else self.chance(before[1:], token)
        if len(before) == 0 and not self.grams[0]:
            return shorter
        seen = self.grams[len(before)][tuple(before)]
        both = self.grams[len(before) + 1][(*before, token)]
        return (both + shorter) / (seen + 1)

    def perplexity(self, texts: Iterable[Encoded], order: int) -> float:
        """Return that of all tokens but the first, each behind `order - 1` others."""
        chances = [
            self.chance(ids[max(0, at - order + 1) : at], token)
            for ids, _ in texts
            for at, token in enumerate(ids)
            if at
        ]
        return math.exp(-sum(map(math.log, chances)) / len(chances))


def measure_reading(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> list[Gate]:
    """Return perplexities: of held-out stories, of answers in held-out conversations, and those of the counts."""
    rng = random.Random(f"{seed} reading")
    told = [encode(tokenizer, plain(rng, held=True)) for _ in range(count)]
    talked = [encode(tokenizer, talks.talk(rng, held=True)) for _ in range(count)]
    counts = Counts((encode(tokenizer, plain(rng)) for _ in range(20 * count)), len(tokenizer))
    return [
        Gate("perplexity, held-out stories", perplexity(model, told), 3.5, "per token"),
        Gate("perplexity, answers in held-out conversations", perplexity(model, talked), 4.0, "per token"),
        Gate("counts of single tokens, held-out stories", counts.perplexity(told, 1), math.inf, "per token"),
        Gate("counts of three tokens, held-out stories", counts.perplexity(told, 3), math.inf, "per token"),
    ]


# --- What it says --------------------------------------------------------------------------------------------------


@torch.inference_mode()
def answers(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[list[talks.Message]],
    *,
    seed: int,
    temperature: float = 0.8,
    most: int = 320,
) -> list[str]:
    """Return what the model says to each."""
    torch.manual_seed(seed)
    prompts = [
        tokenizer.apply_chat_template(each, add_generation_prompt=True, tokenize=False) for each in conversations
    ]
    given = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left")
    chosen = {"do_sample": True, "temperature": temperature, "top_p": 0.95} if temperature else {"do_sample": False}
    made = model.generate(**given, max_new_tokens=most, **chosen)
    said: list[str] = tokenizer.batch_decode(made[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return said


def asks(*said: str) -> list[talks.Message]:
    """Return a conversation in which the user speaks first."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]


def measure_telling(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> list[Gate]:
    """Ask for stories of heroes and things that are held out; then for what was in them."""
    rng = random.Random(f"{seed} telling")
    casts = [stories.draw(rng, held=True) for _ in range(count)]
    asked = [
        f"Tell me a story about {stories.article(each.trait.name)} {each.trait.name} {each.being} and "
        f"{stories.article(each.thing)} {each.thing}."
        for each in casts
    ]
    told = answers(model, tokenizer, [asks(each) for each in asked], seed=seed)
    heroes = [hero_of(text) for text in told]
    about = [
        all(f" {word}" in text for word in (cast.being, cast.thing, cast.trait.name))
        for cast, text in zip(casts, told, strict=True)
    ]
    stays = [hero is not None and len(names_of(text)) <= 2 for hero, text in zip(heroes, told, strict=True)]
    ends = [text.rstrip().endswith((".", "!", "?", '"')) for text in told]
    named = answers(
        model,
        tokenizer,
        [asks(ask, text, "What was the name of the hero?") for ask, text in zip(asked, told, strict=True)],
        seed=seed,
        temperature=0,
        most=24,
    )
    knows = [bool(hero) and str(hero) in text for hero, text in zip(heroes, named, strict=True)]
    return [
        Gate("stories that are about what was asked for", share(about), 90),
        Gate("stories with no more names than they begin with", share(stays), 85),
        Gate("stories that come to an end", share(ends), 95),
        Gate("the hero's name is known afterwards", share(knows), 90),
    ]


def measure_memory(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> list[Gate]:
    """Say a name, half of them never heard before, and ask for it later."""
    rng = random.Random(f"{seed} names")
    names = [stories.made_up(rng).title() if n % 2 else rng.choice(stories.SHE) for n in range(count)]
    told = [
        asks(f"My name is {name}.", f"Hello, {name}!", "What is two plus two?", "Four.", "What is my name?")
        for name in names
    ]
    said = answers(model, tokenizer, told, seed=seed, temperature=0, most=24)
    known = [name in text for name, text in zip(names, said, strict=True)]
    return [
        Gate("names that are remembered", share(known[::2]), 95),
        Gate("names that nobody has heard before", share(known[1::2]), 60),
    ]


def hero_of(text: str) -> str | None:
    """Return the name that a story says first."""
    return next(iter(names_of(text)), None)


def names_of(text: str) -> list[str]:
    """Return the names in a story, in their order."""
    known = {*stories.HE, *stories.SHE}
    return list(dict.fromkeys(word for word in re.findall(r"[A-Z][a-z]+", text) if word in known))


def share(each: Sequence[bool]) -> float:
    """Return how many of them are true, in percent."""
    return 100 * sum(each) / len(each)


# --- The whole -----------------------------------------------------------------------------------------------------


def report(gates: Sequence[Gate]) -> str:
    """Return a table in Markdown."""
    rows = []
    for gate in gates:
        sign = ">=" if gate.unit == "%" else "<="
        bound, passed = f"{sign} {gate.bound:g}", "yes" if gate.passed else "**no**"
        bound, passed = ("", "") if gate.bound == math.inf else (bound, passed)
        rows.append(f"| {gate.name} | {gate.value:.2f} {gate.unit} | {bound} | {passed} |")
    return "\n".join(["| measured | value | gate | passed |", "|---|---|---|---|", *rows]) + "\n"


def samples(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> str:
    """Return a few answers, the first that come."""
    told = [answers(model, tokenizer, [asks(each)], seed=seed)[0] for each in SAMPLES]
    return "\n".join(
        f"> **{ask}**\n>\n> " + text.replace("\n", "  \n> ") + "\n" for ask, text in zip(SAMPLES, told, strict=True)
    )


def main() -> int:
    """Measure, report, and fail if a gate is missed."""
    parser = argparse.ArgumentParser(description="Measure the embedded language model against its gates.")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--count", type=int, default=200, help="texts, stories, names")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", action="store_true", help="show answers, and measure nothing")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    model = LlamaForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, local_files_only=True).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(arguments.model, local_files_only=True)
    if arguments.samples:
        sys.stdout.write(samples(model, tokenizer, arguments.seed))
        return 0
    measures = (measure_reading, measure_telling, measure_memory)
    gates = [gate for each in measures for gate in each(model, tokenizer, arguments.count, arguments.seed)]
    sys.stdout.write(report(gates))
    if arguments.json:
        figures = {gate.name: {"value": round(gate.value, 3), "unit": gate.unit} for gate in gates}
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0 if all(gate.passed for gate in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
