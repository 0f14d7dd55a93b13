"""The app of a language model: its own paths and OpenAI's, by the embedded model; and what the environment may say.

With SCREENSHOTS in the environment the README's picture is made anew.
"""

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
from playwright.sync_api import expect
from starlette.testclient import TestClient
from tests.served import blocks, serving
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.tabs import ROOT, Opener
from tests.tabs import serving as serving_page

import streamapp
from streamapp.errors import DefinitionError

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.llm.app import EMBEDDED_MODEL, Llm, load

ASKED = {"messages": [{"role": "user", "content": "Who are you?"}], "seed": 1, "max_tokens": 40}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    torch.set_num_threads(1)
    with serving(Llm) as client:
        yield client


def events(client: TestClient, path: str, body: Any) -> list[tuple[str, Any]]:
    answer = client.post(path, json=body, headers={"Accept": "text/event-stream"})
    return [(block["event"], json.loads(block["data"])) for block in blocks(answer.text)]


def test_a_text_is_gone_on_with_token_by_token(client: TestClient) -> None:
    told = events(client, "/stream", {"prompt": "Once upon a time", "max_tokens": 20, "seed": 1})
    made = [data for name, data in told if name == "output"]
    assert "".join(token["text"] for token in made[:-1]) == made[-1]["text"] != ""
    assert made[-1]["usage"]["completion_tokens"] == 20


def test_the_same_seed_makes_the_same_text(client: TestClient) -> None:
    first, again, other = (client.post("/chat", json={**ASKED, "seed": seed}).text for seed in (1, 1, 3))
    texts = [[block["data"] for block in blocks(text) if block["event"] == "output"] for text in (first, again, other)]
    assert texts[0] == texts[1] != texts[2]


def test_tokens_are_told_as_the_guides_events(client: TestClient) -> None:
    told = events(client, "/generate_stream", {"prompt": "One day", "max_tokens": 3, "temperature": 0})
    assert [name for name, _ in told] == ["start", "token", "token", "token", "complete"]
    assert {"token", "token_id", "generated_tokens", "is_complete"} <= told[1][1].keys()


def test_openai_s_clients_are_answered(client: TestClient) -> None:
    answer = client.post("/v1/chat/completions", json={"model": "tiny-stories", **ASKED}).json()
    assert answer["choices"][0]["message"]["content"]
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["tiny-stories"]


def test_what_a_text_may_not_be_is_said_before_it_is_begun(client: TestClient) -> None:
    refused = client.post("/stream", json={"prompt": 2000 * "word "})
    assert (refused.status_code, "tokens" in refused.text) == (422, True)


def test_a_model_without_a_template_says_that_it_holds_no_conversations(tmp_path: Path) -> None:
    shutil.copytree(EMBEDDED_MODEL, tmp_path, ignore=lambda *_: ["chat_template.jinja"], dirs_exist_ok=True)
    with pytest.raises(streamapp.errors.InvalidInput, match="no chat template"):
        load({"STREAMAPP_LLM_MODEL": str(tmp_path)}).chat([{"role": "user", "content": "hello"}])


def test_another_server_s_model_stands_in() -> None:
    model = load({"STREAMAPP_LLM_UPSTREAM": "http://127.0.0.1:1/v1", "STREAMAPP_LLM_MODEL": "large"})
    assert isinstance(model, streamapp.Upstream)
    assert model.name == "large"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"BACKEND": "vllm"}, "STREAMAPP_LLM_BACKEND=vllm: expected own or transformers"),
        ({"BACKEND": "own", "UPSTREAM": "http://127.0.0.1:1"}, "unset it"),
        ({"UPSTREAM_KEY": "secret"}, "set STREAMAPP_LLM_UPSTREAM"),
        ({"UPSTREAM": "somewhere"}, "Upstream"),
    ],
)
def test_what_the_environment_may_not_say_is_refused_with_what_to_write(environment: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        load({f"STREAMAPP_LLM_{name}": value for name, value in environment.items()})


# In the playground


@pytest.mark.long
def test_the_text_is_seen_growing(playground: Opener) -> None:
    with serving_page("apps/llm/app.py", OMP_NUM_THREADS="1") as server:
        tab = playground(server, viewport={"width": 1280, "height": 800}).open("/chat", seed=5)
        tab.output.evaluate(
            "output => { window.seen = new Set();"
            " const look = () => window.seen.add(output.innerText.length);"
            " new MutationObserver(look).observe(output, {subtree: true, childList: true, characterData: true}) }"
        )
        tab.run()
        expect(tab.output).to_contain_text(re.compile(r"(\w+\W+){40}"))
        if "SCREENSHOTS" in os.environ:
            picture = PIL.Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB")
            picture.quantize(64).save(ROOT / "apps" / "llm" / "screenshot.png", optimize=True)
        tab.ends()
        assert tab.page.evaluate("window.seen.size") > 5
