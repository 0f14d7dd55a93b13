"""Several models read a text one after another, each with what those before it have found.

    streamapp serve apps/pipeline/app.py

The steps are `preprocessing`, `sentiment`, `entities`, `summary` and `translation`. The models are those of
`apps/text`, by its settings; a step that fails for a while is tried again (`retries`), and meanwhile others have them.

    STREAMAPP_PIPELINE_TRANSLATION=Helsinki-NLP/opus-mt-en-de streamapp serve apps/pipeline/app.py

Environment:
    STREAMAPP_PIPELINE_TRANSLATION: a folder or hub id of a model that translates, Marian's or T5's; without one that
        step is skipped. Marian's tokenizer needs sentencepiece.
    STREAMAPP_PIPELINE_TRANSLATION_PREFIX: what T5 is told to do: "translate English to German: ".
    STREAMAPP_TEXT_SENTIMENT, STREAMAPP_TEXT_ENTITIES, STREAMAPP_TEXT_SUMMARY: as in apps/text.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator

import streamapp
from streamapp import Pause
from streamapp.errors import EndpointFailed, describe

from . import texts, translation
from .retries import Backoff, Retry, logger, named, retrying

StepName = Literal["preprocessing", "sentiment", "entities", "summary", "translation"]
Data = Mapping[str, Any]


class PipelineInput(BaseModel):
    """Say what to read, and how."""

    text: str = Field(
        min_length=1,
        max_length=20_000,
        examples=[
            "I love this library in London! John Smith opened it. It has 200 seats. On Sundays it is closed, sadly."
        ],
    )
    steps: list[StepName] = Field(
        default=list(get_args(StepName)), min_length=1, description="Which steps, and in which order."
    )
    max_retries: int = Field(default=3, ge=0, le=10, description="How often a step that fails is tried again.")
    delay_s: float = Field(
        default=1,
        ge=0,
        le=60,
        title="Seconds before the first retry",
        description="Twice as long before each next one.",
    )

    @field_validator("text")
    @classmethod
    def _has_words(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("expected a text, got blanks alone")
        return text

    @field_validator("steps")
    @classmethod
    def _runs_each_once(cls, steps: list[StepName]) -> list[StepName]:
        twice = sorted({step for step in steps if steps.count(step) > 1})
        if twice:
            raise ValueError(f"each step runs once; leave out one {twice[0]!r}")
        return steps


@dataclass(frozen=True, slots=True)
class Part:
    """Hold a piece of a step's result, told as soon as it is there."""

    text: str
    total: int


class Skipped(Exception):
    """Say why a step cannot run here."""


class Pipeline(streamapp.App):
    """Read a text by several models, one after another, each with what those before it have found."""

    # Each step is a method of its name. It is given what was found so far, and returns what it adds to that; or it
    # yields `Part`s and pauses and then that, and is given the parts that it has delivered: no retry makes them again.

    title = "Text pipeline"
    max_running = 64  # in turns, so that others run while one waits to try again; it keeps its place meanwhile
    requirements = ["torch", "transformers", "sentencepiece"]

    models: texts.Models
    translator: translation.Translator | None

    def setup(self) -> None:
        """Load the models."""
        self.models = texts.load(os.environ)
        self.translator = translation.load(os.environ)

    @streamapp.endpoint("/pipeline_stream")
    def pipeline_stream(self, input: PipelineInput) -> Iterator[Any]:
        """Run the steps, and tell of each when it begins, goes on, is tried again, and is done.

        The first error ends it. The last event has all that was found, and says whether all went well; where nothing
        was found the job has failed as well.
        """
        data: dict[str, Any] = {"text": input.text}
        told = dict.fromkeys(input.steps, "not_run")
        ending: dict[str, Any] = {"step": "pipeline_complete", "status": "completed"}
        for name in input.steps:
            yield {"step": name, "status": "starting", "input": dict(data)}
            for event in self._run(name, data, Backoff(input.max_retries, input.delay_s)):
                yield event
                told[name] = event.get("status", told[name])  # a pause has none
            if told[name] == "error":
                ending |= {"status": "error", "failed_step": name}
                ending |= {key: event[key] for key in ("error", "error_type")}
                break
        yield {**ending, "steps": told, "final_result": data}
        if ending["status"] == "error" and "completed" not in told.values():
            raise EndpointFailed(ending["error"])

    def _run(self, name: StepName, data: dict[str, Any], backoff: Backoff) -> Iterator[dict[str, Any]]:
        """Yield what there is to tell of a step, and add what it finds to the data."""
        where = f"the step {name}"
        parts: list[Part] = []
        retries = 0
        try:
            with closing(retrying(lambda _: self._items(name, data, parts), backoff, where=where)) as items:
                for item in items:
                    match item:
                        case Pause():
                            yield item
                        case Retry():
                            retries = item.attempt
                            yield {"type": "retry", "step": name, "status": "retry", **_told(item, backoff)}
                        case Part():
                            parts.append(item)
                            done = {"done": len(parts), "total": item.total, "partial_result": item.text}
                            yield {"step": name, "status": "progress", **done}
                        case _:
                            data |= item
                            yield {"step": name, "status": "completed", "result": item, "accumulated_data": dict(data)}
        except Skipped as skipped:
            yield {"step": name, "status": "skipped", "reason": str(skipped)}
        except Exception as error:
            logger.error("%s failed for good", named(where), exc_info=error)
            said = describe(error, where=where).message
            after = f"Failed after {retries} retries: {said}" if retries else said
            what = {"error": after, "error_type": type(error).__name__}
            yield {"type": "error", "step": name, "status": "error", **what}

    def _items(self, name: StepName, data: Data, parts: Sequence[Part]) -> Iterator[Any]:
        made = getattr(self, name)(data, parts)
        if isinstance(made, Iterator):
            yield from made
        else:
            yield made

    def preprocessing(self, data: Data, parts: Sequence[Part]) -> Data:
        """Put the blanks in order and count the words; letters stay as they are, since names are known by them."""
        words = data["text"].split()
        return {"cleaned_text": " ".join(words), "word_count": len(words)}

    def sentiment(self, data: Data, parts: Sequence[Part]) -> Data:
        """Tell how the text feels."""
        found = self.models.sentiment.of(_read(data))
        return {"sentiment": found["label"].lower(), "sentiment_score": found["confidence"]}

    def entities(self, data: Data, parts: Sequence[Part]) -> Data:
        """Find what it names; places are those in the text that this step reads, the cleaned one where there is one."""
        return {"entities": [{**entity, "type": entity["label"]} for entity in self.models.entities.of(_read(data))]}

    def summary(self, data: Data, parts: Sequence[Part]) -> Iterator[Pause | Data]:
        """Say it in short; others go on between a summary's tokens."""
        summary = yield from texts.by_turns(lambda: self.models.summary.of(_read(data)))
        yield {"summary": summary}

    def translation(self, data: Data, parts: Sequence[Part]) -> Iterator[Pause | Part | Data]:
        """Translate it, piece by piece; others go on between the tokens."""
        if self.translator is None:
            raise Skipped(f"no model is named; set {translation.SETTING}")
        pieces = self.translator.pieces(_read(data))
        for piece in pieces[len(parts) :]:
            translated = yield from texts.by_turns(partial(self.translator.of, piece))
            yield Part(translated, len(pieces))
        yield {"translated_text": "".join(part.text for part in parts)}


def _read(data: Data) -> str:
    """Return the text that a step reads."""
    return str(data.get("cleaned_text", data["text"]))


def _told(retry: Retry, backoff: Backoff) -> dict[str, Any]:
    return {
        "attempt": retry.attempt,
        "max_retries": backoff.max_retries,
        "error": retry.report.message,
        "error_type": retry.error_type,
        "delay_s": round(retry.delay_s, 3),
    }
