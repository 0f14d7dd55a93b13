"""The language model of all peers: a small Llama of random weights, whose words are its tokens.

It is as `transformers` would find it on the hub, in a folder that is made once and kept. Nothing ends its texts, and
the likeliest token is taken, so that all peers make the same ones.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from benchmarks.workload import LANGUAGE_MODEL
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = Path(LANGUAGE_MODEL)  # of the repository, where the servers are started
_WORDS = 2048


def made() -> Path:
    """Return the model's folder; makes it where it is not there."""
    if not FOLDER.exists():
        FOLDER.parent.mkdir(exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=FOLDER.parent))
        _model().save_pretrained(fresh)
        _tokenizer().save_pretrained(fresh)
        try:
            os.rename(fresh, FOLDER)
        except OSError:  # another peer has been faster
            shutil.rmtree(fresh)
    return FOLDER


def load() -> tuple[Any, Any]:
    """Return the model and its tokenizer."""
    folder = made()
    model = LlamaForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()
    return model, PreTrainedTokenizerFast.from_pretrained(folder)


def _model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_WORDS,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def _tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(_WORDS)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0", pad_token="w0")
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }} {% endfor %}"
    return tokenizer
