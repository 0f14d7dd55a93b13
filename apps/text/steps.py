"""The steps that a text goes through, and what is told of each, in the words of Chutes' example.

    started, chunking, chunked
    sentiment_processing, sentiment_progress ..., sentiment_complete
    summarization_processing, summarization_complete
    entities_processing, entities_progress ..., entities_complete
    completed

A step that fails says so, `sentiment_error`, and the others go on. Then the end is `completed_with_errors`, or `failed`
where there is nothing to show, and the job fails as well. What went wrong inside stands in the server's log.

Divergence: in the example the end is `completed` whatever has failed, callers are told what Python's exceptions say,
and a summary is left out without a word.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NotRequired, TypedDict, cast

import streamapp
from streamapp import Pause
from streamapp.errors import EndpointFailed, StreamAppError

from .chunks import cut_by_length
from .lines import line_of
from .models import Models
from .turns import by_turns

logger = logging.getLogger("streamapp.text")

_WORTH_A_SUMMARY = 100  # characters


class Told(TypedDict):
    """Say what has come about; what else there is depends on the status."""

    status: str
    message: NotRequired[str]
    progress: NotRequired[float]


class Failure(TypedDict):
    """Say which step has failed, and by what."""

    step: str
    error: str
    error_type: str


class Results(TypedDict):
    """Hold what was found."""

    status: str
    sentiment: NotRequired[dict[str, Any]]
    summary: NotRequired[str]
    entities: NotRequired[list[Any]]
    errors: list[Failure]
    processing_time: float


Step = Callable[[], Iterator[dict[str, Any]]]


class Run:
    """Lead a text through the steps that are asked for.

    Args:
        chunk_size: characters, at most, of the parts that each have a sentiment.
        sentiment, summary, entities: the steps that are asked for.
    """

    def __init__(
        self, models: Models, text: str, *, chunk_size: int, sentiment: bool, summary: bool, entities: bool
    ) -> None:
        self._models = models
        self._text = text
        self._chunks = cut_by_length(text, chunk_size)
        self._steps: dict[str, Step] = {}
        if sentiment:
            self._steps["sentiment"] = self._sentiment
        if summary:
            self._steps["summarization"] = self._summary
        if entities:
            self._steps["entities"] = self._entities
        self._results: dict[str, Any] = {}
        self._errors: list[Failure] = []
        self._began = time.perf_counter()

    def outputs(self) -> Iterator[streamapp.Output | Pause]:
        """Yield what is to be told, each with its line for people who read along.

        Raises:
            EndpointFailed: steps have failed, and none has found anything; behind the event that says so.
        """
        for told in self._told():
            yield told if isinstance(told, Pause) else streamapp.Output(told, text=line_of(told))
        self._raise_if_nothing_came()

    def _told(self) -> Iterator[dict[str, Any]]:
        yield {
            "status": "started",
            "message": "Beginning text processing...",
            "timestamp": time.time(),
            "text_length": len(self._text),
        }
        yield {"status": "chunking", "message": "Splitting text into chunks..."}
        yield {
            "status": "chunked",
            "message": f"Split into {len(self._chunks)} chunks",
            "chunks": len(self._chunks),
            "offsets": [[chunk.start, chunk.end] for chunk in self._chunks],
        }
        yield from self._steps_told()
        yield {
            "status": self._status,
            "message": _ENDINGS[self._status],
            "results": self._results,
            "errors": self._errors,
            "total_processing_time": self._seconds,
            "timestamp": time.time(),
        }

    def _steps_told(self) -> Iterator[dict[str, Any]]:
        for name, step in self._steps.items():
            try:
                yield from step()
            except Exception as error:  # the others go on
                logger.exception("the step %s of job %s failed", name, streamapp.current_stream().job_id)
                failure = _failure(name, error)
                self._errors.append(failure)
                yield {"status": f"{name}_error", **failure}

    @property
    def _status(self) -> str:
        if not self._errors:
            return "completed"
        return "completed_with_errors" if self._results else "failed"

    @property
    def _seconds(self) -> float:
        return round(time.perf_counter() - self._began, 6)

    def _raise_if_nothing_came(self) -> None:
        if self._status == "failed":
            raise EndpointFailed("; ".join(failure["error"] for failure in self._errors))

    # Steps

    def _sentiment(self) -> Iterator[dict[str, Any]]:
        yield {"status": "sentiment_processing", "message": "Analyzing sentiment..."}
        found: list[dict[str, Any]] = []
        feelings = self._models.sentiment.each([chunk.text for chunk in self._chunks])
        for number, (chunk, feeling) in enumerate(zip(self._chunks, feelings, strict=True), 1):
            result = {
                "chunk": number,
                "sentiment": feeling["label"],
                "confidence": feeling["confidence"],
                "start": chunk.start,
                "end": chunk.end,
            }
            found.append(result)
            yield {"status": "sentiment_progress", "progress": number / len(self._chunks), "chunk_result": result}
        counts = Counter(result["sentiment"] for result in found)
        overall = _overall(counts)
        of_it = [result["confidence"] for result in found if result["sentiment"] == overall]
        self._results["sentiment"] = {
            "label": overall,
            "confidence": round(sum(of_it) / len(found), 6),
            "positive_chunks": counts["POSITIVE"],
            "neutral_chunks": counts["NEUTRAL"],
            "negative_chunks": counts["NEGATIVE"],
        }
        yield {
            "status": "sentiment_complete",
            "overall_sentiment": overall,
            "chunk_sentiments": found,
            "positive_chunks": counts["POSITIVE"],
            "negative_chunks": counts["NEGATIVE"],
        }

    def _summary(self) -> Iterator[dict[str, Any]]:
        if len(self._text) <= _WORTH_A_SUMMARY:
            yield {
                "status": "summarization_skipped",
                "message": f"A text of up to {_WORTH_A_SUMMARY} characters is its own summary",
            }
            return
        yield {"status": "summarization_processing", "message": "Generating summary..."}
        summary = yield from by_turns(lambda: self._models.summary.of(self._text))
        self._results["summary"] = summary
        yield {
            "status": "summarization_complete",
            "summary": summary,
            "compression_ratio": len(summary) / len(self._text),
        }

    def _entities(self) -> Iterator[dict[str, Any]]:
        yield {"status": "entities_processing", "message": "Extracting entities..."}
        found: list[Any] = []
        for window, entities in self._models.entities.each(self._text):
            found += entities
            if window.end < len(self._text):
                progress = window.end / len(self._text)
                yield {"status": "entities_progress", "progress": progress, "entities": entities}
        kinds: dict[str, list[Any]] = {}
        for entity in found:
            kinds.setdefault(entity["label"], []).append(entity)
        self._results["entities"] = found
        yield {
            "status": "entities_complete",
            "entities": found,
            "entity_types": kinds,
            "total_entities": len(found),
        }


def at_once(last: Mapping[str, Any]) -> Results:
    """Return what the last event tells, as it is told to who asks for it all at once."""
    said = {"status": last["status"], "errors": last["errors"], "processing_time": last["total_processing_time"]}
    return cast("Results", last["results"] | said)


_ENDINGS = {
    "completed": "All processing complete!",
    "completed_with_errors": "Processing complete, but for what has failed",
    "failed": "Nothing could be processed",
}


def _overall(counts: Counter[str]) -> str:
    """Return what more chunks are, of those that are not neutral."""
    if counts["POSITIVE"] == counts["NEGATIVE"]:
        return "NEUTRAL"
    return "POSITIVE" if counts["POSITIVE"] > counts["NEGATIVE"] else "NEGATIVE"


def _failure(step: str, error: Exception) -> Failure:
    """Say what has failed without what an exception says of the inside; our own say what is for callers."""
    kind = type(error).__name__
    said = error.message if isinstance(error, StreamAppError) else f"{step} failed by {kind}; the server's log has more"
    return Failure(step=step, error=said, error_type=kind)
