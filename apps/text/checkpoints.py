"""Load a model with its tokenizer by the name that a setting has, and refuse what would only seem to work.

Transformers makes up what a checkpoint lacks: weights at random, a tokenizer without words. Such a model answers, too.
"""

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from streamapp.errors import DefinitionError


def load_checkpoint(setting: str, kind: Any, name: str) -> tuple[Any, Any]:
    """Return a model and its tokenizer, on the GPU where there is one. Code that comes with a model is not run.

    Args:
        setting: what names it, for messages.
        kind: the class of transformers' that it is loaded by.
        name: a folder or hub id.
    Raises:
        DefinitionError: the name leads to no model, or to one for something else.
    """
    if re.match(r"[/.~]|[A-Za-z]:|.*/.*/", name) and not Path(name).is_dir():  # the hub would say that it is no name
        raise refused(setting, name, "is no folder here, nor could it be the name of a model on the hub")
    on_gpu = torch.cuda.is_available()
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        model, said = kind.from_pretrained(
            name,
            config=config,
            dtype=torch.bfloat16 if on_gpu else torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
        )
    except Exception as error:  # of transformers' own, of safetensors', of torch's: each says what is wrong with it
        said_first = str(error).strip().partition("\n")[0]
        raise refused(setting, name, f"cannot be loaded by {kind.__name__}: {said_first}") from error
    if missing := sorted(said["missing_keys"]):
        raise refused(setting, name, f"has no {', '.join(missing[:3])}: it was made for something else")
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise refused(setting, name, "has no words in its tokenizer: its files are not beside the model")
    return model.to("cuda" if on_gpu else "cpu").eval(), tokenizer


def refused(setting: str, name: str, why: str) -> DefinitionError:
    """Return what to raise where a model will not do."""
    return DefinitionError(f"{setting}={name} {why}")
