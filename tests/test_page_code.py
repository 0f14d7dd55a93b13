"""The code that the page writes to be copied: the real packages of OpenAI and Runpod really make the call."""

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from playwright.sync_api import Locator, expect
from tests.runpod_packages import PYTHON, needs_runpod
from tests.tabs import PHONE, SEED, Opener, Playground, copied_code, serious_problems, serving
from tests.waiting import LONG_S, WAIT_S

pytestmark = pytest.mark.timeout(LONG_S)

CLIENTS = "tests/apps/openai_clients.py:Clients"
KEY = "open sesame"
WORDS = "one two three four"


@pytest.fixture(scope="module")
def spoken() -> Iterator[str]:
    """A server with a key, which OpenAI's clients can ask for texts, pictures and speech."""
    with serving(CLIENTS, STREAMAPP_API_KEY=KEY) as url:
        yield url


def opened(playground: Opener, server: str, path: str, **values: Any) -> Playground:
    """Open the page with the key."""
    tab = playground(server)
    tab.page.add_init_script(f"sessionStorage['streamapp:key'] = {KEY!r}")
    return tab.open(path, **values)


def language(tab: Playground, name: str) -> Locator:
    return tab.panel("Code").get_by_role("tab", name=name, exact=True)


def printed(code: str, folder: Path, python: Path | str = sys.executable) -> str:
    """Run copied code; return what it prints."""
    assert KEY not in code
    environment = {**os.environ, "STREAMAPP_API_KEY": KEY}
    command = [str(python), "-c", code]
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize(
    ("path", "values", "count"),
    [
        ("/talk", {"messages": [{"role": "user", "content": WORDS}], "max_tokens": 2, "seed": 2**62 + 1}, 2),
        ("/go-on", {"prompt": WORDS}, 3),
    ],
    ids=["chat", "completion"],
)
def test_copied_code_for_openai_streams_a_text(
    spoken: str, playground: Opener, tmp_path: Path, path: str, values: dict[str, Any], count: int
) -> None:
    """As many tokens as the form says, also where that is its default: OpenAI's is another."""
    code = copied_code(opened(playground, spoken, path, **values), "openai")
    words = printed(code, tmp_path).split()
    assert len(words) == count
    assert {*words} < {*WORDS.split()}
    assert "seed" not in values or f"seed={values['seed']}," in code


def test_copied_code_for_openai_saves_pictures_as_they_come(spoken: str, playground: Opener, tmp_path: Path) -> None:
    code = copied_code(opened(playground, spoken, "/draw", prompt="red", width=64, height=32), "openai")
    *partial, last = printed(code, tmp_path).splitlines()
    kind, name = last.split()
    assert (len(partial), kind) == (2, "image_generation.completed")
    with PIL.Image.open(tmp_path / name) as picture:
        assert picture.size == (64, 32)


def test_copied_code_for_openai_saves_speech(spoken: str, playground: Opener, tmp_path: Path) -> None:
    code = copied_code(opened(playground, spoken, "/say", text="one two"), "openai")
    assert (tmp_path / printed(code, tmp_path).strip()).read_bytes().startswith(b"RIFF")


@needs_runpod
@pytest.mark.parametrize(
    ("path", "values", "parts"),
    [
        ("/drawn", {"seed": SEED}, [str(SEED)]),
        pytest.param(
            *("/own", {"pieces": ['data: {"n": 12}\n\n', 'data: {"n": 13}\n\n']}, ["'n': 12", "'n': 13"]),
            marks=pytest.mark.long,
        ),
    ],
    ids=["unary", "response"],
)
def test_copied_code_for_runpod_makes_the_same_call(
    contents: str, playground: Opener, tmp_path: Path, path: str, values: dict[str, Any], parts: list[str]
) -> None:
    code = copied_code(playground(contents).open(path, **values), "Runpod")
    said = printed(code, tmp_path, PYTHON)
    assert [part for part in parts if part not in said] == []


@needs_runpod
def test_copied_code_for_runpod_streams_with_the_key_from_the_environment(
    spoken: str, playground: Opener, tmp_path: Path
) -> None:
    code = copied_code(opened(playground, spoken, "/go-on", prompt=WORDS), "Runpod")
    *pieces, whole, status = printed(code, tmp_path, PYTHON).splitlines()
    assert (len(pieces), "one two three" in whole, status) == (3, True, "COMPLETED")


def test_there_are_those_languages_in_which_an_endpoint_can_be_called(contents: str, playground: Opener) -> None:
    always, tab = ["curl", "Python", "JavaScript"], playground(contents)
    for path, others in {
        "/work": ["EventSource", "fal_client", "Runpod"],
        "/everything": ["fal_client", "Runpod"],
        "/sketch": ["fal_client"],
        "/rooms/{name}": [],
    }.items():
        languages = tab.open(path).panel("Code").get_by_role("tablist", name="Language").get_by_role("tab")
        expect(languages).to_have_text([*always, *others])


def test_the_language_that_one_uses_is_remembered(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work")
    language(tab, "EventSource").click()
    tab.open("/everything")  # which has none
    expect(language(tab, "curl")).to_have_attribute("aria-selected", "true")
    tab.open("/work").page.reload()
    expect(language(tab, "EventSource")).to_have_attribute("aria-selected", "true")


def test_a_file_is_shown_by_its_beginning_and_copied_whole(contents: str, playground: Opener) -> None:
    file = io.BytesIO()
    PIL.Image.effect_noise((64, 64), 100).save(file, "PNG")
    uri = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    tab = playground(contents).open("/everything", text="words", image=uri)
    assert uri in copied_code(tab, "Python")
    shown = tab.page.get_by_role("tabpanel", name="Python", exact=True).inner_text()
    assert '"data:image/png;base64,iVBOR…"' in shown
    assert len(shown) < 500


def test_what_to_install_is_said_and_not_copied(spoken: str, playground: Opener) -> None:
    tab = opened(playground, spoken, "/go-on", prompt=WORDS)
    for name, command in (("openai", "pip install openai"), ("JavaScript", "npm install streamapp-client")):
        assert command not in copied_code(tab, name)
        panel = tab.page.get_by_role("tabpanel", name=name, exact=True)
        expect(panel).to_contain_text(command)
        expect(panel).to_contain_text("STREAMAPP_API_KEY")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_problem_in_code(spoken: str, playground: Opener, scheme: str) -> None:
    tab = playground(spoken, color_scheme=scheme, viewport=PHONE)
    tab.page.add_init_script(f"sessionStorage['streamapp:key'] = {KEY!r}")
    tab.open("/draw", prompt="red", n=2)
    language(tab, "openai").click()
    expect(language(tab, "openai")).to_be_in_viewport()
    assert serious_problems(tab) == {}


def test_a_language_model_that_no_endpoint_leads_to_is_asked_by_openais_path(
    playground: Opener, tmp_path: Path
) -> None:
    with serving("tests/apps/openai_text.py:OpenaiText", STREAMAPP_API_KEY=KEY) as url:
        messages = [{"role": "user", "content": "hi"}]
        tab = opened(playground, url, "/v1/chat/completions", messages=messages, max_tokens=3, seed=SEED // 2)
        code = copied_code(tab, "openai")
        assert printed(code, tmp_path) == "Once upon a \n"
        tab.open("/v1/chat/completions", messages=messages, stream=True).run().ends()
        expect(tab.output).to_contain_text("Once upon a")
        expect(tab.output).not_to_contain_text("[DONE]")
        assert copied_code(tab, "openai").count("stream") == 3
