"""Train the embedded language model: a Llama small enough for a CPU, with a tokenizer and a chat template of its own.

    python -m apps.llm.tiny.train --out apps/llm/tiny/model    # the whole recipe, hours on one core
    python -m apps.llm.tiny.train --smoke --out /tmp/smoke     # the same path in seconds, of no quality

What it reads is made up while it is trained, by `stories.py` and `talks.py`: nothing is downloaded, and no text is read
twice. Matrices are trained by Muon, the rest by AdamW; what users say counts in no loss, and names, creatures and
things that were said before count eight times, but at the end: what a story is about is otherwise lost among its
sentences. For the same reason heads are built in by hand, and kept for a while (`heads.py`): those that copy at the
beginning, with rows of random tokens said again and again among the texts, and those that find names and things when a
third is over. Texts are cut at 256 tokens, and at 512 while the rate cools down. Every batch is drawn from (seed,
step): a resumed run equals an uninterrupted one.
"""

import argparse
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from apps.llm.tiny import heads, stories, talks
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

log = logging.getLogger("train")

LENGTH = 1024
SPECIAL = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|' + (message.role if message.role in ('user', 'assistant') else 'system') + '|>' -}}"
    "{{- message.content + '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
Part = nn.Module | torch.optim.Optimizer
CHECKPOINT_SECONDS = 60
AGAIN = 8
"""What a name, a creature or a thing counts that was said before."""
UNREAD = -100
"""The label of a token that counts in no loss."""


@dataclass(frozen=True)
class Recipe:
    """How much is read, and by how large a model."""

    vocabulary: int = 2048
    documents: int = 6000
    """That the tokenizer learns from."""
    layers: int = 5
    heads: int = 3
    steps: int = 5000
    tokens: int = 2048
    """In each batch."""
    rate: float = 3e-3


SMOKE = Recipe(vocabulary=600, documents=20, layers=2, steps=4, tokens=1024)


def document(rng: random.Random) -> str | list[talks.Message]:
    """Make up what is read next: a story with or without its title, or a conversation."""
    if rng.random() < 0.75:
        return talks.talk(rng)
    return plain(rng)


def plain(rng: random.Random, *, held: bool = False) -> str:
    """Make up a story as it stands in a book."""
    cast = stories.draw(rng, held=held)
    story = stories.tell(rng, cast)
    title = f"The {cast.trait.name} {cast.being} and the {cast.thing}\n\n" if rng.random() < 0.3 else ""
    sequel = f"\n\n{story.sequel}" if rng.random() < 0.3 else ""
    return f"{title}{story.text}{sequel}"


def make_tokenizer(recipe: Recipe, seed: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE: any text in UTF-8 is read and written."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[AddedToken(each, special=True) for each in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(f"{seed} tokenizer")
    read = (document(rng) for _ in range(recipe.documents))
    bpe.train_from_iterator(
        (each if isinstance(each, str) else "\n".join(said["content"] for said in each) for each in read), trainer
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=list(SPECIAL[1:4]),
        chat_template=TEMPLATE,
        model_max_length=LENGTH,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Recipe) -> LlamaForCausalLM:
    """Make a Llama with random weights."""
    width = recipe.heads * heads.DIM
    config = LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=heads.DIM,
        attention_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": heads.THETA},
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<|end|>"),
        pad_token_id=SPECIAL.index("<|endoftext|>"),
    )
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, read: str | list[talks.Message]) -> tuple[list[int], list[int]]:
    """Return a document's tokens and their labels; one that a user says, or the system, has none."""
    if isinstance(read, str):
        ids = [*tokenizer(read)["input_ids"], SPECIAL.index("<|endoftext|>")]
        return ids, ids
    ids, labels = [], []
    for message in read:
        said = [*tokenizer(message["content"])["input_ids"], SPECIAL.index("<|end|>")]
        ids += [SPECIAL.index(f"<|{message['role']}|>"), *said]
        labels += [UNREAD, *(said if message["role"] == "assistant" else [UNREAD] * len(said))]
    return [*ids, SPECIAL.index("<|endoftext|>")], [*labels, UNREAD]


def batch(tokenizer: PreTrainedTokenizerFast, rng: random.Random, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Return tokens and labels, (rows, length); each row begins with a document, and is cut where it is full."""
    filled = [_row(tokenizer, rng, length) for _ in range(rows)]
    return torch.tensor([ids for ids, _ in filled]), torch.tensor([labels for _, labels in filled])


def _row(tokenizer: PreTrainedTokenizerFast, rng: random.Random, length: int) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    while len(ids) < length:
        more, of_more = encode(tokenizer, document(rng))
        ids, labels = ids + more, labels + of_more
    return ids[:length], labels[:length]


def drills(recipe: Recipe, rng: random.Random, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Return rows of random tokens, some of which are said two to four times, one behind the other."""
    filled = []
    for _ in range(rows):
        ids: list[int] = []
        while len(ids) < length:
            said = [rng.randrange(len(SPECIAL), recipe.vocabulary) for _ in range(rng.randint(3, 30))]
            ids += said * rng.randint(2, 4)
        filled.append(ids[:length])
    return torch.tensor(filled), torch.tensor(filled)


def topics(tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """Return the tokens that are names, and those that are creatures or things, as far as each is one token."""
    rng = random.Random("topics")
    casts = [stories.draw(rng) for _ in range(4000)]
    things = {each for cast in casts for each in (cast.being, f"{cast.being}s", cast.thing)}
    found = []
    for words in ({cast.name for cast in casts}, things):
        spelt = [tokenizer(text)["input_ids"] for word in sorted(words) for text in (word, f" {word}")]
        found.append(sorted({ids[0] for ids in spelt if len(ids) == 1}))
    return found


def loss_of(model: LlamaForCausalLM, ids: Tensor, labels: Tensor, weighty: Tensor) -> Tensor:
    """Return the mean cross entropy of the tokens that have a label.

    Args:
        weighty: of each token, whether it counts for more where it was said before.
    """
    with torch.autocast(ids.device.type, torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        counted = labels[:, 1:] != UNREAD
        logits = model.lm_head(hidden[counted])
    before = torch.ones(ids.shape[1] - 1, ids.shape[1], dtype=torch.bool).tril()
    is_again = ((ids[:, 1:, None] == ids[:, None, :]) & before).any(-1) & weighty[ids[:, 1:]]
    weights = 1 + (AGAIN - 1) * is_again[counted].float()
    losses = functional.cross_entropy(logits.float(), labels[:, 1:][counted], reduction="none")
    return (losses * weights).sum() / weights.sum()


def rate_factor(step: int, steps: int) -> float:
    """Warm up, stay, and cool down linearly over the last quarter; warm up anew where heads are built in."""
    since = step if 3 * step < steps else step - -(-steps // 3)
    return min(1.0, (since + 1) / 30, 4 * (steps - step) / steps)


def optimizers(model: LlamaForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between tokens, AdamW for the embedding and the norms."""
    matrices = [each for each in model.model.layers.parameters() if each.ndim == 2]
    ours = {id(each) for each in matrices}
    rest = [each for each in model.parameters() if id(each) not in ours]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def fit(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seed: int, work: Path) -> None:
    """Train the model, from its checkpoint if there is one."""
    parts = [model.train(), *optimizers(model, recipe.rate)]
    found = topics(tokenizer)
    weighty = torch.zeros(recipe.vocabulary, dtype=torch.bool)
    weighty[[each for ids in found for each in ids]] = True
    first = load(work, parts)
    kept = heads.copying(model) if 3 * first < recipe.steps else heads.finding(model, len(found))
    written, smooth = time.monotonic(), 0.0
    for step in range(first, recipe.steps):
        if recipe.steps <= 3 * step < recipe.steps + 3:
            heads.have_topics(model, found)
            kept = heads.finding(model, len(found))
            parts = [model, *optimizers(model, recipe.rate)]
        for optimizer in parts[1:]:
            optimizer.param_groups[0]["lr"] = recipe.rate * rate_factor(step, recipe.steps)
            optimizer.zero_grad()
        rng = random.Random(f"{seed} {step}")
        length = LENGTH // 2 if 4 * step >= 3 * recipe.steps else LENGTH // 4
        if 10 * step >= 9 * recipe.steps:
            weighty = torch.zeros_like(weighty)
        loss = loss_of(model, *batch(tokenizer, rng, recipe.tokens // length, length), weighty)
        if 3 * step < recipe.steps:
            loss = (7 * loss + loss_of(model, *drills(recipe, rng, 1, length), weighty)) / 8
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in parts[1:]:
            optimizer.step()
        if 3 * step < 2 * recipe.steps:
            for each in kept:
                each.put_back()
        smooth = loss.item() if step == first else 0.95 * smooth + 0.05 * loss.item()
        if step % 20 == 19:
            log.info("step %d/%d loss %.4f", step + 1, recipe.steps, smooth)
        if time.monotonic() - written > CHECKPOINT_SECONDS:
            written = time.monotonic()
            save(work, parts, step + 1)


def load(path: Path, parts: Sequence[Part]) -> int:
    """Restore the parts and return the number of steps done; 0 without a checkpoint."""
    if not path.exists():
        return 0
    state = torch.load(path)
    for part, saved in zip(parts, state["parts"], strict=True):
        part.load_state_dict(saved)
    return int(state["step"])


def save(path: Path, parts: Sequence[Part], step: int) -> None:
    """Write the parts through a second file: a reader never sees half of one."""
    torch.save({"step": step, "parts": [part.state_dict() for part in parts]}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def train(recipe: Recipe, seed: int, out: Path, work: Path) -> None:
    """Train tokenizer and model, and write their folder."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(recipe, seed)
    model = make_model(recipe)
    heads.look_back(model)
    log.info("%d parameters", model.num_parameters())
    fit(model, tokenizer, recipe, seed, work)
    export(model, tokenizer, out)


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write model and tokenizer, in half precision."""
    ends = [SPECIAL.index("<|end|>"), SPECIAL.index("<|endoftext|>")]
    model.generation_config = GenerationConfig(
        eos_token_id=ends, pad_token_id=ends[1], do_sample=True, temperature=0.8, top_p=0.95
    )
    model.eval().half().save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description="Train the embedded language model.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--work", type=Path, help="the checkpoint, where an interrupted run goes on")
    parser.add_argument("--steps", type=int, help="more are better")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="a model of no quality, in seconds")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    recipe = SMOKE if arguments.smoke else Recipe()
    recipe = replace(recipe, steps=arguments.steps or recipe.steps, rate=arguments.rate or recipe.rate)
    work = arguments.work or arguments.out.with_suffix(".work")
    work.parent.mkdir(parents=True, exist_ok=True)
    train(recipe, arguments.seed, arguments.out, work)


if __name__ == "__main__":
    main()
