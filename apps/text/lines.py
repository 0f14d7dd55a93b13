"""Write what is told of a text as lines that a person reads along, for `Accept: text/plain`."""

from collections.abc import Mapping
from typing import Any


def line_of(told: Mapping[str, Any]) -> str:
    """Return the line of an event, with its end; nothing where there is nothing to read."""
    words = _words(told["status"], told)
    return f"{words}\n" if words else ""


def _words(status: str, told: Mapping[str, Any]) -> str:
    match status:
        case "chunking" | "entities_progress":
            return ""
        case "sentiment_progress":
            result = told["chunk_result"]
            return f"  {told['progress']:>4.0%}  chunk {result['chunk']}: {_sure(result['sentiment'], result)}"
        case "sentiment_complete":
            return (
                f"Sentiment: {told['overall_sentiment'].lower()} ({told['positive_chunks']} positive and "
                f"{told['negative_chunks']} negative of {len(told['chunk_sentiments'])} chunks)"
            )
        case "summarization_complete":
            return f"Summary: {_on_a_line(told['summary'])}"
        case "entities_complete":
            named = [f"{_on_a_line(entity['text'])} ({entity['label']})" for entity in told["entities"]]
            return f"Entities: {', '.join(named) or 'none'}"
        case "completed" | "completed_with_errors" | "failed":
            failed = ", ".join(failure["step"] for failure in told["errors"])
            return f"{told['message']}{': ' if failed else ''}{failed} ({told['total_processing_time']:.2f} s)"
    return str(told.get("error") or told["message"])


def _sure(label: str, result: Mapping[str, Any]) -> str:
    return f"{label.lower()} ({result['confidence']:.0%})"


def _on_a_line(text: str) -> str:
    return " ".join(text.split())
