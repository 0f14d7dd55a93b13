"""The language model without a network: transformers' manager, or our engine, by threads of this process.

A request says how many users ask at once, and is answered by what was measured: `{"i": 0, "tokens_per_s", "first_ms"}`.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any

from benchmarks.peers.llm.model import load
from benchmarks.peers.returning import run
from benchmarks.workload import prompt
from fastapi import Body, FastAPI
from transformers import ContinuousBatchingConfig, GenerationConfig

from streamapp.llm import Engine

app = FastAPI()
model, tokenizer = load()
Texts = Callable[[int, int], Iterable[int]]


def by_manager() -> Texts:
    """Yield whose token has come, of transformers' manager, each as it comes."""
    greedy = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = ContinuousBatchingConfig(num_blocks=64, page_size=32, max_batch_tokens=512)
    manager = model.init_continuous_batching(greedy, batching)
    manager.start()

    def texts(users: int, count: int) -> Iterable[int]:
        ids = [tokenizer(prompt(user))["input_ids"] for user in range(users)]
        names = {manager.add_request(each, max_new_tokens=count, streaming=True): user for user, each in enumerate(ids)}
        left = users
        while left:
            output = manager.get_result(timeout=10)
            yield names[output.request_id]
            left -= output.is_finished()

    return texts


def by_engine() -> Texts:
    """Yield whose token has come, of our engine, all readers in turn."""
    engine = Engine(model, tokenizer)

    def texts(users: int, count: int) -> Iterable[int]:
        reading = {user: engine.stream(prompt(user), max_tokens=count, temperature=0) for user in range(users)}
        while reading:
            for user, tokens in [*reading.items()]:
                if next(tokens, None) is None:
                    del reading[user]
                else:
                    yield user

    return texts


texts = by_manager() if "manager" in sys.argv else by_engine()
turn = threading.Lock()


@app.post("/alone")
def alone(users: Annotated[int, Body()], count: Annotated[int, Body()]) -> dict[str, Any]:
    with turn:
        started = time.perf_counter()
        first: dict[int, float] = {}
        for user in texts(users, count):
            first.setdefault(user, time.perf_counter() - started)
        took_s = time.perf_counter() - started
    return {"i": 0, "tokens_per_s": users * count / took_s, "first_ms": max(first.values()) * 1000}


if __name__ == "__main__":
    run(app)
