"""Calls by a client that openapi-python-client has generated; prints {name: what came of it}.

In an environment of its own: `openapi_calls.py FOLDER URL`, with the key in STREAMAPP_API_KEY.
"""

import importlib
import io
import json
import os
import sys
from typing import Any

folder, url = sys.argv[1:]
sys.path.insert(0, folder)
generated = importlib.import_module("generated")
models, types = importlib.import_module("generated.models"), importlib.import_module("generated.types")
client = generated.AuthenticatedClient(url, os.environ["STREAMAPP_API_KEY"], prefix="Key")
stranger = generated.Client(url)


def call(name: str, by: Any = client, **asked: Any) -> Any:
    api = importlib.import_module(f"generated.api.{name}")
    return api.sync(client=by, **asked)


def drawn() -> Any:
    tree = models.NodeInput("a", children=[models.NodeInput("b")])
    asked = models.DrawInputInput(shape=models.Square(side=2.0), tree=tree, seed=2**63 + 1)
    answer = call("described.draw_post", body=asked)
    return [answer.seed, type(answer.shape).__name__, answer.tree.children[0].name]


def sized() -> Any:
    file = types.File(payload=io.BytesIO(b"12345"), file_name="a.txt")
    return call("described.sized_post", body=models.SizedInput(file=file, note="x"))


def events() -> Any:
    text = call("described.count_post", body=models.CountInput(to=2))
    return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]


def result() -> Any:
    asking = client.with_headers({"Accept": "application/json"})
    return json.loads(call("described.count_post", asking, body=models.CountInput(to=2)))


def refused() -> Any:
    return call("described.count_post", body=models.CountInput(to=-1)).error.message


def unauthorized() -> Any:
    return call("described.draw_post", stranger).error.code


calls = (drawn, sized, events, result, refused, unauthorized)
json.dump({each.__name__: each() for each in calls}, sys.stdout)
