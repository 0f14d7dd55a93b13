"""Realtime of fal: its clients for Python, Node and the browser, unmodified, and the real fal beside ours.

One file of an app is served by both. What is different on purpose stands in docs/migrate/fal.md.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import fal_client
import httpx
import msgpack
import pytest
from fal_client.client import RealtimeError
from playwright.sync_api import sync_playwright
from tests.chromium import CHROMIUM
from tests.fal_packages import FAL, JS, SESSIONS, environment, needs_fal, needs_fal_js, serving, serving_tls
from tests.fal_page import script
from tests.leading_proxy import leading
from tests.processes import free_port
from tests.waiting import WAIT_S, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from streamapp.http.tokens import Tokens
from streamapp_client.compat import fal

ID = "me/fal-sessions"
KEY = "the:key"  # without a colon it would be none to the package fal
TIMEOUT = '{"type":"x-fal-error","error":"TIMEOUT","reason":"no inputs, reconnect when needed!"}'
PICTURE = b"\xff\xd8\x00\x01"
A, B = {"prompt": "a", "image_bytes": PICTURE}, {"prompt": "b", "seed": 3}


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # fal_client leaves sockets open


def drawn(prompt: str, image: bytes = b"", seed: int = 1) -> dict[str, Any]:
    return {"images": [{"content": image, "content_type": "image/jpeg"}], "seed": seed, "prompt": prompt}


def told(prompt: str, seed: int) -> dict[str, Any]:
    return {"images": [], "seed": seed, "prompt": prompt}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(app="FalSessions") as (url, _):
        yield url


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the same file by the real fal."""
    folder = tmp_path_factory.mktemp("theirs")
    source = SESSIONS.read_text()
    (folder / "app.py").write_text(source.replace("import streamapp.fal as fal", "import fal"))
    port, metrics_port = free_port(), free_port()
    ports = ("--exposed-port", str(port), "--exposed-metrics-port", str(metrics_port))
    command = [str(FAL), "run", "--local", "app.py::FalSessions", *ports]
    env = {**environment(), "HOME": str(folder)}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until(lambda: is_up(url))
            yield url
        finally:
            process.kill()


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


ENDS_IDLE = ("/brief", "/anything", "/batch", "/lines")


def talk(url: str, path: str, *inputs: Any, **how: Any) -> list[Any]:
    """Send inputs; return what comes back, up to the code of the close. Again where an input came too late."""
    while True:
        heard = talk_once(url, path, *inputs, **how)
        if path not in ENDS_IDLE or TIMEOUT not in heard[: len(inputs)]:
            return heard


def talk_once(
    url: str, path: str, *inputs: Any, encode: Any = msgpack.packb, decode: Any = msgpack.unpackb
) -> list[Any]:
    with connect(url.replace("http", "ws", 1) + path, open_timeout=WAIT_S) as opened:
        with suppress(ConnectionClosed):  # fal may have ended the session by then: what it has said is still there
            for given in inputs:
                opened.send(encode(given))
        heard: list[Any] = []
        try:
            while True:
                message = opened.recv(WAIT_S)
                heard.append(message if isinstance(message, str) else decode(message))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            return [*heard, closed.rcvd.code]


# Beside the real fal


@needs_fal
@pytest.mark.parametrize(
    ("path", "inputs", "outputs"),
    [
        ("/brief", [A, B], [drawn("a", PICTURE[::-1]), drawn("b", seed=3), TIMEOUT, 1000]),
        (
            "/anything",
            [{"x": PICTURE, "y": [1, 2.5, None]}],
            [{"given": {"x": PICTURE, "y": [1, 2.5, None]}}, TIMEOUT, 1000],
        ),
        ("/batch", [B], [told("b", 1), TIMEOUT, 1000]),
        ("/several", [A], [told("a", 0), told("a", 1), told("a", 2), TIMEOUT, 1000]),
        ("/collected", [A, B], [told("a b", 2), TIMEOUT, 1000]),
        ("/twice", [B], [told("b", 0), told("b", 1), TIMEOUT, 1000]),  # of more fal's order may be another
    ],
)
def test_the_frames_are_those_of_the_real_fal_but_for_the_timeout_that_is_none(
    url: str, theirs: str, path: str, inputs: list[dict[str, Any]], outputs: list[Any]
) -> None:
    ours = [output for output in outputs if output != TIMEOUT or path in ENDS_IDLE]
    assert talk(theirs, path, *inputs) == outputs
    assert talk(url, path, *inputs) == ours


@needs_fal
def test_a_methods_own_messages_are_those_of_the_real_fal(url: str, theirs: str) -> None:
    for server in (theirs, url):
        heard = talk(server, "/lines", B, encode=lambda value: json.dumps(value).encode(), decode=json.loads)
        assert heard == [told("b", 1), TIMEOUT, 1000]


@needs_fal
@pytest.mark.parametrize("bad", [{"seed": 1}, {"prompt": "raise"}])
def test_a_bad_input_ends_a_session_of_the_real_fal_and_none_of_ours(url: str, theirs: str, bad: Any) -> None:
    error, *rest = talk(theirs, "/brief", bad, B)
    assert (json.loads(error)["error"], rest) == ("INTERNAL_ERROR", [1000])
    error, *rest = talk(url, "/brief", bad, B)
    assert json.loads(error)["error"] == ("INTERNAL_ERROR" if "prompt" in bad else "INVALID_INPUT")
    assert KEY not in error
    assert rest == [drawn("b", seed=3), TIMEOUT, 1000]


# fal_client


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    with serving(app="FalSessions", STREAMAPP_API_KEY=KEY) as (url, _):
        yield url


@pytest.fixture
def key(guarded: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point fal_client at a server with a key, which it has."""
    monkeypatch.setenv("STREAMAPP_API_KEY", KEY)
    monkeypatch.delenv("FAL_KEY", raising=False)
    fal.use(guarded)
    return KEY


@pytest.mark.parametrize("use_jwt", [True, False])
def test_fal_client_talks_with_a_token_or_the_key(key: str, use_jwt: bool) -> None:
    with fal_client.SyncClient(key).realtime(ID, use_jwt=use_jwt) as connection:
        connection.send(A)
        assert connection.recv() == drawn("a", PICTURE[::-1])
        connection.send(B)
        assert connection.recv() == drawn("b", seed=3)


@pytest.mark.parametrize("use_jwt", [True, False])
async def test_fal_clients_coroutines_do_so_too(key: str, use_jwt: bool) -> None:
    client = fal_client.AsyncClient(key)
    async with client.realtime(ID, use_jwt=use_jwt, max_buffering=5) as connection:
        await connection.send(A)
        assert await connection.recv() == drawn("a", PICTURE[::-1])
    await (await client._client).aclose()


@pytest.mark.parametrize("use_jwt", [True, False])
def test_fal_client_gets_a_socket_of_the_apps_own(key: str, use_jwt: bool) -> None:
    with fal_client.SyncClient(key).ws_connect(ID, use_jwt=use_jwt, path="/ws") as opened:
        opened.send("hello")
        assert opened.recv(WAIT_S) == "hello"


def test_fal_client_is_refused_without_the_key(key: str) -> None:
    with pytest.raises(fal_client.client.FalClientHTTPError), fal_client.SyncClient("wrong").realtime(ID):
        pass
    with pytest.raises(InvalidStatus) as caught, fal_client.SyncClient("wrong").realtime(ID, use_jwt=False):
        pass
    assert caught.value.response.status_code == 401


def test_fal_client_raises_for_a_bad_input_and_gets_the_next_output(key: str) -> None:
    with fal_client.SyncClient(key).realtime(ID) as connection:
        connection.send({"seed": 1})
        with pytest.raises(RealtimeError, match=r"INVALID_INPUT: body\.prompt: Field required"):
            connection.recv()
        connection.send(B)
        assert connection.recv() == drawn("b", seed=3)


def test_fal_client_gets_all_outputs_and_then_none(key: str) -> None:
    with fal_client.SyncClient(key).realtime(ID, path="/several") as connection:
        connection.send(A)
        assert [connection.recv() for _ in range(4)] == [told("a", 0), told("a", 1), told("a", 2), None]


def test_fal_client_hears_that_no_input_came(key: str) -> None:
    with fal_client.SyncClient(key).realtime(ID, path="/brief") as connection:
        with pytest.raises(RealtimeError, match="TIMEOUT"):
            connection.recv()
        assert connection.recv() is None


SCRIPT = f"""
import fal_client

for use_jwt in USES:
    with fal_client.realtime("{ID}", use_jwt=use_jwt) as connection:
        connection.send({{"prompt": "a", "seed": 2}})
        print(connection.recv()["seed"])
    with fal_client.ws_connect("{ID}", use_jwt=use_jwt, path="/ws") as socket:
        socket.send("hello")
        print(socket.recv())
"""


def run(*command: str, **variables: str) -> str:
    env = {**environment(), "PYTHONWARNINGS": "ignore", **variables}
    ended = subprocess.run(command, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def by_exec(url: str, *command: str, **variables: str) -> str:
    return run(sys.executable, "-m", "streamapp", "exec", "--url", url, "--", *command, **variables)


def test_a_script_of_fal_client_runs_unchanged_by_exec(guarded: str) -> None:
    script = SCRIPT.replace("USES", "(True, False)")
    assert by_exec(guarded, sys.executable, "-c", script, STREAMAPP_API_KEY=KEY) == "2\nhello\n" * 2


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    origins = {"STREAMAPP_API_KEY": KEY, "STREAMAPP_CORS_ORIGINS": PAGE}
    with serving_tls(tmp_path_factory.mktemp("tls"), "FalSessions", **origins) as served:
        yield served


def test_over_tls_the_printed_variables_suffice_but_for_tokens(tls: tuple[str, dict[str, str]]) -> None:
    script = SCRIPT.replace("USES", "(False,)")
    assert run(sys.executable, "-c", script, FAL_KEY=KEY, **tls[1]) == "2\nhello\n"


def test_over_tls_a_proxy_may_lead_an_untouched_script_here_by_fals_names(tls: tuple[str, dict[str, str]]) -> None:
    url, variables = tls
    with leading() as start:
        trusting = {"SSL_CERT_FILE": variables["SSL_CERT_FILE"], "HTTPS_PROXY": start(url).url, "FAL_KEY": KEY}
        script = SCRIPT.replace("USES", "(True, False)")
        assert run(sys.executable, "-c", script, **trusting) == "2\nhello\n" * 2


# The package fal, whose clients are its own

OVER_SOCKET = f"""
import json, sys
from fal import apps

with apps.ws("{ID}") as connection:
    for prompt in "abc":
        connection.send({{"prompt": prompt}})
    print(*(json.loads(connection.recv())["prompt"] for _ in range(3)), json.loads(connection.run({{}}))["error_type"])
with apps._connect("{ID}") as connection:
    print(connection.run({{"prompt": "a", "image_bytes": b"\\xff\\x01"}})["images"][0]["content"])
"""
OVER_SOCKET_SHOWN = "a b c invalid_input\nb'\\x01\\xff'\n"


@needs_fal
def test_the_package_fal_sends_requests_over_one_socket_and_inputs_over_another(guarded: str) -> None:
    python = str(FAL.with_name("python"))
    assert by_exec(guarded, python, "-c", OVER_SOCKET, STREAMAPP_API_KEY=KEY) == OVER_SOCKET_SHOWN


@needs_fal
def test_over_tls_the_printed_variables_suffice_for_the_package_fal(tls: tuple[str, dict[str, str]]) -> None:
    python = str(FAL.with_name("python"))
    assert run(python, "-c", OVER_SOCKET, FAL_KEY=KEY, **tls[1]) == OVER_SOCKET_SHOWN


# fal-js, in Node and in a page

PAGE = "https://app.example"
TALKING = f"""
const results = [], errors = [], waiting = [];
const note = (list) => (told) => {{ list.push(told); for (const look of waiting.splice(0)) look(); }};
const until = async (isTrue) => {{ while (!isTrue()) await new Promise((resolve) => waiting.push(resolve)); }};
const talkTo = (path, options = {{}}) => fal.realtime.connect("{ID}", {{
  path, throttleInterval: 0, connectionKey: path + Math.random(),
  onResult: note(results), onError: note(errors), ...options,
}});
"""


def node(url: str, code: str, *, setting: str = "", **variables: str) -> Any:
    """Run the body of a function in Node; return what it returns."""
    module = 'import { fal } from "@fal-ai/client";\nconst url = process.env.TEST_URL;\n'
    module += f"{setting}{TALKING}const main = async () => {{ {code} }};\n"
    module += "console.log(JSON.stringify(await main()) ?? null); process.exit();"
    env = environment() | {"STREAMAPP_API_KEY": KEY, "TEST_URL": url, **variables}
    env["NODE_OPTIONS"] = "--experimental-websocket --no-warnings"
    command = [
        sys.executable,
        "-m",
        "streamapp",
        "exec",
        "--url",
        url,
        "--",
        "node",
        "--input-type=module",
        "-e",
        module,
    ]
    ended = subprocess.run(command, cwd=JS, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


DRAWING = """
const connection = talkTo("/realtime");
connection.send({ prompt: "a", image_bytes: new Uint8Array([255, 1]) });
await until(() => results.length === 1);
connection.send({ prompt: "b", seed: 3 });
await until(() => results.length === 2);
connection.close();
const others = errors.filter(({ status }) => status !== 1005); // which is what fal-js makes of its own close()
return [[...results[0].images[0].content], results[1].seed, others.length];
"""
PROXY = f'fal.config({{ proxyUrl: {{ url: `${{url}}/api/fal/proxy?_token={KEY}`, when: "always" }} }});'


@needs_fal_js
@pytest.mark.parametrize("setting", ["", PROXY], ids=["credentials", "proxyUrl"])
def test_fal_js_sends_and_gets_bytes_with_a_token_that_it_asks_for(guarded: str, setting: str) -> None:
    assert node(guarded, DRAWING, setting=setting) == [[1, 255], 3, 0]


@needs_fal_js
def test_fal_js_is_told_of_a_bad_input_and_gets_the_next_output(guarded: str) -> None:
    answer = node(
        guarded,
        """
        const connection = talkTo("/realtime");
        connection.send({ seed: 1 });
        await until(() => errors.length === 1);
        connection.send({ prompt: "b" });
        await until(() => results.length === 1);
        return [errors[0].message, errors[0].status, errors[0].body.input, results[0].prompt];
        """,
    )
    assert answer == ["INVALID_INPUT: body.prompt: Field required", 400, 1, "b"]


@needs_fal_js
def test_fal_js_connects_again_when_no_input_came_for_a_while(guarded: str) -> None:
    answer = node(
        guarded,
        """
        let closed = 0;
        globalThis.WebSocket = class extends WebSocket {
          constructor(...given) { super(...given); this.addEventListener("close", () => note([])(closed++)); }
        };
        const connection = talkTo("/brief");
        const draw = async (prompt) => { // again where it came too late
          while (results.at(-1)?.prompt !== prompt) {
            const before = closed;
            connection.send({ prompt });
            await until(() => results.at(-1)?.prompt === prompt || closed > before);
          }
        };
        await draw("a");
        await until(() => closed > 0);
        await draw("b");
        return [results.map((result) => result.prompt), errors.length];
        """,
    )
    assert answer == [["a", "b"], 0]


@needs_fal_js
def test_fal_js_asks_for_another_token_when_the_one_that_it_has_has_expired(guarded: str) -> None:
    answer = node(
        guarded,
        """
        const tokens = [process.env.EXPIRED, process.env.TOKEN];
        const connection = talkTo("/realtime", { tokenProvider: async () => tokens.shift() });
        connection.send({ prompt: "a" });
        await until(() => errors.length === 1);
        connection.send({ prompt: "b" });
        await until(() => results.length === 1);
        return [errors.map((error) => error.status), results[0].prompt, tokens.length];
        """,
        EXPIRED=Tokens(KEY).make(["fal-sessions"], lasts_s=-1),
        TOKEN=Tokens(KEY).make(["fal-sessions"], lasts_s=60),
    )
    assert answer == [[1008], "b", 0]


@needs_fal_js
def test_the_newest_inputs_of_fal_js_take_the_place_of_those_that_nobody_has_read(guarded: str) -> None:
    answer = node(
        guarded,
        """
        const headers = { Authorization: `Key ${process.env.KEY}` };
        const call = (path) => fetch(url + path, { method: "POST", headers });
        const connection = talkTo("/held", { maxBuffering: 2 });
        connection.send({ prompt: "first" });
        await call("/is_held");
        for (const prompt of ["a", "b", "c", "d"]) connection.send({ prompt });
        await call("/go_on");
        await until(() => results.length === 3);
        return results.map(({ prompt }) => prompt);
        """,
        KEY=KEY,
    )
    assert answer == ["first", "c", "d"]


@needs_fal_js
def test_fal_js_in_a_page_talks_to_fals_own_names_which_lead_here(tls: tuple[str, dict[str, str]]) -> None:
    url, _ = tls
    place = url.removeprefix("https://")
    rules = ",".join(f"MAP {host}:443 {place}" for host in ("fal.run", "rest.fal.ai"))
    arguments = ["--no-sandbox", f"--host-resolver-rules={rules}", "--ignore-certificate-errors"]
    arguments.append("--disable-features=LocalNetworkAccessChecks")  # which asks whoever sits there
    if CHROMIUM is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page()
        loading = f"<script>{script()}{TALKING}</script>"
        page.route(f"{PAGE}/**", lambda route: route.fulfill(content_type="text/html", body=loading))
        page.goto(PAGE)
        for setting in (f"proxyUrl: '{url}/api/fal/proxy?_token={KEY}'", f"proxyUrl: '', credentials: '{KEY}'"):
            code = f"async () => {{ fal.config({{ {setting} }}); results.length = 0; {DRAWING} }}"
            assert page.evaluate(code) == [[1, 255], 3, 0]
        browser.close()
