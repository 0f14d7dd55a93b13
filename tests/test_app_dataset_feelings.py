"""How the records of a dataset feel, by a small random model of the documented kind, in a folder."""

import itertools
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
import transformers

from streamapp.errors import DefinitionError
from streamapp.testing import TestClient

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.dataset.app import Dataset
from apps.dataset.feelings import Feelings

pytestmark = pytest.mark.long


def test_how_records_feel_is_told_by_a_model_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, words = random_model(tmp_path)
    monkeypatch.setenv("STREAMAPP_DATASET_SENTIMENT", str(tmp_path))
    given = [" ".join(itertools.islice(itertools.cycle(words[n % 7 :]), n % 90 + 1)) for n in range(150)]
    given[80] = "good " * 10_000
    with TestClient(Dataset) as client:
        asked = {"file": f"data:,{quote(chr(10).join(given))}", "sentiment": True, "results": True}
        *events, last = client.stream("/process_file", asked)
    told = [result["sentiment"] for event in events for result in event.data["chunk_results"]]
    assert told == [model(text) for text in given]
    assert last.data["summary"]["sentiment"] == Counter(told)
    assert [event.data["processed"] for event in events] == [64, 128, 150]


def random_model(folder: Path) -> tuple[Callable[[str], str], list[str]]:
    """Write a small random checkpoint; return what it says of one text alone, and its words."""
    words = ["good", "bad", "a", "day", "song", "never", "again", "[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=64, id2label=labels, **sizes)
    model = transformers.BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)

    def label(text: str) -> str:
        read = tokenizer(text, truncation=True, return_tensors="pt")
        return labels[int(model(**read).logits.argmax())].upper()

    return label, words[:7]


def test_a_model_that_was_made_for_something_else_is_refused() -> None:
    language_model = Path(__file__).parent.parent / "apps" / "llm" / "tiny" / "model"
    with pytest.raises(DefinitionError, match="STREAMAPP_DATASET_SENTIMENT=.*made for something else"):
        Feelings(str(language_model))
