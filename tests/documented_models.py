"""Checkpoints of the classes that Chutes' documents load, with random weights of a few channels, under the same names.

A folder that is called as a model of the hub is wins over the hub, for a process whose working folder it is in.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

SENTIMENT = "cardiffnlp/twitter-roberta-base-sentiment-latest"
SUMMARY = "facebook/bart-large-cnn"
LANGUAGE = "microsoft/DialoGPT-medium"
_TEXTS = ["I love using this amazing new technology!", "The artificial intelligence capabilities are impressive."]
_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
_VOCABULARY = 300


def save_sentiment(folder: Path) -> None:
    """Save a RoBERTa that tells three labels apart."""
    config = transformers.RobertaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=514,
        id2label={0: "negative", 1: "neutral", 2: "positive"},
    )
    _save(transformers.RobertaForSequenceClassification, config, transformers.RobertaTokenizer, folder / SENTIMENT)


def save_summary(folder: Path) -> None:
    """Save a BART that writes."""
    config = transformers.BartConfig(
        vocab_size=_VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=1024,
    )
    _save(transformers.BartForConditionalGeneration, config, transformers.BartTokenizer, folder / SUMMARY)


def save_language(folder: Path) -> None:
    """Save a GPT-2."""
    end = _SPECIAL.index("<|endoftext|>")
    config = transformers.GPT2Config(
        vocab_size=_VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=1024, bos_token_id=end, eos_token_id=end
    )
    _save(transformers.GPT2LMHeadModel, config, transformers.GPT2Tokenizer, folder / LANGUAGE)


def _save(model: Any, config: Any, tokenizer: Any, folder: Path) -> None:
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model(config).save_pretrained(folder)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(_TEXTS, vocab_size=_VOCABULARY, special_tokens=_SPECIAL, show_progress=False)
    vocabulary, merges = trained.save_model(str(folder))
    tokenizer.from_pretrained(folder).save_pretrained(folder)
