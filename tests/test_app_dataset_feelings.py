"""How the records of a dataset feel, by the model that comes with `apps/text` or one in a folder."""

import itertools
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import pytest
import torch
import transformers

from streamapp.testing import TestClient

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.dataset.app import Dataset
from apps.text.models import Sentiment


def test_how_records_feel_is_told_by_the_embedded_model_where_none_is_named() -> None:
    with TestClient(Dataset) as client:
        _, last = client.stream("/process_file", {"file": "data:,I love it!%0AI hate it.", "sentiment": True})
    assert last.data["summary"]["sentiment"] == {"POSITIVE": 1, "NEGATIVE": 1}


@pytest.mark.long
def test_records_feel_in_groups_as_they_do_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = save_random_model(tmp_path)
    monkeypatch.setenv("STREAMAPP_TEXT_SENTIMENT", str(tmp_path))
    given = [" ".join(itertools.islice(itertools.cycle(words[n % 7 :]), n % 90 + 1)) for n in range(150)]
    given[80] = "good " * 10_000
    with TestClient(Dataset) as client:
        asked = {"file": f"data:,{quote(chr(10).join(given))}", "sentiment": True, "results": True}
        *events, last = client.stream("/process_file", asked)
    told = [result["sentiment"] for event in events for result in event.data["chunk_results"]]
    alone = Sentiment(str(tmp_path))
    assert told == [alone.of(text[:2048])["label"] for text in given]
    assert last.data["summary"]["sentiment"] == Counter(told)
    assert [event.data["processed"] for event in events] == [64, 128, 150]


def save_random_model(folder: Path) -> list[str]:
    """Write a small random checkpoint of the documented kind; return its words."""
    words = ["good", "bad", "a", "day", "song", "never", "again", "[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=64)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    labels = {0: "negative", 1: "neutral", 2: "positive"}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=64, id2label=labels, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    return words[:7]
