"""Tiny checkpoints of the documented classes, with random weights: what a setting of `apps/text` may name."""

from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartTokenizer,
    BertConfig,
    BertForTokenClassification,
    BertTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    GPT2Tokenizer,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
    T5Config,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

_END = "<|endoftext|>"
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def save_checkpoints(folder: Path) -> dict[str, str]:
    """Write RoBERTa, BART and BERT into a folder; return what the environment says of them."""
    torch.manual_seed(0)
    save_roberta(folder / "roberta", ("negative", "neutral", "positive"))
    save_bart(folder / "bart")
    save_bert(folder / "bert")
    return {
        "STREAMAPP_TEXT_SENTIMENT": str(folder / "roberta"),
        "STREAMAPP_TEXT_SUMMARY": str(folder / "bart"),
        "STREAMAPP_TEXT_ENTITIES": str(folder / "bert"),
    }


def save_roberta(folder: Path, labels: tuple[str, ...], *, positions: int = 66) -> None:
    """Write a classifier that reads 62 bytes at a time, beside the two tokens around them, or as the positions are."""
    config = RobertaConfig(
        vocab_size=len(_bytes()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=positions,
        id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )
    model = RobertaForSequenceClassification(config)
    for parameter in model.parameters():
        parameter.data.normal_(std=0.3)  # else all texts would feel the same
    model.save_pretrained(folder)
    RobertaTokenizer(vocab=_bytes(), merges=[]).save_pretrained(folder)


def save_gpt2_classifier(folder: Path) -> None:
    """Write a classifier that knows of no padding."""
    config = GPT2Config(
        vocab_size=len(_bytes()),
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        id2label={0: "negative", 1: "positive"},
    )
    GPT2ForSequenceClassification(config).save_pretrained(folder)
    tokenizer = GPT2Tokenizer(vocab=_bytes(), merges=[], unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)


def save_bart(folder: Path, *, positions: int = 160) -> None:
    """Write a model that reads 158 bytes at a time, or as the positions are, and makes bytes."""
    config = BartConfig(
        vocab_size=len(_bytes()),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=positions,
    )
    model = BartForConditionalGeneration(config)
    model.generation_config.num_beams = 2
    model.save_pretrained(folder)
    BartTokenizer(vocab=_bytes(), merges=[]).save_pretrained(folder)


def save_t5(folder: Path) -> None:
    """Write a model that reads 40 letters at a time, and is told what to do by a prefix."""
    letters = [(letter, -1.0) for letter in " abcdefghijklmnopqrstuvwxyz:▁"]
    tokenizer = T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0)
    tokenizer.model_max_length = 40
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
        task_specific_params={"summarization": {"prefix": "summarize: "}},
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def save_bert(folder: Path, labels: tuple[str, ...] = LABELS) -> None:
    """Write a tagger that reads 38 letters at a time."""
    letters = [chr(code) for code in range(33, 127)]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
        id2label=dict(enumerate(labels)),
        label2id={label: n for n, label in enumerate(labels)},
    )
    BertForTokenClassification(config).save_pretrained(folder)
    tokens = {token: n for n, token in enumerate(vocab)}
    BertTokenizer(vocab=tokens, do_lower_case=False).save_pretrained(folder)


def save_gpt2(folder: Path) -> None:
    """Write a language model of bytes."""
    tokenizer = GPT2Tokenizer(vocab={**_bytes(), _END: len(_bytes())}, merges=[])
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _bytes() -> dict[str, int]:
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return {token: n for n, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
