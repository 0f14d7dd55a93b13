"""The language model as transformers' documentation streams it: `generate` in a thread, and a TextIteratorStreamer.

`--serial` has one thread at a time, as who shares a GPU does.
"""

import sys
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Annotated

from benchmarks.peers.llm.model import load
from benchmarks.peers.returning import run
from fastapi import Body, FastAPI
from fastapi.sse import EventSourceResponse
from transformers import TextIteratorStreamer

app = FastAPI()
model, tokenizer = load()
turn = threading.Lock() if "--serial" in sys.argv else nullcontext()


@app.post("/stream", response_class=EventSourceResponse)
def stream(prompt: Annotated[str, Body()], max_tokens: Annotated[int, Body()]) -> Iterable[dict[str, str]]:
    streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
    inputs = tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)

    def generate() -> None:
        with turn:
            model.generate(**inputs, streamer=streamer, max_new_tokens=max_tokens, do_sample=False)

    threading.Thread(target=generate).start()
    for text in streamer:
        if text:
            yield {"text": text}


if __name__ == "__main__":
    run(app)
