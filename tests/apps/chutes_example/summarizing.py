"""Summarize as transformers' `pipeline("summarization")` did before 5.0: what the example calls, and no more of it."""

from typing import Any

from transformers import AutoModelForSeq2SeqLM, AutoTokenizer


class Summarizer:
    """Hold a model that writes a text from a text; one that is longer than it can read is not cut, but fails."""

    def __init__(self, model: str, device: int) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(model)
        self._model = AutoModelForSeq2SeqLM.from_pretrained(model).to("cpu" if device < 0 else device)

    def __call__(self, text: str, *, max_length: int, min_length: int, do_sample: bool = False) -> list[dict[str, Any]]:
        """Return one summary, in a list, as the pipeline did."""
        inputs = self._tokenizer(text, return_tensors="pt").to(self._model.device)
        lengths = {"max_length": max_length, "min_length": min_length}
        written = self._model.generate(**inputs, **lengths, do_sample=do_sample)
        return [{"summary_text": self._tokenizer.decode(written[0], skip_special_tokens=True)}]


def pipeline(task: str, model: str, device: int) -> Summarizer:
    """Return the pipeline of the one task that there is here."""
    assert task == "summarization"
    return Summarizer(model, device)
