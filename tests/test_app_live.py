"""The app that draws along: what it answers to fal's clients and to ours, and its page in a real browser."""

import io
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import fal_client
import PIL.Image
import PIL.ImageDraw
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from diffusers import StableDiffusionXLImg2ImgPipeline
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.chromium import CHROMIUM
from tests.live_page import CORNER, MIDDLE, PROMPT, ROOT, colour, draw, opened, serving
from tests.small_models import one_thread  # noqa: F401 - a fixture
from tests.waiting import LONG_S, WAIT_S, until

import streamapp
from streamapp.testing import TestClient
from streamapp_client import Client, InvalidInput
from streamapp_client.compat import fal

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.live.app import EMBEDDED_MODEL, Drawing, Live, fitted

KEY = "a-key-of-the-test"
pytestmark = [
    pytest.mark.timeout(LONG_S),
    # diffusers' schedulers hand torch tensors to numpy 2 in a way that numpy warns about.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:diffusers"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # fal_client leaves sockets open
]
expect.set_options(timeout=1000 * WAIT_S)


def blob(width: int = 256, height: int = 256) -> streamapp.Image:
    """Draw what somebody might draw who means a red circle."""
    image = PIL.Image.new("RGB", (width, height), "white")
    PIL.ImageDraw.Draw(image).polygon([(80, 90), (150, 70), (190, 130), (160, 190), (90, 170)], fill="red")
    return streamapp.Image.from_pil(image)


DRAWN = {"prompt": PROMPT, "image_url": blob().data_uri(), "seed": 7}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Live) as client:
        yield client


def picture_in(answer: dict[str, Any]) -> PIL.Image.Image:
    return streamapp.Image.from_data_uri(answer["images"][0]["url"]).to_pil()


def assert_is_a_red_circle_on_blue(picture: PIL.Image.Image) -> None:
    red, _, blue = picture.resize((16, 16)).crop((1, 1, 2, 2)).tobytes()
    assert blue > 2 * red, "the background"
    red, _, blue = picture.resize((16, 16)).crop((8, 8, 9, 9)).tobytes()
    assert red > 2 * blue, "the circle"


# What it answers


def test_what_was_drawn_becomes_what_the_prompt_says(client: TestClient) -> None:
    answer = client.run("/", {**DRAWN, "request_id": "a"})
    assert_is_a_red_circle_on_blue(picture_in(answer))
    assert answer["images"][0]["content_type"] == "image/jpeg"
    assert (answer["seed"], answer["num_inference_steps"], answer["request_id"]) == (7, 3, "a")
    assert answer["timings"]["inference"] > 0


def test_the_example_that_the_server_shows_is_answered(client: TestClient) -> None:
    (example,) = Drawing.model_json_schema()["examples"]
    assert picture_in(client.run("/", example)).size == (128, 128)


def test_without_strength_it_stays_what_was_drawn(client: TestClient) -> None:
    picture = picture_in(client.run("/", {**DRAWN, "strength": 0.1}))
    assert min(picture.resize((16, 16)).getpixel((1, 1))) > 150  # type: ignore[arg-type]


def test_a_drawn_seed_is_reported_and_draws_the_same_picture_again(client: TestClient) -> None:
    first = client.run("/", {**DRAWN, "seed": None})
    assert client.run("/", {**DRAWN, "seed": first["seed"]})["images"] == first["images"]
    assert client.run("/", {**DRAWN, "seed": None})["seed"] != first["seed"]


@pytest.mark.parametrize(("strength", "steps"), [(1, 1), (0.4, 3), (1 / 3, 3), (0.19999999999999998, 6), (0.02, 50)])
def test_one_step_is_run_however_small_the_strength_is(client: TestClient, strength: float, steps: int) -> None:
    answer = client.run("/", {**DRAWN, "strength": strength, "num_inference_steps": 1})
    assert answer["num_inference_steps"] == steps


@pytest.mark.parametrize(
    ("drawn", "size"),
    [
        ((512, 512), (128, 128)),
        ((1, 1), (128, 128)),
        ((400, 200), (128, 64)),
        ((300, 200), (128, 88)),
        ((9, 900), (64, 128)),
    ],
)
def test_a_drawing_is_scaled_to_what_the_model_draws(drawn: tuple[int, int], size: tuple[int, int]) -> None:
    assert fitted(PIL.Image.new("RGB", drawn), 128).size == size


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": None},
        {"prompt": "a" * 2001},
        {"image_url": "no image"},
        {"strength": 0.01},
        {"strength": 1.1},
        {"num_inference_steps": 0},
        {"num_inference_steps": 51},
        {"guidance_scale": -1},
        {"seed": -1},
        {"seed": 2**32},
        {"request_id": "a" * 101},
    ],
)
def test_an_input_out_of_bounds_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        client.run("/", {**DRAWN, **wrong})
    assert refusal.value.detail[0]["loc"][-1] == next(iter(wrong))


@pytest.mark.parametrize("images", [{"image_url": None}, {"image_bytes": DRAWN["image_url"]}])
def test_there_is_one_drawing(client: TestClient, images: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="expected a drawing as image_url"):
        client.run("/", {**DRAWN, **images})


def test_a_model_that_draws_without_guidance_is_set_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SDXL-Turbo is such a one, and holds half-precision files under a name of their own."""
    pipe = StableDiffusionXLImg2ImgPipeline.from_pretrained(EMBEDDED_MODEL).to(torch.float16)
    pipe.save_pretrained(tmp_path, variant="fp16")
    for name, value in {"MODEL": str(tmp_path), "STEPS": "2", "GUIDANCE": "0"}.items():
        monkeypatch.setenv(f"STREAMAPP_LIVE_{name}", value)
    with TestClient(Live) as turbo:
        answer = turbo.run("/", DRAWN)
        assert answer == {**turbo.run("/", {**DRAWN, "guidance_scale": 0}), "timings": answer["timings"]}
    assert answer["num_inference_steps"] == 2


def test_a_prompt_that_is_too_long_for_the_model_is_not_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diffusers"), "propagate", True)
    client.run("/", {**DRAWN, "prompt": "secret " * 100})
    assert "secret" not in caplog.text


# A session


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving() as (url, _):
        yield url


def test_each_drawing_of_a_session_is_answered_by_its_name(server: str) -> None:
    with Client(server).connect("/realtime") as session:
        for name in ("a", "b"):
            session.send({**DRAWN, "request_id": name})
            answer = session.recv()
            assert answer["request_id"] == name
    assert_is_a_red_circle_on_blue(picture_in(answer))


def test_of_drawings_that_wait_the_newest_is_answered(server: str) -> None:
    with Client(server).connect("/realtime") as session:
        for n in range(20):
            session.send({**DRAWN, "request_id": str(n)})
        session.finish()
        answered = [int(event.data["request_id"]) for event in session if event.name == "output"]
    assert answered == sorted(answered)
    assert answered[-1] == 19
    assert len(answered) < 20


def test_two_who_draw_at_once_are_both_answered(server: str) -> None:
    with Client(server).connect("/realtime") as one, Client(server).connect("/realtime") as other:
        for _ in range(3):
            one.send(DRAWN)
            other.send(DRAWN)
            assert picture_in(one.recv()) == picture_in(other.recv())


def test_fals_client_sends_bytes_and_gets_bytes(server: str) -> None:
    fal.use(server)
    with fal_client.realtime("me/live") as connection:
        connection.send(
            {**DRAWN, "image_url": None, "image_bytes": blob().data, "model_name": "any", "sync_mode": True}
        )
        answer = connection.recv()
    assert answer is not None
    image = answer["images"][0]
    assert (image["content_type"], image["width"], image["height"]) == ("image/jpeg", 128, 128)
    assert_is_a_red_circle_on_blue(streamapp.Image(image["content"]).to_pil())


def test_fals_client_that_sends_a_url_gets_a_url(server: str) -> None:
    fal.use(server)
    with fal_client.realtime("me/live") as connection:
        connection.send(DRAWN)
        answer = connection.recv()
    assert answer is not None
    assert_is_a_red_circle_on_blue(picture_in(answer))


def test_the_readmes_session_runs(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "apps/live/README.md").read_text(), re.MULTILINE | re.DOTALL)
    blob().save(tmp_path / "drawing.png")
    monkeypatch.chdir(tmp_path)
    exec(code.replace("http://127.0.0.1:8000", server), {})
    assert capsys.readouterr().out.startswith("data:image/jpeg;base64,")


# Its page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)("no chromium: install it (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_a_stroke_becomes_a_picture_while_it_is_drawn(server: str, browser: Browser) -> None:
    page = opened(browser, server, width=880)
    expect(page.locator("#status")).to_have_text("connected")
    page.get_by_label("What it shall become").fill(PROMPT)
    draw(page)
    until(lambda: (colour(page, "#picture", MIDDLE), colour(page, "#picture", CORNER)) == ("red", "blue"))
    expect(page.locator("#latency")).to_have_text(re.compile(r"^\d+$"))
    expect(page.locator("#rate")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(page.get_by_role("img", name=PROMPT)).to_be_visible()
    if "SCREENSHOTS" in os.environ:
        keep_screenshot(page)
    page.context.close()


def keep_screenshot(page: Page) -> None:
    picture = PIL.Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    palette = picture.quantize(256, PIL.Image.Quantize.MAXCOVERAGE)
    picture.quantize(palette=palette).save(ROOT / "apps/live/screenshot.png", optimize=True)


def test_fill_clear_and_undo(server: str, browser: Browser) -> None:
    page = opened(browser, server)
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_disabled()
    page.get_by_role("radio", name="blue").check()
    page.get_by_role("button", name="Fill").click()
    page.get_by_role("radio", name="red").check()
    draw(page)
    assert (colour(page, "#board", MIDDLE), colour(page, "#board", CORNER)) == ("red", "blue")
    undo.click()
    assert (colour(page, "#board", MIDDLE), colour(page, "#board", CORNER)) == ("blue", "blue")
    page.get_by_role("button", name="Clear").click()
    assert colour(page, "#board", MIDDLE) == "white"
    page.keyboard.press("Control+z")
    assert colour(page, "#board", MIDDLE) == "blue"
    undo.click()
    expect(undo).to_be_disabled()
    assert colour(page, "#board", MIDDLE) == "white"
    page.context.close()


def test_it_is_drawn_by_keys_too(server: str, browser: Browser) -> None:
    page = opened(browser, server)
    page.get_by_label("Your drawing").focus()
    page.keyboard.press("ArrowLeft")
    assert colour(page, "#board", MIDDLE) == "white"
    for key in ("Space", *["ArrowRight"] * 3, "Space", *["ArrowRight"] * 9):
        page.keyboard.press(key)
    assert [colour(page, "#board", (x, 8)) for x in (8, 15)] == ["red", "white"]
    page.context.close()


def test_what_is_wrong_with_a_setting_is_told_and_drawing_goes_on(server: str, browser: Browser) -> None:
    page = opened(browser, server)
    page.get_by_label("Steps").fill("99")
    expect(page.locator("#status")).to_contain_text("num_inference_steps")
    page.get_by_label("Steps").fill("2")
    expect(page.locator("#status")).to_have_text("connected")
    page.context.close()


@pytest.mark.long
def test_the_key_is_asked_for_once_and_a_server_that_is_started_anew_is_found_again(browser: Browser) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = str(listening.getsockname()[1])
    with serving("--port", port, STREAMAPP_API_KEY=KEY) as (url, _):
        page = opened(browser, url)
        for why, key in (("asks for its key", "wrong"), ("does not take this key", KEY)):
            page.get_by_label(why).fill(key)
            page.get_by_role("button", name="Go on").click()
        expect(page.locator("#status")).to_have_text("connected")
        page.reload()
        expect(page.locator("#status")).to_have_text("connected")
        draw(page)
    expect(page.locator("#status")).not_to_have_text("connected")
    with serving("--port", port, STREAMAPP_API_KEY=KEY):
        until(lambda: colour(page, "#picture", MIDDLE) == "red")
        expect(page.locator("#status")).to_have_text("connected")
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_problem(server: str, browser: Browser, scheme: Literal["light", "dark"]) -> None:
    page = opened(browser, server, color_scheme=scheme)
    expect(page.locator("#status")).to_have_text("connected")
    assert {problem["id"]: problem["nodes"][0]["html"] for problem in Axe().run(page).response["violations"]} == {}
    page.context.close()


def test_it_fits_on_the_smallest_phone_and_on_one_that_lies(server: str, browser: Browser) -> None:
    page = opened(browser, server, width=320, height=568)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    page.set_viewport_size({"width": 844, "height": 390})
    page.locator("#board").scroll_into_view_if_needed()
    expect(page.locator("#board")).to_be_in_viewport(ratio=0.99)
    page.context.close()


def test_on_a_phone_a_finger_draws_and_both_pictures_are_seen(server: str, browser: Browser) -> None:
    page = opened(browser, server, width=390, height=844, is_mobile=True, has_touch=True)
    page.get_by_label("Your drawing").tap()
    until(lambda: colour(page, "#board", MIDDLE) == "red")
    for what in ("#board", "#picture", "#colours"):
        expect(page.locator(what)).to_be_in_viewport(ratio=0.99)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.context.close()
