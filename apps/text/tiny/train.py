"""Train the embedded text models: a small encoder with a head for sentiment, another for names, and a ranker.

    python -m apps.text.tiny.train --data DIR --out apps/text/tiny    # the whole recipe, some ten minutes of one core
    python -m apps.text.tiny.train --data DIR --out /tmp/smoke --smoke   # the same path in one, of no quality

`corpora.py` says what DIR has to hold. The encoder's embedding begins with what is counted of its tokens, so that the
layers have little to learn; what the heads begin with is built in by hand, as in the model of apps/llm. What is
held out has no part in any of it, not in the vocabulary either. Matrices are trained by Muon, the rest by AdamW. Every
batch is drawn from (seed, step): a run that was interrupted goes on from its checkpoint.
"""

import argparse
import logging
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from apps.llm.tiny.train import CHECKPOINT_SECONDS, Part, load, save
from apps.text.tiny import corpora, opinions, rank
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)

log = logging.getLogger("train")

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
BEGIN, PAD, END, UNKNOWN, MASK = range(len(SPECIAL))
TAGS = ("O", *(f"{sign}-{kind}" for kind in corpora.KINDS for sign in "BI"))
MODELS = ("entities", "sentiment", "summary")
LENGTH = 512
UNREAD = -100
"""The label of a token that counts in no loss."""
GROUP = 8
"""Batches that are drawn together, to be sorted by length."""
T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """How much is read, and by how large a model."""

    vocabulary: int = 5120
    width: int = 128
    layers: int = 2
    feel: int = 800
    """Steps in which sentiment is learnt."""
    find: int = 3600
    """Steps in which names are learnt."""
    tokens: int = 1024
    """In each batch."""
    rate: float = 2e-3


SMOKE = Recipe(vocabulary=600, width=64, layers=1, feel=3, find=3)


# --- The encoder ---------------------------------------------------------------------------------------------------


def make_tokenizer(texts: Sequence[str], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE that knows capitals: names have them."""
    bpe = Tokenizer(models.BPE(unk_token=SPECIAL[UNKNOWN]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.RobertaProcessing((SPECIAL[END], END), (SPECIAL[BEGIN], BEGIN))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=SPECIAL[BEGIN],
        cls_token=SPECIAL[BEGIN],
        eos_token=SPECIAL[END],
        sep_token=SPECIAL[END],
        pad_token=SPECIAL[PAD],
        unk_token=SPECIAL[UNKNOWN],
        mask_token=SPECIAL[MASK],
        model_max_length=LENGTH,
        clean_up_tokenization_spaces=False,
    )


def config_of(recipe: Recipe, labels: Sequence[str]) -> RobertaConfig:
    """Return the configuration of a model with these labels."""
    return RobertaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.width,
        intermediate_size=4 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.width // 32,
        max_position_embeddings=LENGTH + 2,
        type_vocab_size=1,
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
        bos_token_id=BEGIN,
        eos_token_id=END,
        id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )


def tag_of(kind: str, is_first: bool) -> int:
    """Return the number of a name's tag."""
    return TAGS.index(f"{'B' if is_first else 'I'}-{kind}")


def label_pieces(
    tokenizer: PreTrainedTokenizerFast, read: corpora.Marked, number_of: Callable[[str, bool], int], outside: int
) -> tuple[list[int], list[int]]:
    """Return a text's tokens, and the number of the mark that each lies in; the two at its ends have none.

    Args:
        number_of: of a mark's label, and of whether a token is the first in it.
    """
    encoded = tokenizer(read.text, return_offsets_mapping=True, truncation=True, max_length=LENGTH)
    labels, marks, before = [], iter((*read.marks, (1 << 30, 1 << 30, ""))), -1
    start, end, label = next(marks)
    for a, b in encoded["offset_mapping"]:
        while a < b and a >= end:
            start, end, label = next(marks)
        if a == b:
            labels.append(UNREAD)
        elif b > start:
            labels.append(number_of(label, start != before))
            before = start
        else:
            labels.append(outside)
    return encoded["input_ids"], labels


def counted(rows: Iterable[tuple[list[int], list[int]]], tokens: int, labels: int) -> Tensor:
    """Return how often each token has each label."""
    pairs = [
        token * labels + label for ids, of_ids in rows for token, label in zip(ids, of_ids, strict=True) if label >= 0
    ]
    return torch.bincount(torch.tensor(pairs), minlength=tokens * labels).view(tokens, labels).float()


def likely(counts: Tensor) -> Tensor:
    """Return how much more often than others a token has each label: a logarithm, 0 for tokens that are rarely seen."""
    share = (counts.sum(0) + 1) / (counts.sum() + counts.shape[1])
    seen = (counts + 5 * share) / (counts.sum(1, keepdim=True) + 5)
    return (seen / share).log().clamp(-3, 3)


def around(ids: Tensor, tokens: int, width: int) -> Tensor:
    """Return a vector for each token by what stands around it.

    Positive pointwise mutual information within four tokens, the nearer the more, and its main directions.
    Source: O. Levy, Y. Goldberg, I. Dagan, Improving distributional similarity with lessons learned from word
    embeddings, 2015.
    """
    counts = torch.zeros(tokens * tokens)
    for apart in range(1, 5):
        counts += torch.bincount(ids[:-apart] * tokens + ids[apart:], minlength=len(counts)) / apart
    both = counts.view(tokens, tokens)
    both = both + both.T
    both[: len(SPECIAL)] = both[:, : len(SPECIAL)] = 0
    often = both.sum(0)
    share = often.clamp_min(1) ** 0.75 / (often**0.75).sum()
    information = (both / often.clamp_min(1)[:, None] / share).clamp_min(1.0).log()
    torch.manual_seed(0)
    left, values, _ = torch.svd_lowrank(information, width, niter=4)
    return left * values.sqrt()


def vectors_of(tokenizer: PreTrainedTokenizerFast, prepared: "Prepared", width: int) -> Tensor:
    """Return what the encoder's embedding begins with: counts, which are had in seconds.

    Of each token: its parts of speech, its sentiments and its kinds of names in what is learnt, as far as they are
    counted, and what stands around it. The layers have to learn from there only what a word means beside others.
    """
    tokens = len(tokenizer)
    felt = [
        (ids, [corpora.LABELS.index(label)] * len(ids))
        for pool in prepared.opinions[:2]
        for ids, (_, label) in zip(tokenizer([text for text, _ in pool])["input_ids"], pool, strict=True)
    ]
    parts = (
        label_pieces(tokenizer, each, lambda part, _: corpora.PARTS.index(part), UNREAD) for each in prepared.parts
    )
    tags = (label_pieces(tokenizer, each, tag_of, 0) for each in prepared.names)
    counts = (
        counted(felt, tokens, len(corpora.LABELS)),
        counted(parts, tokens, len(corpora.PARTS)),
        counted(tags, tokens, len(TAGS)),
    )
    known = torch.cat([likely(each) for each in counts], 1)
    plain = torch.tensor([token for ids in tokenizer(prepared.texts)["input_ids"] for token in ids])
    vectors = torch.cat([known / known.std(0), 2 * normal(around(plain, tokens, width - known.shape[1]))], 1)
    vectors[: len(SPECIAL)] = 0
    return vectors * 0.04


def normal(vectors: Tensor) -> Tensor:
    """Return vectors of the same mean square; those of tokens that were never seen stay nothing."""
    return vectors / vectors.square().mean().sqrt()


# --- What it says --------------------------------------------------------------------------------------------------


def batches(
    draw: Callable[[random.Random], T], length: Callable[[T], int], seed: str, size: int
) -> Callable[[int], list[T]]:
    """Return what gives each step its batch, of texts that are about as long: little is read that only fills a row."""

    @lru_cache(maxsize=1)
    def group(number: int) -> list[list[T]]:
        rng = random.Random(f"{seed} {number}")
        drawn = sorted((draw(rng) for _ in range(GROUP * size)), key=length)
        found = [drawn[at : at + size] for at in range(0, GROUP * size, size)]
        rng.shuffle(found)
        return found

    return lambda step: group(step // GROUP)[step % GROUP]


def feel(
    model: RobertaForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    prepared: "Prepared",
    recipe: Recipe,
    seed: int,
    work: Path,
) -> None:
    """Learn the sentiment of sentences, of several in a row, and of pieces that begin or end within one."""
    pools = prepared.opinions
    comments = {label: [each for each in pools[0] if each[1] == label] for label in corpora.LABELS}
    by_label = {label: [each for pool in pools for each in pool if each[1] == label] for label in corpora.LABELS}

    def draw(rng: random.Random) -> corpora.Opinion:
        chance = rng.random()
        if chance < 0.45:
            text, label = rng.choice(comments[rng.choice(corpora.LABELS)])
        elif chance < 0.75:
            text, label = rng.choice(pools[1])
        elif chance < 0.8:
            text, label = rng.choice(pools[2])
        else:
            text, label = (opinions.denial if rng.random() < 0.3 else opinions.opinion)(rng)
        while len(text) < 250 and rng.random() < 0.2:
            more, _ = rng.choice(by_label[label if rng.random() < 0.6 else "NEUTRAL"])
            text = f"{text} {more}" if rng.random() < 0.5 else f"{more} {text}"
        if len(text) > 120 and rng.random() < 0.3:
            cut = rng.randrange(20)
            text = text[cut : len(text) - rng.randrange(20)]
        return text, label

    batch = batches(draw, lambda each: len(each[0]), f"{seed} feel", recipe.tokens // 32)

    def loss(step: int) -> Tensor:
        drawn = batch(step)
        given = tokenizer(
            [text for text, _ in drawn], padding=True, truncation=True, max_length=96, return_tensors="pt"
        )
        labels = torch.tensor([corpora.LABELS.index(label) for _, label in drawn])
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits
        return functional.cross_entropy(logits.float(), labels, label_smoothing=0.05)

    fit(model, loss, recipe.feel, recipe.rate, work)


def find(
    model: RobertaForTokenClassification,
    tokenizer: PreTrainedTokenizerFast,
    prepared: "Prepared",
    recipe: Recipe,
    seed: int,
    work: Path,
) -> None:
    """Learn where names are, some of which are exchanged for others of their kind."""
    known, edited = prepared.names, prepared.edited
    called: dict[str, list[str]] = {kind: [] for kind in corpora.KINDS}
    for each in known:
        for start, end, kind in each.marks:
            called[kind].append(each.text[start:end])

    def draw(rng: random.Random) -> corpora.Marked:
        each = rng.choice(edited if rng.random() < 0.2 else known)
        if rng.random() < 0.4:
            each = renamed(each, lambda kind: rng.choice(called[kind]))
        if rng.random() < 0.3:
            each = behind(each, rng.choice(known))
        return each

    batch = batches(
        lambda rng: label_pieces(tokenizer, draw(rng), tag_of, 0),
        lambda each: len(each[0]),
        f"{seed} find",
        recipe.tokens // 32,
    )

    def loss(step: int) -> Tensor:
        drawn = batch(step)
        longest = min(96, max(len(ids) for ids, _ in drawn))
        ids, labels = (
            torch.tensor([each[n][:longest] + [fill] * (longest - len(each[n])) for each in drawn])
            for n, fill in ((0, PAD), (1, UNREAD))
        )
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(input_ids=ids, attention_mask=(ids != PAD).long()).logits
        return functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), label_smoothing=0.02)

    fit(model, loss, recipe.find, recipe.rate, work)


def renamed(each: corpora.Marked, name_of: Callable[[str], str]) -> corpora.Marked:
    """Return a text with other names in the places of its own."""
    text, marks, at = "", [], 0
    for start, end, kind in each.marks:
        text += each.text[at:start]
        name = name_of(kind)
        marks.append((len(text), len(text) + len(name), kind))
        text, at = text + name, end
    return corpora.Marked(text + each.text[at:], tuple(marks))


def behind(first: corpora.Marked, second: corpora.Marked) -> corpora.Marked:
    """Return two texts as one."""
    at = len(first.text) + 1
    moved = ((start + at, end + at, kind) for start, end, kind in second.marks)
    return corpora.Marked(f"{first.text} {second.text}", (*first.marks, *moved))


# --- Training ------------------------------------------------------------------------------------------------------


def optimizers(model: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between tokens, AdamW for embeddings, norms and heads."""
    named = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    matrices = [each for name, each in named if each.ndim == 2 and ".layer." in name]
    rest = [each for name, each in named if not (each.ndim == 2 and ".layer." in name)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def rate_factor(step: int, steps: int) -> float:
    """Warm up, and cool down linearly over the second half."""
    return min(1.0, (step + 1) / 20, 2 * (steps - step) / steps)


def fit(model: nn.Module, loss_of: Callable[[int], Tensor], steps: int, rate: float, work: Path) -> None:
    """Train a model on the loss of each step, from its checkpoint if there is one."""
    trained = optimizers(model, rate)
    parts: list[Part] = [model.train(), *trained]
    first = load(work, parts)
    written, smooth = time.monotonic(), 0.0
    for step in range(first, steps):
        for optimizer in trained:
            optimizer.param_groups[0]["lr"] = rate * rate_factor(step, steps)
            optimizer.zero_grad()
        torch.manual_seed(step)
        loss = loss_of(step)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in trained:
            optimizer.step()
        smooth = loss.item() if step == first else 0.98 * smooth + 0.02 * loss.item()
        if step % 20 == 19:
            log.info("%s: step %d/%d loss %.4f", work.stem, step + 1, steps, smooth)
        if time.monotonic() - written > CHECKPOINT_SECONDS or step == steps - 1:
            written = time.monotonic()
            save(work, parts, step + 1)


@dataclass(frozen=True)
class Prepared:
    """Hold what is learnt from."""

    texts: list[str]
    opinions: tuple[list[corpora.Opinion], ...]
    parts: list[corpora.Marked]
    names: list[corpora.Marked]
    edited: list[corpora.Marked]
    """Those names that were marked for the corpus whose test is held out."""


def prepare(data: Path) -> Prepared:
    """Read the corpora."""
    return Prepared(
        sorted(set(corpora.texts(data))),
        (
            corpora.emotions(data, "train"),
            corpora.reviews(data, held=False),
            [(text, "NEUTRAL") for text in corpora.plain_statements(data)],
        ),
        corpora.parts_of_speech(data),
        corpora.names(data),
        corpora.uner(data, "dev"),
    )


def train(recipe: Recipe, data: Path, out: Path, work: Path, seed: int, wanted: Sequence[str]) -> None:
    """Train these models, and write their folders; what is learnt from is read once, and kept in `work`."""
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    kept = work / "prepared.pt"
    if not kept.exists():
        prepared = prepare(data)
        tokenizer = make_tokenizer(prepared.texts, recipe)
        torch.save((prepared, tokenizer, vectors_of(tokenizer, prepared, recipe.width)), kept)
    prepared, tokenizer, vectors = torch.load(kept, weights_only=False)
    torch.manual_seed(seed)
    if "entities" in wanted:
        found = RobertaForTokenClassification(config_of(recipe, TAGS))
        begin(found.roberta, vectors)
        have_tags(found)
        find(found, tokenizer, prepared, recipe, seed, work / "find.pt")
        export(found, tokenizer, out / "entities")
    if "sentiment" in wanted:
        felt = RobertaForSequenceClassification(config_of(recipe, corpora.LABELS))
        begin(felt.roberta, vectors)
        have_mean(felt)
        feel(felt, tokenizer, prepared, recipe, seed, work / "feel.pt")
        export(felt, tokenizer, out / "sentiment")
    if "summary" in wanted:
        rank.train(data, out / "summary")


@torch.no_grad()
def begin(encoder: RobertaModel, vectors: Tensor) -> None:
    """Give an encoder what its embedding begins with."""
    encoder.embeddings.word_embeddings.weight.copy_(vectors)


@torch.no_grad()
def have_mean(model: RobertaForSequenceClassification) -> None:
    """Build in that the first layer gathers all words, and that the head reads their sentiments off their mean."""
    attention = model.roberta.encoder.layer[0].attention
    for weight in (attention.self.value.weight, attention.output.dense.weight, model.classifier.dense.weight):
        weight.copy_(torch.eye(len(weight)))
    for n in range(len(corpora.LABELS)):
        model.classifier.out_proj.weight[n, n] += 2


@torch.no_grad()
def have_tags(model: RobertaForTokenClassification) -> None:
    """Build in that the head reads a token's tag off what was counted of it."""
    first = len(corpora.LABELS) + len(corpora.PARTS)
    for n in range(len(TAGS)):
        model.classifier.weight[n, first + n] += 1


def export(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write model and tokenizer, in half precision."""
    model.eval().half().save_pretrained(out)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(out)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description="Train the embedded text models.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora (corpora.py says which)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished models' folders")
    parser.add_argument("--work", type=Path, help="the checkpoints, where an interrupted run goes on")
    parser.add_argument("--only", choices=MODELS, help="one of the models")
    parser.add_argument("--feel", type=int, help="steps in which sentiment is learnt")
    parser.add_argument("--find", type=int, help="steps in which names are learnt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="models of no quality, in a minute")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    recipe = SMOKE if arguments.smoke else Recipe()
    steps = {name: getattr(arguments, name) for name in ("feel", "find") if getattr(arguments, name)}
    recipe = replace(recipe, **steps)
    work = arguments.work or arguments.out / "text.work"
    train(recipe, arguments.data, arguments.out, work, arguments.seed, [arguments.only] if arguments.only else MODELS)


if __name__ == "__main__":
    main()
