"""What the READMEs show runs as it stands: on the README's own app, in the shell, in Python, in Node and in Chromium.

A block that is new, or changed in its first line, fails here until it is run, or listed with the reason why it is not.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright
from starlette.testclient import TestClient
from tests import processes
from tests.chromium import CHROMIUM
from tests.fal_packages import JS, needs, needs_fal_js, needs_node
from tests.scripted_server import Serve, answer
from tests.waiting import LONG_S, WAIT_S, until
from tests.webrtc_browser import browsers_are_here, color_of, opened, served  # noqa: F401 - a fixture

import streamapp

ROOT = Path(__file__).parent.parent
SDK = ROOT / "client_sdk" / "js"
MAIN, APPS, PYTHON, JAVASCRIPT = "README.md", "apps/README.md", "client_sdk/python/README.md", "client_sdk/js/README.md"
CHUNKS = "apps/image_chunks/README.md"
HERE = "http://127.0.0.1:8000"
TEXT = (ROOT / MAIN).read_text()

RUNPOD = ROOT / "tests" / ".venvs" / "runpod" / "bin" / "python"
WORDS = ["{'word': 'one'}", "{'word': 'by'}", "{'word': 'one'}"]

pytestmark = pytest.mark.timeout(LONG_S)
needs_runpod = needs(RUNPOD.exists(), "the package runpod is missing; run `make test`")
needs_chromium = needs(CHROMIUM is not None, "no chromium: run `make test` as root")
needs_curl = needs(shutil.which("curl") is not None, "curl is missing")
needs_esbuild = needs((SDK / "node_modules" / ".bin" / "esbuild").exists(), "the npm packages are missing")


def snippets(page: str) -> list[str]:
    """Return what a page shows in blocks; of a shell's each line is one."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    return [each for language, text in blocks for each in (text.splitlines() if language == "sh" else [text])]


ALL = {page: snippets(page) for page in (MAIN, APPS, CHUNKS, PYTHON, JAVASCRIPT)}
RUN: set[tuple[str, str]] = set()


def take(page: str, beginning: str) -> str:
    """Return the one snippet that begins so; it is run here."""
    (found,) = (text for text in ALL[page] if text.startswith(beginning))
    RUN.add((page, found))
    return found


def shell(beginning: str, page: str = MAIN) -> list[str]:
    """Return a line of a shell as words, without its comment, and with this Python's `streamapp` and `python`."""
    words = shlex.split(take(page, beginning), comments=True)
    python = {"streamapp": [sys.executable, "-m", "streamapp"], "python": [sys.executable]}
    return [part for word in words for part in python.get(word, [word])]


COUNTER = take(MAIN, "import time")
CLOCK = take(MAIN, "import asyncio\n\nimport streamapp\n")
SERVE = shell("streamapp serve counter.py:Counter  ")
RUN_ONCE, NEW = shell("streamapp run counter.py"), shell("streamapp new")
CURL, CALL = shell("curl -N"), shell("streamapp call")
SERVE_TLS = shell("streamapp serve counter.py:Counter --tls")
EXEC_PYTHON, EXEC_NODE = shell("streamapp exec -- python"), shell("streamapp exec -- node")
WITH_CLIENT = take(MAIN, 'from streamapp_client import Client\n\nwith Client("http://127.0.0.1:8000").stream(')
SUMS, SERVE_SUMS = take(MAIN, "import streamapp  # sums.py"), shell("streamapp serve sums.py")
SQUARES = take(MAIN, "import streamapp  # squares.py")
IN_SESSION = take(MAIN, 'from streamapp_client import Client\n\nwith Client("http://127.0.0.1:8000").connect(')
IN_NODE = take(MAIN, 'import { Client } from "streamapp-client"; // browsers')
SESSION_IN_NODE = take(MAIN, 'import { Client } from "streamapp-client"; // Node 20')
IN_PAGES = {"EventSource": take(MAIN, "// EventSource"), "fetch": take(MAIN, "// fetch")}
SHOUT = take(MAIN, "import streamapp  # shout.py")
SHOUT_PAGE = {
    "index.html": take(MAIN, "<!doctype html>\n<title>Shout"),
    "main.js": take(MAIN, 'import { Client } from "./_'),
}
OF_PYTHON = [
    take(PYTHON, beginning)
    for beginning in (
        "from streamapp_client import Client\n",
        "with client.stream(",
        "caption = client.run(",
        "with client.connect(",
        'async with AsyncClient("http://127.0.0.1:8000").connect(',
        'async with AsyncClient("http://127.0.0.1:8000") as',
        "from streamapp_client.compat import fal",
        "from streamapp_client import Client, InvalidInput",
        "from streamapp_client import SSEDecoder",
    )
]
BY_EXEC = [shell("streamapp exec --url http://127.0.0.1:8000 -- python", PYTHON)]
BY_EXEC += [shell("streamapp exec --url http://127.0.0.1:8000 -- node", PYTHON)]
BY_PROXY = take(PYTHON, "fal.config(")
OF_JAVASCRIPT = [
    take(JAVASCRIPT, beginning)
    for beginning in (
        'import { Client } from "streamapp-client";\n\nconst client = ',
        "const stream = await client.stream(",
        "const controller = ",
        "const caption = await",
        "const page = await",
        'import { Client } from "streamapp-client";\n\nconst exact',
        "import { StreamappError }",
        "import { SSEDecoder }",
    )
]
CHAT = take(APPS, "import streamapp\nfrom fastapi import WebSocket")
BEHIND = take(
    APPS, "from collections.abc import AsyncIterator\nfrom typing import Any\n\nimport streamapp\n\n\nclass Chat"
)
CHAT_IN_PAGE = take(APPS, "const socket = new WebSocket(")
TOGETHER = take(APPS, "import streamapp  # together.py")
SOUND_IN_PAGE = take(APPS, 'import { Client } from "./_')

SERVE_CHUNKS, CALL_CHUNKS = shell("streamapp serve", CHUNKS), shell("streamapp call", CHUNKS)
_, CHUNKS_FOLDER, _, *SERVE_ENDPOINT = shell("cd ", CHUNKS)
ASK_ENDPOINT = shell("python", CHUNKS)
WORDS_APP = take(MAIN, "import runpod  #")
SERVE_HANDLER, CURL_RUNPOD = shell("streamapp serve words.py"), shell("curl http://127.0.0.1:8000/v2")
WITH_RUNPOD, ENDPOINT = take(MAIN, "import runpod\n\nrunpod.api_key"), take(MAIN, "[tool.streamapp.endpoints.words]")
LETTERS, SERVE_LETTERS = take(MAIN, "from chutes.chute import Chute"), shell("streamapp serve letters.py")
CURL_LETTERS = shell("curl --no-buffer")
SECRET, SERVE_WORKERS = shell("export STREAMAPP_WORKER_SECRET"), shell("streamapp serve --runpod")
WORK = take(MAIN, 'eval "$(streamapp worker')
NOT_RUN = {
    (MAIN, "make demo"): "it sets up an environment of its own",
    (MAIN, "make test"): "this is it",
    (MAIN, "           submit"): "a drawing",
    (MAIN, "const session = new Client(location.origin)"): "tests/test_webrtc_browser.py has such a page",
    (MAIN, "from transformers import AutoModel"): "it downloads a model; tests/test_openai_engine.py has such an app",
    (MAIN, "from openai import OpenAI"): "tests/test_openai_python.py asks so",
    (APPS, "streamapp serve apps/voxels/app.py"): "tests/test_app_voxels.py has it in a page",
    (APPS, "class ImageInput(BaseModel)"): "apps/sdxl/app.py begins so; tests/test_page_stage.py shows its cards",
    (APPS, 'yield {"start_s"'): "apps/audio/app.py does so",
    (PYTHON, "pip install"): "it is for an index; .ci/wheel installs",
    (JAVASCRIPT, "npm install"): "it is for a registry; tests/test_js_client.py packs the package",
    (JAVASCRIPT, "const source = client.eventSource"): "Node has no EventSource; client_sdk/js/test/pages.test.js has",
    (JAVASCRIPT, 'import { Client } from "streamapp-client";\nimport { useStream }'): "tests/pages/react-page.js is it",
    (JAVASCRIPT, "const session = client.connect"): "it draws; client_sdk/js/test/connect.test.js has sessions",
    (
        JAVASCRIPT,
        'import { Client } from "streamapp-client";\nimport { useSession }',
    ): "tests/pages/react-page.js is it",
    (JAVASCRIPT, "<video"): "tests/test_webrtc_browser.py has it",
    (JAVASCRIPT, "<!doctype html>"): "tests/test_js_client.py has these two pages from tests/pages",
}


def test_every_snippet_is_run_or_has_its_reason() -> None:
    left = {(page, text) for page, texts in ALL.items() for text in texts} - RUN
    assert [each for each in left if not any(is_named(each, named) for named in NOT_RUN)] == []
    assert [named for named in NOT_RUN if not any(is_named(each, named) for each in left)] == []


def is_named(snippet: tuple[str, str], named: tuple[str, str]) -> bool:
    return snippet[0] == named[0] and snippet[1].startswith(named[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the README's app."""
    place = tmp_path_factory.mktemp("readme")
    (place / "counter.py").write_text(COUNTER)
    return place


def run(command: list[str], folder: Path, url: str = HERE, **environment: str) -> str:
    """Run a command against the server at `url`, and return what it prints."""
    words = [word.replace(HERE, url) for word in command]
    variables = {**os.environ, "STREAMAPP_URL": url, "PYTHONUNBUFFERED": "1", **environment}
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def serving(command: list[str], folder: Path) -> Iterator[str]:
    """Serve at a free port; gives the URL."""
    words = command[command.index("serve") + 1 :]
    with processes.serving(*words, env=os.environ, folder=folder) as (url, _):
        yield url


@pytest.fixture(scope="module")
def counter(folder: Path) -> Iterator[str]:
    with serving(SERVE, folder) as url:
        yield url


@pytest.fixture(scope="module")
def painter(folder: Path) -> Iterator[str]:
    app = ROOT / "tests" / "apps" / "painter.py"
    with serving([sys.executable, "-m", "streamapp", "serve", str(app)], folder) as url:
        yield url


# On the README's own app


def test_the_commands_without_a_server(folder: Path) -> None:
    assert '"count": 3' in run(RUN_ONCE, folder)
    run(NEW, folder)
    assert '"image": ' in run([*RUN_ONCE[:4], "my-app/app.py", "/stream", "steps=2"], folder)


@needs_curl
def test_the_commands_with_one(counter: str, folder: Path) -> None:
    assert run(CURL, folder, counter).count("event: output") == 3
    assert '"count": 3' in run(CALL, folder, counter)


def test_a_broadcast(tmp_path: Path) -> None:
    (tmp_path / "clock.py").write_text(CLOCK)
    with serving([*SERVE[:4], "clock.py:Clock"], tmp_path) as url, httpx.stream("GET", f"{url}/ticks") as response:
        assert [line for line in response.iter_lines() if "tick" in line] == [f'data: {{"tick":{n}}}' for n in range(3)]


def test_over_tls_with_the_variables_that_are_printed(folder: Path) -> None:
    with serving([*SERVE_TLS, "--tls-dir", str(folder / "tls")], folder) as url:
        assert url.startswith("https://127.0.0.1:")


def test_the_chat_joins_its_sockets() -> None:
    names: dict[str, Any] = {}
    exec(CHAT, names)
    with TestClient(streamapp.compile_app(names["Chat"])) as client:
        with client.websocket_connect("/chat/lobby?name=ann") as ann, client.websocket_connect("/chat/lobby") as other:
            ann.receive_json()
            ann.send_json("hello")
            assert other.receive_json() == {"from": "ann", "message": "hello"}
            assert client.post("/announce", json={"room": "lobby", "text": "soon"}).json() == 2
            assert ann.receive_json() == {"announcement": "soon"}


def test_a_model_of_another_server(serve: Serve) -> None:
    token, end = b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\n', b"data: [DONE]\n\n"
    server = serve(
        **{
            "v1/models": [answer(b'{"data": [{"id": "x"}]}')],
            "v1/chat/completions": [answer(token + end, "200 OK", "text/event-stream")],
        }
    )
    namespace: dict[str, Any] = {"__name__": "behind"}
    exec(BEHIND.replace("http://127.0.0.1:8001", server.url), namespace)
    with TestClient(streamapp.compile_app(namespace["Chat"])) as client:
        assert '"text":"Hi","index":0,"finish_reason":"stop"' in client.post("/stream", json={"prompt": "Hello"}).text


def test_jobs_that_take_turns_are_told_what_is_theirs() -> None:
    names: dict[str, Any] = {}
    exec(TOGETHER, names)
    with TestClient(streamapp.compile_app(names["Together"])) as client, ThreadPoolExecutor(4) as readers:
        asked = [
            readers.submit(client.post, "/stream?_events=named", json={"first": first}) for first in (0, 10, 20, 30)
        ]
        said = [re.findall(r"^data: (\d+)$", answer.result(WAIT_S).text, re.MULTILINE) for answer in asked]
    assert said == [[str(first + n) for n in range(5)] for first in (0, 10, 20, 30)]


def test_the_python_client(counter: str, folder: Path) -> None:
    printed = run_python(WITH_CLIENT, counter, folder)
    assert printed.splitlines()[-1] == "{'count': 3}"


def test_a_session(folder: Path) -> None:
    (folder / "sums.py").write_text(SUMS)
    with serving(SERVE_SUMS, folder) as url:
        assert run_python(IN_SESSION, url, folder).split() == ["1", "2", "3"]


@needs_node
@needs_esbuild
def test_a_session_in_javascript(folder: Path) -> None:
    (folder / "sums.py").write_text(SUMS)
    with serving(SERVE_SUMS, folder) as url:
        assert run_node(SESSION_IN_NODE, url, folder).split() == ["1", "2", "3"]


def run_python(code: str, url: str, folder: Path) -> str:
    return run([sys.executable, "-c", code.replace(HERE, url)], folder, url)


@needs_node
@needs_esbuild
def test_the_javascript_client(counter: str, folder: Path) -> None:
    printed = run_node(IN_NODE, counter, folder)
    assert printed.splitlines()[-1] == "{ count: 3 }"


def run_node(code: str, url: str, folder: Path) -> str:
    command = ["npx", "esbuild", "--bundle", "--format=esm", "--platform=node", "--log-level=error"]
    bundle = subprocess.run(
        [*command, "--alias:streamapp-client=./src/index.ts"],
        cwd=SDK,
        input=code.replace(HERE, url),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    return run(["node", "--experimental-websocket", "--input-type=module", "--eval", bundle.stdout], folder, url)


@needs_chromium
@pytest.mark.parametrize("way", IN_PAGES)
def test_without_a_client_in_a_page(counter: str, way: str) -> None:
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.goto(f"{counter}/health")
        page.evaluate("() => { window.said = []; console.log = (value) => said.push(value); }")
        page.evaluate(f"async () => {{ {IN_PAGES[way]} }}")
        until(lambda: {"count": 3} in page.evaluate("said"))
        assert [each for each in page.evaluate("said") if "count" in each] == [{"count": n} for n in (1, 2, 3)]


@needs_chromium
def test_the_chat_in_a_page(tmp_path: Path) -> None:
    (tmp_path / "chat.py").write_text(CHAT)
    with (
        serving([*SERVE[:4], "chat.py:Chat"], tmp_path) as url,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.goto(f"{url}/health")
        page.evaluate("() => { window.said = []; console.log = (value) => said.push(value); }")
        page.evaluate(f"() => {{ {CHAT_IN_PAGE.replace('127.0.0.1:8000', url.removeprefix('http://'))} }}")
        until(lambda: httpx.post(f"{url}/announce", json={"room": "lobby", "text": "soon"}).json() == 1)
        until(lambda: {"announcement": "soon"} in page.evaluate("said"))


# How loud it has been: each chunk is connected by itself.
HEAR_ALL = """
const connect = AudioNode.prototype.connect;
window.loudest = 0;
AudioNode.prototype.connect = function (target) {
  if (target instanceof AudioDestinationNode) {
    const ear = new AnalyserNode(this.context);
    const heights = new Float32Array(ear.fftSize);
    connect.call(this, ear);
    setInterval(() => {
      ear.getFloatTimeDomainData(heights);
      window.loudest = Math.max(window.loudest, ...heights);
    }, 20);
  }
  return connect.call(this, target);
};
"""


@needs_chromium
def test_a_sound_in_a_page() -> None:
    with (
        serving([*SERVE[:4], "apps/audio/app.py"], ROOT) as url,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        page.add_init_script(HEAR_ALL)
        page.goto(f"{url}/health")
        page.add_script_tag(type="module", content=SOUND_IN_PAGE)
        page.click("body")
        until(lambda: page.evaluate("window.loudest") > 0.1)


@needs_chromium
def test_an_own_page(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    (tmp_path / "shout.py").write_text(SHOUT)
    for name, text in SHOUT_PAGE.items():
        (tmp_path / "page" / name).write_text(text)
    with (
        serving([*SERVE[:4], "shout.py:Shout"], tmp_path) as url,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page()
        for place in ("/", "/shout"):
            page.goto(url + place)
            page.get_by_label("Words").fill("one two")
            page.get_by_label("Words").press("Enter")
            until(lambda: page.locator("output").inner_text() == "ONE TWO")


async def test_images_of_a_session_are_a_video() -> None:
    names: dict[str, Any] = {"__name__": "squares"}
    exec(SQUARES, names)
    with served(names["Squares"]) as client:
        async with opened(client, "/paint") as browser:
            await browser.open()
            browser.say(type="input", n=1, data={"color": "blue"})
            assert (await browser.event())["content_type"] == "video"
            assert color_of(await browser.sees(256, 256)) == "blue"


# fal's clients, on the README's own app: what the comments behind the commands say


def test_fal_client_by_exec(counter: str, folder: Path) -> None:
    (call,) = re.findall(r"fal_client\.stream\(.*?\}\)", TEXT)
    calls = [f"print([*{call}][-1])", f"print({call.replace('stream', 'subscribe')})"]
    upload = "print(fal_client.upload_file('counter.py').startswith('http'))"
    (folder / "script.py").write_text("\n".join(["import fal_client", *calls, upload]))
    printed = run([*EXEC_PYTHON[:4], "--url", counter, *EXEC_PYTHON[4:]], folder)
    assert printed == "{'count': 3}\n{'count': 3}\nTrue\n"
    assert run(BY_EXEC[0], folder, counter) == printed


@needs_node
@needs_fal_js
def test_fal_js_by_exec_and_by_the_proxy(counter: str, folder: Path) -> None:
    (call,) = re.findall(r"fal\.subscribe\(.*?\}\ \}\)", TEXT)
    start = f"""
        import {{ createRequire }} from "node:module";
        const {{ fal }} = createRequire("{JS}/")("@fal-ai/client");
    """
    script = folder / "script.mjs"
    script.write_text(f"{start} console.log((await {call}).data);")
    assert run([*EXEC_NODE[:4], "--url", counter, *EXEC_NODE[4:]], folder) == "{ count: 3 }\n"
    assert run(BY_EXEC[1], folder, counter) == "{ count: 3 }\n"
    script.write_text(f"{start} {BY_PROXY.replace(HERE, counter)} console.log((await {call}).data);")
    assert run(["node", str(script)], folder) == "{ count: 3 }\n"


# Chutes


@needs_curl
def test_a_file_that_was_written_for_chutes(tmp_path: Path) -> None:
    (tmp_path / "letters.py").write_text(LETTERS)
    with serving(SERVE_LETTERS, tmp_path) as url:
        lines = run(CURL_LETTERS, tmp_path, url).splitlines()
        assert [json.loads(line) for line in lines] == [{"letter": letter} for letter in "abc"]


# Runpod's client and worker, and a handler


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Return a folder with the README's handler."""
    (tmp_path / "words.py").write_text(WORDS_APP)
    return tmp_path


@needs_curl
def test_a_handler_that_was_written_for_runpod(words: Path) -> None:
    with serving(SERVE_HANDLER, words) as url:
        answer = json.loads(run(["curl", "-s", *CURL_RUNPOD[1:]], words, url))
        assert answer["output"] == [{"word": "one"}, {"word": "by"}, {"word": "one"}]


@needs_runpod
def test_runpods_client_with_the_endpoint_of_a_pyproject(words: Path) -> None:
    (words / "pyproject.toml").write_text(ENDPOINT)
    with serving(SERVE_HANDLER[:4], words) as url:
        assert run([str(RUNPOD), "-c", WITH_RUNPOD.replace(HERE, url)], words, url).splitlines() == WORDS


@needs_runpod
def test_a_worker_of_runpods_elsewhere(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*SECRET[1].split("="))
    with serving(SERVE_WORKERS, words) as url:
        line = WORK.replace(HERE, url).replace("streamapp", f"{sys.executable} -m streamapp")
        command = ["bash", "-c", line.replace("python words.py", f"exec {RUNPOD} words.py")]
        with subprocess.Popen(command, cwd=words, start_new_session=True, stdout=subprocess.DEVNULL) as worker:
            try:
                assert run([str(RUNPOD), "-c", WITH_RUNPOD.replace(HERE, url)], words, url).splitlines() == WORDS
            finally:
                os.killpg(worker.pid, signal.SIGKILL)  # with the process that pings


# What the clients' READMEs show, on an app with a prompt and pictures

GIVEN = f"""
import asyncio, time
from pathlib import Path
from PIL import Image
from streamapp_client import AsyncClient, Client
Image.new("RGB", (4, 2)).save("cat.png")
client = Client("{HERE}")
chunks, show, looks_wrong = [b"data: 1\\n\\n"], print, lambda image: False
"""


@pytest.mark.parametrize("number", range(len(OF_PYTHON)))
def test_the_python_clients_readme(painter: str, folder: Path, number: int) -> None:
    code = OF_PYTHON[number]
    if "async with" in code:
        code = "async def main():\n" + re.sub("^", "    ", code, flags=re.MULTILINE) + "\nasyncio.run(main())"
    run_python(GIVEN + code, painter, folder)


@needs_node
@needs_esbuild
@pytest.mark.parametrize("number", range(len(OF_JAVASCRIPT)))
def test_the_javascript_clients_readme(painter: str, folder: Path, number: int) -> None:
    code = OF_JAVASCRIPT[number]
    given = "const show = console.log; globalThis.document ??= { querySelector: () => null };"
    if "const client" not in code:
        given += f'import {{ Client as Given }} from "streamapp-client"; const client = new Given("{HERE}");'
    picture = json.dumps(streamapp.Image.from_pil(Image.new("RGB", (4, 2))).data_uri())
    run_node(given + code.replace('new File(["..."], "cat.png", { type: "image/png" })', picture), painter, folder)


@needs_curl
def test_a_part_of_a_form_is_the_whole_input(counter: str, folder: Path) -> None:
    (options,) = re.findall(r"`curl (-F 'input=.*?')`", TEXT)
    assert run(["curl", "-s", *shlex.split(options), f"{counter}/stream"], folder).count("event: output") == 3


@needs_curl
def test_a_picture_is_saved_by_its_type(painter: str, folder: Path) -> None:
    (options,) = re.findall(r"`curl (-H 'Accept: image/png' -o out\.png)`", TEXT)
    run(["curl", "-s", *shlex.split(options), f"{painter}/stream", "-F", "prompt=x"], folder)
    with Image.open(folder / "out.png") as image:
        assert (image.format, image.size) == ("PNG", (8, 8))


# The app that enhances images, and the handler beside it


@pytest.fixture
def photo(folder: Path) -> Path:
    """Return the folder, with a photo."""
    Image.effect_noise((600, 400), 30).convert("RGB").save(folder / "photo.jpg")
    return folder


def test_the_app_that_enhances_images(photo: Path) -> None:
    *command, app = SERVE_CHUNKS
    with serving([*command, str(ROOT / app)], photo) as url:
        assert '"total_chunks_processed": 6' in run(CALL_CHUNKS, photo, url)


def test_the_handler_that_enhances_images(photo: Path) -> None:
    python, client, *words = ASK_ENDPOINT
    with serving(SERVE_ENDPOINT, ROOT / CHUNKS_FOLDER) as url:
        run([python, str(ROOT / client), *words], photo, url, RUNPOD_ENDPOINT_BASE_URL=f"{url}/v2")
    assert len([*(photo / "out" / "image_chunks").iterdir()]) == 7
