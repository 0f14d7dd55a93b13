"""What texts say, step by step: how each part feels, what the whole is about, whom and what it names.

    streamapp serve apps/text/app.py

It is the text service of Chutes' example, at its paths and in its words. By default its models are the small ones that
come with the app, and need no GPU; the documented ones by settings:

    STREAMAPP_TEXT_SENTIMENT=cardiffnlp/twitter-roberta-base-sentiment-latest \\
    STREAMAPP_TEXT_SUMMARY=facebook/bart-large-cnn STREAMAPP_TEXT_ENTITIES=dslim/bert-base-NER \\
        streamapp serve apps/text/app.py

Environment, each a hub id or a folder:
    STREAMAPP_TEXT_SENTIMENT: a model for sequence classification, whose labels are negative, neutral and positive, or
        1 to 5 stars.
    STREAMAPP_TEXT_SUMMARY: one from sequence to sequence; else sentences of the text itself are its summary.
    STREAMAPP_TEXT_ENTITIES: one for token classification.
    STREAMAPP_TEXT_GENERATION: a language model, for `/generate-stream`; else that of `apps/llm`.
"""

import os
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from transformers import AutoModelForCausalLM

import streamapp
from streamapp.llm import Engine

from .checkpoints import load_checkpoint
from .models import load
from .steps import Results, Run, Told, at_once

LANGUAGE_MODEL = Path(__file__).parent.parent / "llm" / "tiny" / "model"
# Jobs take turns: a text that is long holds up no short one for more than a chunk, and a step of the language model
# makes a token for all.
MOST_AT_ONCE = 16
_EXAMPLES = [
    (
        "I love using this amazing new technology! It has completely transformed how I work. The artificial "
        "intelligence capabilities are impressive and the user interface is intuitive. However, there are still some "
        "areas that could be improved."
    ),
    (
        "Mary Jones lives in Paris and works for Google. She says that the city is wonderful. Her brother in London "
        "hates the rain there. They will meet in Berlin on Friday."
    ),
]


def with_words(text: str) -> str:
    """Return a text in which there is something to read.

    Raises:
        ValueError: it is blank.
    """
    if not text.strip():
        raise ValueError("expected a text, got blanks alone")
    return text


class StreamingTextInput(BaseModel):
    """Say what to read, and what for. Longer texts are for `apps/dataset`: here one waits for all of it."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"text": _EXAMPLES[0]}, {"text": _EXAMPLES[1], "include_entities": True}]}
    )
    text: Annotated[str, AfterValidator(with_words)] = Field(min_length=10, max_length=5000, examples=_EXAMPLES)
    include_sentiment: bool = Field(default=True, description="Include sentiment analysis")
    include_summary: bool = Field(default=True, description="Include text summarization")
    include_entities: bool = Field(default=False, description="Include named entity recognition")
    chunk_size: int = Field(default=200, ge=50, le=500, description="Text chunk size for processing")


class Text(streamapp.App):
    """Read texts, and say at each step what was found."""

    title = "Real-time streaming text processing"
    max_running = MOST_AT_ONCE
    requirements = ["torch", "transformers"]

    def setup(self) -> None:
        """Load the models."""
        self.models = load(os.environ)
        self.language_model = load_language_model(os.environ.get("STREAMAPP_TEXT_GENERATION"))

    @streamapp.endpoint("/process-stream", media_type="application/x-ndjson")
    def process_text_stream(self, input: StreamingTextInput) -> Iterator[Told]:
        """Process text with streaming results; the last event has all of them."""
        run = Run(
            self.models,
            input.text,
            chunk_size=input.chunk_size,
            sentiment=input.include_sentiment,
            summary=input.include_summary,
            entities=input.include_entities,
        )
        return cast("Iterator[Told]", run.outputs())

    @streamapp.endpoint("/process-batch")
    async def process_text_batch(self, input: StreamingTextInput) -> Results:
        """Return all results at once."""
        last: Any = None  # a job like others, so that it takes turns with them
        async with aclosing(streamapp.follow(self.process_text_stream, input)) as events:
            async for event in events:
                last = event if event.kind == "output" else last
        return at_once(last.json())

    @streamapp.endpoint("/generate-stream", media_type="text/plain")
    def generate_text_stream(
        self,
        prompt: Annotated[str, Field(min_length=1, max_length=5000, examples=["Once upon a time", "A shy dragon"])],
        max_tokens: Annotated[int, Field(ge=1, le=2000)] = 120,
    ) -> Iterator[str]:
        """Go on with a text, word by word."""
        return _generated(prompt, cast("Iterator[Any]", self.language_model.stream(prompt, max_tokens=max_tokens)))


def load_language_model(name: str | None) -> Engine:
    """Load the language model of that name, the embedded one where none is named.

    Raises:
        DefinitionError: the name leads to none.
    """
    model, tokenizer = load_checkpoint("STREAMAPP_TEXT_GENERATION", AutoModelForCausalLM, name or str(LANGUAGE_MODEL))
    return Engine(model, tokenizer, max_sequences=MOST_AT_ONCE)


def _generated(prompt: str, items: Iterator[Any]) -> Iterator[str]:
    """Tell what a language model makes as Chutes' example does; what has no token yet has others go on meanwhile."""
    with closing(cast("Any", items)):
        yield f"Prompt: {prompt}\n\nGenerated text: "
        for item in items:
            if "finish_reason" in item:
                is_whole = item["finish_reason"] == "stop"
                yield f"\n\n[Generation {'complete' if is_whole else 'stopped at max_tokens'}]"
            elif item["token"] is None:
                yield item
            elif item["text"]:
                yield item["text"]
