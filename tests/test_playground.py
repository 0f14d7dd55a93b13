"""The playground in a real browser, against real servers, as `tests.tabs` opens them."""

import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import PIL.Image
import pytest
from playwright.sync_api import Locator, Route, expect
from tests.cutting_proxy import cutting
from tests.processes import port_of
from tests.tabs import (
    BRING,
    CONTENTS,
    LONG,
    NOTE_LEADS,
    PHONE,
    PIXELS,
    ROOT,
    SEED,
    SLOW_SETUP,
    WATCH_STALLS,
    Opener,
    Playground,
    copied_code,
    let_through,
    missing_tool,
    result_of,
    running_jobs,
    runs_of,
    serious_problems,
    serving,
    tab_to,
    take_picture,
    timeline,
)
from tests.waiting import LONG_S, WAIT_S, until

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.image_chunks.client import test_image as draw_test_image

pytestmark = pytest.mark.timeout(LONG_S)


# Images


def test_a_generation_is_seen_step_by_step_and_then_finished(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl, viewport={"width": 1280, "height": 860}).open("/stream", num_inference_steps=50, seed=7)
    tab.field("Prompt").fill("a red circle on a blue background")
    tab.run()
    until(lambda: tab.previews() > 1)
    expect(tab.output.get_by_role("progressbar").first).to_have_attribute("aria-valuemax", "50")
    take_picture(tab, "playground-running")
    tab.ends()
    expect(tab.result).to_be_visible()
    assert tab.result.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [128, 128]
    assert tab.page.evaluate("window.before") > 1
    take_picture(tab, "playground-finished")


@pytest.mark.long
def test_the_first_app_that_new_writes_is_seen_step_by_step(playground: Opener, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "streamapp", "new", "my-app"], cwd=tmp_path, check=True, timeout=WAIT_S)
    with serving(f"{tmp_path}/my-app/app.py:MyApp") as server:
        tab = playground(server, viewport={"width": 1280, "height": 860}).open("/stream", steps=10)
        tab.run()
        until(lambda: tab.previews() > 1)
        expect(tab.output.get_by_role("progressbar").first).to_have_attribute("aria-valuemax", "10")
        take_picture(tab, "quickstart")


def test_an_image_is_seen_step_by_step_as_its_tiles_are_done(playground: Opener, tmp_path: Path) -> None:
    draw_test_image(tmp_path)
    photo = tmp_path / "photo.jpg"
    PIL.Image.open(tmp_path / "test_image_input.png").resize((1536, 1024)).save(photo)
    with serving("apps/image_chunks/app.py") as server:
        tab = playground(server, viewport={"width": 1280, "height": 860}).open("/stream", tile_size=128, radius=32)
        tab.field("Image").set_input_files(photo)
        expect(tab.page.get_by_role("code").filter(has_text="photo.jpg")).to_be_visible()
        tab.run()
        expect(tab.output.get_by_role("progressbar").first).to_have_attribute("aria-valuemax", "96")
        expect(tab.preview).to_be_visible()  # the whole so far, and not the last tile
        expect(tab.page.get_by_text("result", exact=True)).to_have_count(0)
        take_picture(tab, "image-chunks")
        tab.ends()
        expect(tab.page.get_by_role("slider", name="Previews")).to_be_visible()
    assert tab.result.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [1536, 1024]


def test_previews_can_be_looked_at_again(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl).open("/stream", prompt="a green star", num_inference_steps=30).run().ends()
    strip = tab.page.get_by_role("slider", name="Previews")
    strip.focus()
    strip.press("Home")
    expect(tab.preview).to_be_visible()
    first = tab.preview.get_attribute("data-step")
    strip.press("ArrowRight")
    expect(tab.preview).not_to_have_attribute("data-step", str(first))
    strip.press("End")
    expect(tab.result).to_be_visible()


@pytest.mark.long
def test_of_large_previews_as_many_are_kept_as_memory_is_meant_for(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/heavy", steps=20, megabytes=5).run().ends()
    slider = tab.page.get_by_role("slider", name="Previews")
    assert slider.get_attribute("max") == "9"  # 6.7 MB each, of 64
    slider.press("Home")
    expect(tab.page.get_by_text("step 11", exact=True)).to_be_visible()


def test_an_image_can_be_enlarged_and_downloaded(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl).open("/stream", prompt="a red circle", num_inference_steps=2).run().ends()
    with tab.page.expect_download() as download:
        tab.output.get_by_role("link", name="Download").first.click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    tab.output.get_by_role("button", name="Zoom").first.click()
    dialog = tab.page.get_by_role("dialog")
    expect(dialog.get_by_role("img")).to_be_visible()
    tab.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_running_again_with_the_same_seed_gives_the_same_image(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl).open("/stream", prompt="a yellow square", num_inference_steps=3).run().ends()
    first = tab.result.evaluate(PIXELS)
    tab.button("Run").click()
    expect(tab.region("History").get_by_role("listitem")).to_have_count(2)
    tab.ends()
    other = tab.result.evaluate(PIXELS)
    assert other != first  # without a seed the app draws one
    tab.button("Run again").click()
    expect(tab.region("History").get_by_role("listitem")).to_have_count(3)
    tab.ends()
    assert tab.result.evaluate(PIXELS) == other


def test_cancel_frees_the_worker(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl).open("/stream", prompt="a red circle", **LONG).run()
    expect(tab.preview.first).to_be_visible()
    tab.button("Cancel").click()
    tab.ends("cancelled")
    until(lambda: running_jobs(sdxl) == 0)
    tab.open("/stream", prompt="a red circle", num_inference_steps=1).run().ends()


def test_closing_the_tab_frees_the_worker(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=10_000, interval_s=0.01).run()
    tab.ends("running")
    tab.page.close()
    until(lambda: running_jobs(contents) == 0)


def test_a_page_that_is_not_seen_tells_all_the_same_how_its_run_goes(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    tab.page.add_init_script("window.requestAnimationFrame = () => 0;")  # as in a tab behind another
    tab.open("/nested").run().ends()
    expect(tab.page).to_have_title(re.compile(r"^Done( in .*)? · contents$"))
    expect(tab.runs).to_contain_text("Done")


# Cancel


def test_cancel_ends_the_run_that_is_shown_and_the_one_before_goes_on(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1).run().ends("running")
    tab.run().ends("Next in the queue")
    tab.cancel().ends("cancelled")
    expect(tab.runs).to_have_count(2)
    expect(tab.runs.last).to_contain_text("Running")
    let_through(contents, 1)
    expect(tab.runs.last).to_contain_text("Done")
    expect(tab.runs.first).to_contain_text("Cancelled")


def test_an_earlier_run_is_shown_again_and_cancelled_while_a_later_one_goes_on(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents).open("/gated", steps=2).run().ends("running")
    tab.run().ends("queued")
    tab.choose_run("running").ends("running")
    tab.cancel().ends("cancelled")
    tab.choose_run("running").ends("running")  # the later one has its turn
    let_through(contents, 2)
    tab.ends()
    assert [run.locator(".note").inner_text() for run in tab.runs.all()] == ["Done", "Cancelled"]


def test_cancel_ends_what_is_shown_though_another_endpoint_has_been_chosen(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1).run().ends("running")
    tab.page.get_by_role("combobox", name="Endpoint").select_option("/work")
    tab.cancel().ends("cancelled")
    until(lambda: running_jobs(contents) == 0)


def test_a_viewer_can_cancel_what_it_watches(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1).run().ends("running")
    tab.button("Watch link").click()
    second = playground(contents, beside=tab)
    second.page.goto(tab.copied())
    second.ends("running").cancel().ends("cancelled")
    tab.ends("cancelled")


def test_a_run_that_is_cancelled_before_the_server_has_answered_is_cancelled_when_it_has(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents).open("/gated", steps=1)
    held: list[Route] = []
    tab.page.route("**/gated", lambda route: held.append(route))
    tab.run().ends("queued").cancel().ends("Cancelling")
    held[0].continue_()
    expect(tab.ends("cancelled").runs).to_contain_text("Cancelled")
    until(lambda: running_jobs(contents) == 0)


def test_a_run_that_is_cancelled_before_the_server_can_be_reached_is_given_up(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents).open("/gated", steps=1)
    held: list[Route] = []
    tab.page.route("**/gated", lambda route: held.append(route))  # and never goes on
    tab.run().ends("queued").cancel().ends("cancelled")
    expect(tab.runs).to_have_count(0)
    assert running_jobs(contents) == 0


def test_a_job_that_has_ended_before_its_cancel_arrives_has_succeeded(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1).run().ends("running")
    held: list[Route] = []
    tab.page.route("**/cancel", lambda route: held.append(route))
    tab.cancel().ends("Cancelling")
    expect(tab.button("Cancel")).to_be_disabled()
    let_through(contents, 1)
    expect(tab.ends().output).to_contain_text('"numbers"')
    held[0].continue_()
    expect(tab.runs).to_contain_text("Done")


def test_a_cancel_during_an_outage_arrives_when_the_server_is_back(contents: str, playground: Opener) -> None:
    with cutting(port_of(contents), cut=0) as proxy:
        tab = playground(f"http://127.0.0.1:{proxy.port}").open("/gated", steps=1).run().ends("running")
        proxy.go_down()
        tab.cancel().ends("Cancelling")
        proxy.come_up()
        tab.ends("cancelled")
    until(lambda: running_jobs(contents) == 0)


def test_a_cancel_that_does_not_arrive_is_told_and_the_history_learns_how_it_ended(playground: Opener) -> None:
    def patiently(route: Route) -> None:
        """A job that lost its reader must not be ended for that before it is let through, however busy the machine."""
        route.continue_(headers={**route.request.headers, "streamapp-resume": str(LONG_S)})

    with (
        serving(CONTENTS, STREAMAPP_MAX_RESUME_WINDOW_S=str(LONG_S)) as server,
        cutting(port_of(server), cut=0) as proxy,
    ):
        tab = playground(f"http://127.0.0.1:{proxy.port}").open("/gated", steps=1)
        tab.page.route("**/gated", patiently)
        tab.run().ends("running")
        proxy.go_down()
        tab.page.clock.install()
        tab.cancel().page.clock.fast_forward(60_000)  # more than the page has patience
        tab.ends("failed")
        expect(tab.alert.first).to_contain_text("could not be told to cancel the run")
        let_through(server, 1)  # before the cancel can arrive after all
        until(lambda: running_jobs(server) == 0)
        proxy.come_up()
        expect(tab.runs).to_contain_text("Done")
        tab.choose_run("Done").ends()


@pytest.mark.long
def test_a_cancel_makes_way_for_itself_where_streams_hold_all_connections(contents: str, playground: Opener) -> None:
    """A browser opens six connections to a server, over all its tabs: https://crbug.com/275955."""
    tab = playground(contents).open("/gated", steps=1)
    second = playground(contents, beside=tab).open("/gated", steps=1)
    for runner, count in ((tab, 4), (second, 2)):
        for n in range(count):
            runner.run()
            expect(runner.runs).to_have_count(n + 1 if runner is tab else n + 5)
    second.cancel().ends("cancelled")
    let_through(contents, 5)
    expect(tab.runs.filter(has_text="Done")).to_have_count(5)


def test_a_page_starts_no_more_runs_than_it_can_read(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1)
    for n in range(4):
        tab.run()
        expect(tab.runs).to_have_count(n + 1)
    tab.run().ends("Waiting for your other runs")
    tab.cancel().ends("cancelled")
    tab.run().ends("Waiting for your other runs")
    let_through(contents, 5)
    expect(tab.ends().runs.filter(has_text="Done")).to_have_count(5)


def test_a_double_click_and_a_key_that_is_held_start_one_run(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1)
    tab.button("Run").dblclick()
    tab.ends("running").cancel().ends("cancelled")
    expect(tab.runs).to_have_count(1)
    tab.button("Run again").dblclick()
    tab.ends("running").cancel().ends("cancelled")
    tab.field("Steps").focus()
    for _ in range(5):  # each but the first is a repetition
        tab.page.keyboard.down("Enter")
    tab.ends("running").cancel().ends("cancelled")
    expect(tab.runs).to_have_count(3)
    assert running_jobs(contents) == 0


# Several viewers, cut connections


def test_two_tabs_watch_one_job(contents: str, playground: Opener) -> None:
    before = runs_of(contents)
    tab = playground(contents).open("/gated", steps=6).run()
    let_through(contents, 2)
    expect(tab.preview).to_have_attribute("data-step", "2")
    tab.button("Watch link").click()
    second = playground(contents, beside=tab)
    second.page.goto(tab.copied())
    expect(second.preview).to_have_attribute("data-step", "2")
    let_through(contents, 4)
    for watcher in (tab, second):
        watcher.ends()
        expect(watcher.panel("JSON")).to_contain_text(f'"run": {before + 1}')
    assert runs_of(contents) == before + 1


def test_a_viewer_that_leaves_does_not_end_the_job(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=3).run()
    let_through(contents, 1)
    tab.ends("running")
    tab.button("Watch link").click()
    second = playground(contents, beside=tab)
    second.page.goto(tab.copied())
    second.ends("running")
    second.page.close()
    let_through(contents, 2)
    tab.ends()


def test_a_cut_connection_is_resumed_where_it_was(contents: str, playground: Opener) -> None:
    before = runs_of(contents)
    with cutting(port_of(contents), cut=0) as proxy:
        tab = playground(f"http://127.0.0.1:{proxy.port}").open("/gated", steps=6).run()
        let_through(contents, 3)
        expect(tab.preview).to_have_attribute("data-step", "3")
        proxy.go_down()
        tab.ends("reconnecting")
        let_through(contents, 3)
        proxy.come_up()
        tab.ends()
    assert [row for row in timeline(tab) if row == "output"] == ["output"] * 7
    assert runs_of(contents) == before + 1


# The form


def test_an_input_that_is_wrong_is_told_and_not_sent(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/everything")
    sent: list[str] = []
    tab.page.on("request", lambda request: sent.append(request.method))
    tab.field("Text").fill("x")
    tab.run()
    expect(tab.page.get_by_text(re.compile("short|at least|characters", re.IGNORECASE)).first).to_be_visible()
    assert "POST" not in sent
    tab.field("Text").fill("long enough")
    tab.run().ends()


def test_every_kind_of_input_arrives(contents: str, playground: Opener, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    picture = tmp_path / "picture.png"
    PIL.Image.new("RGB", (8, 8), "red").save(picture)
    tab = playground(contents).open("/everything")
    tab.field("Text").fill("two words")
    tab.unfold().field("Long story").fill("once")
    tab.field("Count").fill("7")
    tab.field("Strength").fill("0.25")
    tab.field("Style").select_option(label="chalk")
    tab.field("Ground").select_option(label="linen")
    tab.field("Sharp").uncheck()
    tab.field("Lens").select_option(label="tele")
    tab.field("Image").set_input_files(picture)
    tab.field("File").set_input_files(tmp_path / "note.txt")
    expect(tab.field("Archive")).to_be_visible()
    for name in ("picture.png", "note.txt"):  # the page has read it
        expect(tab.page.get_by_role("code").filter(has_text=name)).to_be_visible()
    tab.run().ends()
    taken = result_of(tab)
    expected = {"text": "two words", "story": "once", "count": 7, "strength": 0.25, "style": "chalk", "ground": "linen"}
    assert taken | expected == taken
    assert (taken["is_sharp"], taken["camera"]["lens"]) == (False, "tele")
    assert taken["sizes"] == {"image": picture.stat().st_size, "file": 5}


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_file_can_be_dropped_and_pasted(contents: str, playground: Opener, way: str) -> None:
    tab = playground(contents).open("/everything", text="words")
    tab.field("File").evaluate(BRING, [way, "note.png"])
    expect(tab.page.get_by_text("note.png").first).to_be_visible()
    tab.run().ends()
    assert result_of(tab)["sizes"] == {"file": 5}


def test_a_picture_can_be_taken_with_the_camera(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/everything", text="words")
    tab.button("Camera").click()
    until(lambda: bool(tab.page.get_by_label("camera").evaluate("video => video.videoWidth > 0")))
    tab.button("Take the picture").click()
    expect(tab.page.get_by_text("camera.jpg").first).to_be_visible()
    tab.run().ends()
    assert result_of(tab)["sizes"]["image"] > 1000


def test_the_form_can_be_written_as_json(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=2, interval_s=0)
    toggle = tab.page.get_by_text("Raw JSON", exact=True).first
    toggle.click()
    raw = tab.page.get_by_role("textbox", name=re.compile("JSON")).first
    raw.fill('{"steps": 3, "interval_s": 0, "seed": 5}')
    tab.run().ends()
    assert result_of(tab) == {"seed": 5, "value": 15}
    toggle.click()
    expect(tab.field("Seed")).to_have_value("5")


def test_what_takes_any_json_has_a_field_for_it_that_says_what_is_wrong(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/any")
    raw = tab.page.get_by_role("textbox", name="Input as JSON")
    raw.fill('{"a":')
    tab.run()
    expect(tab.region("Input").get_by_role("alert")).to_contain_text("JSON")
    expect(tab.runs).to_have_count(0)
    raw.fill("[1, null]")
    raw.press("Control+Enter")
    tab.ends()
    assert result_of(tab) == {"got": [1, None]}
    tab.page.reload()
    expect(raw).to_have_value(re.compile(r"^\[\s*1,\s*null\s*\]$"))


def test_a_link_may_hold_any_json_where_the_endpoint_takes_it(contents: str, playground: Opener) -> None:
    tab = playground(contents).open()
    tab.page.goto(f"{contents}/playground#/any?input=5")
    tab.run().ends()
    assert result_of(tab) == {"got": 5}
    tab.page.goto(f"{contents}/playground#/work?input=5")
    expect(tab.alert.first).to_contain_text("not a JSON object")


def test_a_handlers_schema_is_a_form_and_its_images_and_sounds_are_shown(contents: str, playground: Opener) -> None:
    tab = playground(contents, viewport=PHONE).open("/handled")
    tab.run()
    expect(tab.region("Input")).to_contain_text("This field is required.")
    tab.field("Prompt").fill("a cat")
    tab.run().ends()
    expect(tab.result).to_have_count(6)
    expect(tab.output.locator("audio")).to_have_count(1)
    until(lambda: tab.result.evaluate_all("images => images.every((image) => image.naturalWidth === 96)"))
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


# What a handler's job brings, as the server sends it; none of it can be made by an app alone.
HANDLERS_JOB = """event: progress
id: {job}:1.2
data: {"message": "warming up", "output": "warming up"}

event: progress
id: {job}:1.3
data: {"step": 1, "total": 4, "message": "a tile", "output": {"step": 1, "total": 4, "message": "a tile", "eta": 7.5}}

event: output
id: {job}:1.4
data: {"forgotten": true}

event: restarted
id: {job}:2.1
data: {"attempt": 2}

event: progress
id: {job}:2.2
data: {"message": "[1, 2]", "output": [1, 2]}

event: error
id: {job}:2.3
data: {"error": {"code": "endpoint_failed", "message": "no base64_image", "retryable": false}, "detail": ""}

"""


def test_a_handlers_progress_its_lost_worker_and_its_error_are_told(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/any")
    tab.page.route("**/any", _stream(HANDLERS_JOB))
    tab.run().ends("failed")
    expect(tab.alert.first).to_contain_text("No base64_image")
    expect(tab.output).to_contain_text("started again: attempt 2")
    expect(tab.output).to_contain_text("progress: [2]0: 11: 2")
    expect(tab.output).not_to_contain_text("forgotten")


def _stream(events: str) -> Callable[[Route], None]:
    job = "0" * 32
    headers = {"Content-Type": "text/event-stream", "X-Streamapp-Job-Id": job}
    return lambda route: route.fulfill(headers=headers, body=events.replace("{job}", job))


def test_endpoints_are_chosen_from_a_list(contents: str, playground: Opener) -> None:
    tab = playground(contents).open()
    listed = tab.page.get_by_role("combobox", name="Endpoint")
    assert "/sketch/webrtc" not in listed.locator("option").all_text_contents()  # where /sketch is offered is none
    listed.select_option("/nested")
    tab.run().ends()
    expect(tab.output).to_contain_text("scene")


# Sessions


def connect(tab: Playground, **values: Any) -> Playground:
    """Open the session that draws, with what its form holds."""
    tab.open("/sketch", **values).button("Connect").click()
    return tab.ends("Connected")


def test_a_session_is_connected_fed_and_finished(contents: str, playground: Opener) -> None:
    tab = connect(playground(contents))
    for size in (3, 4):
        tab.field("Size").fill(str(size))
        tab.button("Send").click()
        expect(tab.panel("JSON")).to_contain_text(f'"size": {size}')
        expect(tab.result).to_be_visible()
    assert [row for row in timeline(tab) if row == "output"] == ["output"] * 2
    tab.button("Finish").click()
    expect(tab.ends().button("Connect")).to_be_enabled()


def test_each_change_of_the_form_is_sent_where_that_is_wanted(contents: str, playground: Opener) -> None:
    tab = connect(playground(contents))
    tab.page.get_by_role("checkbox", name="Send each change").check()
    for size in (5, 6):
        tab.field("Size").fill(str(size))
        expect(tab.panel("JSON")).to_contain_text(f'"size": {size}')
    tab.cancel().ends("cancelled")


def test_what_is_wrong_with_an_input_is_told_and_the_session_goes_on(contents: str, playground: Opener) -> None:
    tab = connect(playground(contents), size=12)
    tab.button("Send").click()
    expect(tab.alert).to_have_text("Input 1: twelve do not fit")
    tab.field("Size").fill("2")
    tab.button("Send").click()
    expect(tab.result).to_be_visible()
    expect(tab.alert).to_have_count(0)
    tab.ends("Connected")


def test_a_session_that_is_cut_is_resumed(contents: str, playground: Opener) -> None:
    with cutting(port_of(contents), cut=0) as proxy:
        tab = connect(playground(f"http://127.0.0.1:{proxy.port}"))
        proxy.go_down()
        tab.ends("reconnecting").button("Send").click()
        proxy.come_up()
        expect(tab.result).to_be_visible()
        tab.ends("Connected")


def test_a_session_stands_in_the_history_and_can_be_watched(contents: str, playground: Opener) -> None:
    tab = connect(playground(contents))
    watcher = playground(contents, beside=tab)
    watcher.page.goto(tab.page.url)
    watcher.ends("running")
    tab.button("Send").click()
    expect(watcher.result).to_be_visible()
    expect(watcher.button("Send")).to_have_count(0)
    tab.button("Finish").click()
    expect(tab.runs.first).to_contain_text("/sketch")
    watcher.ends()


def test_a_raw_socket_is_listed_with_how_to_open_it(contents: str, playground: Opener) -> None:
    tab = playground(contents).open()
    tab.page.get_by_role("combobox", name="Endpoint").select_option("/rooms/{name}")
    expect(tab.output).to_contain_text("a WebSocket of the app's own")
    assert [tab.button(name).count() for name in ("Run", "Connect", "Cancel")] == [0, 0, 0]
    assert f"{contents.replace('http', 'ws')}/rooms/{{name}}" in copied_code(tab, "Python")
    assert "POST" not in copied_code(tab, "curl")


# Integers beyond 2^53


def test_the_seed_that_is_shown_is_the_seed_that_runs(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=1, interval_s=0)
    tab.field("Seed").fill(str(SEED))
    tab.run().ends()
    assert result_of(tab) == {"seed": SEED, "value": SEED * 3 % 1000}
    expect(tab.output).to_contain_text(str(SEED))
    tab.button("Share").click()
    second = playground(contents, beside=tab)
    second.page.goto(tab.copied())
    expect(second.field("Seed")).to_have_value(str(SEED))
    tab.page.reload()
    expect(tab.region("History")).to_contain_text(f"seed {SEED}")
    tab.runs.first.get_by_role("button").click()
    expect(tab.field("Seed")).to_have_value(str(SEED))


def test_a_seed_that_the_server_drew_is_run_again(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/drawn").run().ends()
    first = result_of(tab)
    expect(tab.output).to_contain_text(str(first["seed"]))
    tab.button("Run again").click()
    expect(tab.region("History").get_by_role("listitem")).to_have_count(2)
    tab.ends()
    assert result_of(tab) == first


def test_integers_of_any_size_are_written_as_json(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=1)
    tab.page.get_by_text("Raw JSON", exact=True).first.click()
    tab.page.get_by_role("textbox", name="Input as JSON").fill(f'{{"steps": 1, "interval_s": 0, "seed": {SEED}}}')
    tab.page.get_by_text("Raw JSON", exact=True).first.click()
    expect(tab.field("Seed")).to_have_value(str(SEED))
    tab.run().ends()
    assert result_of(tab)["seed"] == SEED


def test_bounds_defaults_choices_and_parts_beyond_2_to_the_53_are_exact(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/exact")
    expect(tab.field("Seed")).to_have_value(str(2**63 + 1))
    tab.field("Seed").fill(str(2**64 - 1))
    tab.field("Near").fill(str(2**60 + 99))
    tab.field("Choice").select_option(label=str(2**60 + 1))
    tab.page.get_by_role("group", name="Seeds").get_by_role("spinbutton").last.fill(str(2**63 - 2))
    tab.run().ends()
    expected = {"seed": 2**64 - 1, "near": 2**60 + 99, "choice": 2**60 + 1, "seeds": [1, 2**63 - 2], "named": {}}
    assert result_of(tab) == expected


def test_a_bound_beyond_2_to_the_53_is_checked_by_the_server(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/exact")
    tab.field("Seed").fill(str(2**64))
    tab.run().ends("failed")
    expect(tab.page.get_by_text("should be less than 18446744073709551616").first).to_be_visible()


# Every kind of content


def test_several_images_stand_side_by_side(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/images", steps=3, count=4, is_held=True).run()
    until(lambda: tab.previews() >= 4)
    let_through(contents, 1)
    expect(tab.ends().result).to_have_count(4)
    places = [image.bounding_box() for image in tab.result.all()]
    assert len({(place["x"], place["y"]) for place in places if place}) == 4


def test_tokens_are_shown_as_markdown_and_nothing_in_them_is_run(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/tokens").run().ends()
    expect(tab.output.get_by_role("heading", name="A report")).to_be_visible()
    expect(tab.output.get_by_role("cell", name="square")).to_be_visible()
    expect(tab.output.locator("strong", has_text="bold words")).to_be_visible()
    expect(tab.output).to_contain_text("onerror")  # as text
    assert tab.output.locator("script, img, [href^=javascript]").count() == 0
    assert "taken" not in tab.page.title()


@pytest.mark.parametrize("is_named", [False, True])
def test_what_a_language_model_makes_is_one_text(contents: str, playground: Opener, is_named: bool) -> None:
    tab = playground(contents).open("/spoken", is_named=is_named).run().ends()
    expect(tab.region("Text").locator("p")).to_have_text("haha!")


def test_audio_and_video_can_be_played(contents: str, playground: Opener) -> None:
    for path in ("audio", "video"):
        tab = playground(contents).open(f"/{path}").run().ends()
        tab.output.locator(path).evaluate("media => media.play()")  # rejects what it cannot decode
        assert tab.output.locator(path).evaluate("media => media.duration") > 0


def test_a_sound_is_heard_while_it_is_made(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", is_held=True, chunks=2)
    tab.run()
    let_through(contents, 1)
    until(lambda: tab.loudness() > 0.1)
    expect(tab.output).to_contain_text("waiting for more")
    tab.ends("running")
    until(lambda: tab.loudness() < 0.01)
    let_through(contents, 1)
    until(lambda: tab.loudness() > 0.1)
    tab.ends()
    expect(tab.button("Play")).to_be_visible()  # it is over
    expect(tab.output).to_contain_text("0:00 / 0:00")
    expect(tab.output.get_by_role("link", name="Download")).to_have_attribute("download", "tone.wav")
    tab.button("Play").click()
    until(lambda: tab.loudness() > 0.1)


def test_a_sound_is_paused_sought_and_muted_by_keyboard(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", seconds=5)
    tab.run().ends()
    until(lambda: tab.loudness() > 0.1)
    tab.button("Pause").press("Enter")
    until(lambda: tab.loudness() == 0)
    position = tab.page.get_by_role("slider", name="Position")
    position.press("End")
    expect(position).to_have_attribute("aria-valuetext", "0:15 / 0:15")
    position.press("Home")
    expect(position).to_have_attribute("aria-valuetext", "0:00 / 0:15")
    for _ in range(24):  # each by a hundredth of the sound
        position.press("ArrowRight")
    expect(position).to_have_attribute("aria-valuetext", "0:03 / 0:15")
    tab.button("Mute").press("Enter")
    tab.button("Play").press("Enter")
    until(lambda: float(position.input_value()) > 0 and tab.loudness() == 0)
    tab.page.get_by_role("slider", name="Volume").press("ArrowLeft")
    until(lambda: tab.loudness() > 0.1)


def test_cancel_silences_a_sound_and_what_has_come_of_it_can_be_played(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", is_held=True, seconds=5)
    tab.run()
    let_through(contents, 1)
    until(lambda: tab.loudness() > 0.1)
    tab.cancel().ends("cancelled")
    until(lambda: tab.loudness() == 0)
    tab.button("Play").click()
    until(lambda: tab.loudness() > 0.1)


@pytest.mark.long
def test_a_sound_that_is_shown_no_more_is_silent(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", seconds=5)
    tab.run().ends()
    until(lambda: tab.loudness() > 0.1)
    tab.open("/nested").run().ends()
    until(lambda: tab.loudness() == 0)
    tab.choose_run("/sound")
    expect(tab.button("Play")).to_be_visible()  # it is not started by itself again
    tab.run()
    until(lambda: tab.loudness() > 0.1)


@pytest.mark.long
def test_a_sound_of_another_page_waits_to_be_asked(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", seconds=5)
    tab.run().ends()
    until(lambda: tab.loudness() > 0.1)
    tab.page.reload()
    expect(tab.output).to_contain_text("0:00 / 0:15")
    tab.button("Play").click()
    until(lambda: tab.loudness() > 0.1)


@pytest.mark.long
def test_a_sound_makes_room_for_later_ones(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", chunks=1, seconds=350)
    for _ in range(2):
        tab.run().ends()
        expect(tab.output).to_contain_text("/ 5:50")
    tab.runs.last.get_by_role("button").click()
    expect(tab.output.locator("audio")).to_be_attached()  # the file is still there
    expect(tab.output).to_contain_text("0:00 / 5:50")


@pytest.mark.long
def test_a_chunk_that_is_none_is_told_and_the_others_are_heard(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", broken=1, seconds=5).run().ends()
    expect(tab.output).to_contain_text("The chunk at 5.0 s cannot be played")
    expect(tab.output).to_contain_text("/ 0:15")
    until(lambda: tab.loudness() > 0.1)


@pytest.mark.long
def test_a_chunk_that_the_server_does_not_keep_any_more_is_told(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", chunks=1, seconds=70)
    tab.page.route("**/files/**", lambda route: route.fulfill(status=404))
    tab.run().ends()
    expect(tab.output).to_contain_text("The chunk at 0.0 s cannot be played: the server no longer has it (404)")


@pytest.mark.long
def test_a_sound_that_comes_unevenly_is_held_back_longer_each_time(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", is_held=True, chunks=4)
    tab.page.evaluate(NOTE_LEADS)
    tab.run()
    for n in range(1, 5):
        let_through(contents, 1)
        until(lambda n=n: tab.page.evaluate("leads.length") == n)  # type: ignore[misc]
        until(
            lambda: (
                tab.page.get_by_text("waiting for more").is_visible()
                or tab.status.get_attribute("data-state") == "succeeded"
            )
        )
    leads = tab.page.evaluate("leads")
    assert leads[3] > 2 * leads[1] > 2 * leads[0] > 0


@pytest.mark.long
def test_a_sound_that_is_shown_again_is_where_it_was_left(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", seconds=5)
    tab.run().ends()
    position = tab.page.get_by_role("slider", name="Position")
    tab.button("Pause").click()
    position.press("End")
    position.press("ArrowLeft")
    place = position.input_value()
    tab.open("/nested").run().ends()
    tab.choose_run("/sound")
    expect(position).to_have_value(place)
    tab.button("Play").click()
    until(lambda: float(position.input_value()) > float(place))


@pytest.mark.long
def test_a_sound_on_the_right_has_a_waveform_too(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/sound", left=False).run().ends()
    bar = re.compile(r"V0\.[1-9]")  # half as high; a dot is where it is silent
    expect(tab.output.locator(".wave path").first).to_have_attribute("d", bar)


@pytest.mark.parametrize(
    ("path", "values"),
    [("/voxels", {}), ("/mesh", {"form": "gltf"}), ("/mesh", {"form": "glb"}), ("/mesh", {"form": "obj"})],
    ids=["voxels", "gltf", "glb", "obj"],
)
def test_three_dimensional_things_are_drawn(
    contents: str, playground: Opener, path: str, values: dict[str, str]
) -> None:
    tab = playground(contents).open(path, **values)
    tab.run().ends()
    view = tab.output.get_by_role("img", name="3D view").first
    expect(view).to_be_visible()
    until(lambda: colours(view) > 20)  # an empty view has one


def colours(view: Locator) -> int:
    image = PIL.Image.open(io.BytesIO(view.screenshot())).convert("RGB")
    return len(image.getcolors(1 << 24) or [])


def test_the_three_dimensional_view_is_loaded_only_when_it_is_needed(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/nested")
    scripts: list[str] = []
    tab.page.on("request", lambda request: scripts.append(request.url) if request.url.endswith(".js") else None)
    tab.run().ends()
    assert not [url for url in scripts if "/scene-" in url]
    tab.open("/voxels").run().ends()
    expect(tab.output.get_by_role("img", name="3D view").first).to_be_visible()
    assert [url for url in scripts if "/scene-" in url]


def test_a_table_is_a_table(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/table", rows=4).run().ends()
    table = tab.output.get_by_role("table").first
    assert table.get_by_role("columnheader").all_inner_texts() == ["n", "square", "name", "even"]
    expect(table.get_by_role("cell", name="<b>row 3</b>")).to_be_visible()


def test_a_table_that_comes_once_more_is_shown_once(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/table", rows=4).run().ends()
    expect(tab.output.get_by_role("caption")).to_have_text(["result.rows"])


def test_anything_else_is_json_to_fold(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/nested").run().ends()
    expect(tab.output.get_by_text("dusk")).to_be_visible()
    tab.output.get_by_text("scene").first.click()
    expect(tab.output.get_by_text("dusk")).to_be_hidden()
    expect(tab.output).to_contain_text('<script>alert(\\"no\\")</script>')


@pytest.mark.parametrize(
    ("content_type", "pieces", "shown"),
    [
        ("text/event-stream", ['data: {"n": 1}\n', "\nevent: two\ndata: {\n", 'data: "k": "ä"}\n\n'], '"k": "ä"'),
        ("text/event-stream", ["data: It's\n\n", "data:  7\n\n", "data:  o'clock\n\n"], "It's 7 o'clock"),
        ("application/x-ndjson", ['{"n": 1}\n{"n"', f": {SEED}}}"], f'"n": {SEED}'),
        ("application/json", ['{"n": ', f"{SEED}}}"], f'"n": {SEED}'),
        ("application/problem+json", ['{"n": 5}'], '"n": 5'),
        ("text/plain", ["line\n", "line\n", "# no heading"], "line\nline\n# no heading"),
        ("text/markdown", ["# ", "A heading"], "A heading"),
        ("text/html", ["<h1>Hi</h1>", "<script>document.title = 'taken over'</script>"], "<h1>Hi</h1><script>"),
        ("application/xml", ["<a/>"], "<a/>"),
        ("", ["untyped"], "untyped"),
        ("application/octet-stream", ["bytes"], "application/octet-stream"),
    ],
    ids=["events", "words", "lines", "json", "problem", "text", "markdown", "html", "xml", "untyped", "bytes"],
)
def test_an_answer_of_the_endpoints_own_is_shown_by_its_type(
    contents: str, playground: Opener, content_type: str, pieces: list[str], shown: str
) -> None:
    tab = playground(contents).open("/own", content_type=content_type, pieces=pieces).run().ends()
    expect(tab.output).to_contain_text(f"Answered 200{content_type and f', {content_type}'}")
    assert shown in tab.output.inner_text()
    assert tab.output.locator("script").count() == 0
    assert "taken" not in tab.page.title()


def test_events_of_the_endpoints_own_are_shown_as_they_come_until_it_is_cancelled(
    contents: str, playground: Opener
) -> None:
    pieces = [f"event: number\ndata: {json.dumps({'number': n})}\n\n" for n in range(9)]
    tab = playground(contents).open("/own", pieces=pieces, is_held=True).run()
    let_through(contents, 1)
    expect(tab.ends("running").output).to_contain_text('"number": 0')
    let_through(contents, 1)
    expect(tab.output).to_contain_text('"number": 1')
    tab.button("Cancel").click()
    tab.ends("cancelled")
    until(lambda: running_jobs(contents) == 0)


def test_a_picture_and_a_film_of_the_endpoints_own_are_shown(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/picture").run().ends()
    assert tab.result.evaluate("image => image.naturalWidth") == 96
    tab.open("/clip").run().ends()
    assert tab.output.locator("video").evaluate("media => media.duration") > 0
    with tab.page.expect_download() as download:
        tab.output.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "film.webm"


def test_a_failure_of_the_endpoints_own_answer_is_told_with_its_status(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/own", content_type="text/html", status=418, pieces=["<h1>a teapot</h1>"])
    tab.run().ends("failed")
    expect(tab.alert.first).to_contain_text(re.compile("HTTP 418 .*<h1>a teapot</h1>"))
    tab.open("/own", breaks=True).run().ends("failed")
    expect(tab.alert.first).to_contain_text("broke off")
    tab.open("/own", pieces=[]).run().ends()
    expect(tab.output).to_contain_text("There is nothing to show")


def test_a_reload_brings_the_input_of_an_endpoint_that_answers_itself(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=1, interval_s=0).run().ends()
    tab.open("/own", content_type="text/csv").run().ends()
    tab.page.reload()
    expect(tab.field("Content type")).to_have_value("text/csv")


def test_a_picture_that_is_a_file_of_the_server_is_shown_with_a_key_too(playground: Opener) -> None:
    with serving(CONTENTS, STREAMAPP_API_KEY="open sesame") as url:
        tab = playground(url).open("/photo")
        tab.page.get_by_label("API key").fill("open sesame")
        tab.page.get_by_label("API key").press("Enter")
        tab.run().ends()
        expect(tab.panel("JSON")).to_contain_text(f"{url}/files/")
        until(lambda: tab.result.evaluate("image => image.naturalWidth") == 1200)


def test_a_film_is_taken(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/film")
    expect(tab.field("Clip")).to_have_attribute("accept", "video/*")
    tab.field("Clip").set_input_files(ROOT / "tests/apps/clip.webm")
    expect(tab.page.get_by_label("chosen")).to_be_visible()
    tab.run().ends()
    assert result_of(tab) == (ROOT / "tests/apps/clip.webm").stat().st_size


def test_progress_logs_timeline_and_figures_tell_how_it_goes(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=20, interval_s=0.1).run()
    bar = tab.output.get_by_role("progressbar").first
    expect(bar).to_have_attribute("aria-valuemax", "20")
    expect(tab.output).to_contain_text(re.compile(r"Step \d+ of 20"))
    tab.ends()
    expect(bar).to_have_count(0)
    expect(tab.panel("Logs")).to_contain_text("step 20 of 20")
    assert timeline(tab).count("log") == 20
    figures = tab.panel("Timeline").inner_text()
    assert re.search(r"time to first event\s+[\d.]+ m?s", figures)
    assert re.search(r"events per second\s+[\d.]+", figures)
    assert re.search(r"total\s+[\d.]+ s", figures)


def test_a_job_that_waits_says_how_many_are_before_it_and_how_long(contents: str, playground: Opener) -> None:
    tabs = [playground(contents) for _ in range(3)]
    last = tabs[-1].open("/gated", steps=1).run()
    let_through(contents, 1)
    last.ends()  # only this tab knows now how long one takes
    for tab, words in zip(tabs, ("Running", "Next in the queue$", r"2nd in the queueabout \d+ s"), strict=True):
        tab.open("/gated", steps=1).run()
        expect(tab.status).to_contain_text(re.compile(words))
    let_through(contents, 3)
    for tab in tabs:
        tab.ends()


def test_an_event_of_20_megabytes_is_taken_and_the_page_stays_usable(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/large").run().ends()
    expect(tab.panel("Timeline")).to_contain_text("20.0 MB")
    expect(tab.output).to_contain_text("after")
    assert tab.page.evaluate("document.body.textContent.length") < 100_000
    tab.open("/nested").run().ends()


# Failures


def test_a_failure_says_what_went_wrong_as_text(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/fails").run().ends("failed")
    expect(tab.alert.first).to_contain_text("No colour is called <b>blurple</b>; choose red, green or blue")
    assert timeline(tab).count("output") == 3


def test_a_server_that_is_gone_is_told_with_what_to_do(contents: str, playground: Opener) -> None:
    with cutting(port_of(contents), cut=0) as proxy:
        tab = playground(f"http://127.0.0.1:{proxy.port}").open("/nested")
        expect(tab.button("Run")).to_be_enabled()
        proxy.go_down()
        tab.run().ends("failed")
        expect(tab.alert.first).to_contain_text(re.compile("server|connect|reach", re.IGNORECASE))
        proxy.come_up()
        tab.run().ends()


@pytest.mark.parametrize(
    ("link", "words"),
    [
        (f"/jobs/{'0' * 32}", "The server does not have this run any more"),
        ("/jobs/42", 'No run has the id "42"'),
        (f"/jobs/{'0' * 32}/", "No run has the id"),
        ("/jobs/<img src=x onerror=alert(1)>", "No run has the id"),
        ("job=<img src=x onerror=alert(1)>", "This page does not know what"),
        ("/nowhere", "This server has no endpoint /nowhere."),
        ("/nowhere?input={}", "This server has no endpoint /nowhere."),
        ("/work?input={", "its input has to be JSON"),
        ("/work?input=[1]", "is not a JSON object"),
        ("/work?input=null", "is not a JSON object"),
        ("/%E0%A4%A", "The link cannot be read"),
    ],
)
def test_a_link_to_what_is_not_there_says_so(contents: str, playground: Opener, link: str, words: str) -> None:
    tab = playground(contents)
    tab.page.goto(f"{contents}/playground#{link}")
    expect(tab.alert.first).to_contain_text(words)
    expect(tab.status).to_have_text("Not found")
    assert tab.page.locator("img[src=x]").count() == 0
    tab.page.goto(f"{contents}/playground#/nested")
    expect(tab.alert).to_have_count(0)
    tab.run().ends()


def test_a_wrong_link_takes_the_place_of_what_was_shown(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/gated", steps=1).run().ends("running")
    tab.page.goto(f"{contents}/playground#/jobs/42")
    tab.ends("Not found")
    expect(tab.button("Cancel")).to_have_count(0)
    let_through(contents, 1)
    tab.choose_run("Done").ends()


def test_a_link_to_a_job_leads_to_its_endpoint(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    headers = {"Prefer": "respond-async"}
    job_id = httpx.post(f"{contents}/nested", json={}, headers=headers, timeout=WAIT_S).json()["job_id"]
    tab.page.goto(f"{contents}/playground#/jobs/{job_id}")
    expect(tab.ends().page.get_by_role("combobox", name="Endpoint")).to_have_value("/nested")


def test_a_link_to_a_job_is_followed_once_the_key_is_there(playground: Opener) -> None:
    with serving(CONTENTS, STREAMAPP_API_KEY="open sesame") as url:
        headers = {"Prefer": "respond-async", "Authorization": "Key open sesame"}
        job_id = httpx.post(f"{url}/nested", json={}, headers=headers, timeout=WAIT_S).json()["job_id"]
        tab = playground(url)
        tab.page.goto(f"{url}/playground#/jobs/{job_id}")
        expect(tab.page.get_by_role("heading", name="This server asks for an API key")).to_be_visible()
        tab.page.get_by_label("API key").fill("open sesame")
        tab.page.get_by_label("API key").press("Enter")
        expect(tab.ends().output).to_contain_text("dusk")
        tab.button("API key").click()
        tab.page.get_by_label("API key").fill("another\u20ac")  # which no header can hold
        tab.page.get_by_label("API key").press("Enter")
        expect(tab.alert.first).to_contain_text("does not take this API key")
        tab.run().ends("failed")  # not with the key before
        expect(tab.output).to_contain_text("Enter the server's API key again")


# Setup


@contextmanager
def setting_up(folder: Path) -> Iterator[tuple[str, Path]]:
    """Serve an app whose setup waits for what is written into a pipe; a second server on the port has it loaded."""
    gate = folder / "gate"
    os.mkfifo(gate)
    with serving(SLOW_SETUP, awaits_setup=False, SETUP_GATE=str(gate)) as url:
        yield url, gate


def test_while_setup_runs_the_page_says_so_and_takes_jobs(playground: Opener, tmp_path: Path) -> None:
    with setting_up(tmp_path) as (url, gate):
        tab = playground(url).open()
        expect(tab.status).to_have_text("Loading the model")
        expect(tab.page.get_by_text("slow-setup is loading. What you run now starts when it is ready.")).to_be_visible()
        take_picture(tab, "playground-loading")
        tab.run().ends("Loading the model")
        gate.write_text("load")
        tab.ends()
        expect(tab.page.get_by_text("slow-setup is loading")).to_be_hidden()
        tab.open("/nowhere").open()
        expect(tab.status).to_have_text("Ready")


def test_a_setup_that_fails_is_told_until_it_has_been_mended(playground: Opener, tmp_path: Path) -> None:
    with setting_up(tmp_path) as (url, gate):
        tab = playground(url).open()
        expect(tab.status).to_have_text("Loading the model")
        gate.write_text("no weights")
        expect(tab.status).to_have_text("No server")  # without --reload it has ended
    with serving(CONTENTS, port=int(url.rpartition(":")[2])):
        expect(tab.status).to_have_text("Ready")
        expect(tab.page.get_by_role("combobox", name="Endpoint")).to_contain_text("/gated")  # what it serves now
        tab.run().ends()


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("slow-setup: setup_failed", "Setup failed"),
        ("draining", "Shutting down"),
        ("slow-setup: stuck", "Out of service"),
        ("?", "No server"),
    ],
)
def test_a_server_that_takes_no_jobs_says_why(contents: str, playground: Opener, reason: str, words: str) -> None:
    tab = playground(contents)
    body = {"ready": False, "reason": reason}
    tab.page.route("**/_streamapp/ready", lambda route: route.fulfill(status=503, json=body))
    tab.open("/nested")
    expect(tab.status).to_have_text(words)
    tab.page.unroute("**/_streamapp/ready")
    expect(tab.status).to_have_text("Ready")


def test_a_server_that_takes_connections_and_does_not_answer_is_gone(contents: str, playground: Opener) -> None:
    """As `--reload` is while the app cannot be imported."""
    tab = playground(contents)
    tab.page.route("**/_streamapp/ready", lambda route: None)
    tab.open("/nested")
    expect(tab.status).to_have_text("No server")


# Tracebacks

TRACEBACK = """Traceback (most recent call last):
  File "app.py", line 7, in draw
KeyError: '<img src=x onerror=alert(1)>'"""
FAILURE = {"code": "endpoint_failed", "message": "KeyError", "retryable": False, "traceback": TRACEBACK}


@pytest.mark.parametrize("kind", ["answer", "event"])
def test_the_traceback_of_a_server_that_debugs_can_be_unfolded(contents: str, playground: Opener, kind: str) -> None:
    tab = playground(contents)
    body = json.dumps({"error": FAILURE, "detail": "KeyError", "error_type": "endpoint_failed"})
    event = f'event: output\ndata: {{"n": 1}}\n\nevent: error\ndata: {body}\n\n'
    answers = {
        "answer": {"status": 500, "content_type": "application/json", "body": body},
        "event": {"status": 200, "content_type": "text/event-stream", "body": event},
    }
    tab.page.route("**/fails", lambda route: route.fulfill(**answers[kind]))
    tab.open("/fails").run().ends("failed")
    expect(tab.alert.first).to_contain_text("The traceback says where")
    expect(tab.page.get_by_text("line 7, in draw")).to_be_hidden()
    tab.page.get_by_text("Traceback", exact=True).click()
    expect(tab.page.get_by_text("line 7, in draw")).to_be_visible()
    assert tab.page.locator("img[src=x]").count() == 0
    take_picture(tab, "playground-traceback")


def test_where_setup_raised_can_be_unfolded_until_it_is_mended(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    body = {"ready": False, "reason": "contents: setup_failed", "traceback": TRACEBACK}
    tab.open("/fails").run().ends("failed")  # by something else
    tab.page.route("**/_streamapp/ready", lambda route: route.fulfill(status=503, json=body))
    tab.page.get_by_text("Traceback", exact=True).click()
    expect(tab.page.get_by_text("line 7, in draw")).to_be_visible()
    take_picture(tab, "playground-setup-failed")
    tab.page.unroute("**/_streamapp/ready")
    expect(tab.page.get_by_text("line 7, in draw")).to_have_count(0)


def test_a_server_that_cannot_say_what_it_serves_is_told_whatever_it_says(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    bodies = iter([json.dumps({"error": FAILURE}), "<h1>Bad Gateway</h1>"])
    tab.page.route("**/openapi.json", lambda route: route.fulfill(status=502, body=next(bodies)))
    tab.open()
    expect(tab.alert).to_contain_text("KeyError")
    expect(tab.alert.get_by_text("Traceback", exact=True)).to_be_visible()
    tab.button("Try again").click()
    expect(tab.alert).to_contain_text("HTTP 502")
    tab.page.unroute("**/openapi.json")
    tab.button("Try again").click()
    tab.open("/nested").run().ends()


def test_what_an_app_says_is_never_run_and_what_cannot_be_drawn_harms_nothing_else(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents).open("/harmful").run().ends()
    expect(tab.panel("Logs")).to_contain_text("<script>")
    for folded in tab.output.locator("details").all():
        folded.evaluate("details => details.open = true")
    expect(tab.output).to_contain_text("http://[")
    assert tab.page.locator("[onerror], script:not([src]), [href^=javascript], [src^=javascript]").count() == 0
    assert "taken" not in tab.page.title()
    expect(tab.region("History").get_by_role("listitem")).to_have_count(1)


README = """
# Words

Say `them`, [one](https://example.org/words) by **one**:

```bash
curl -d '{"text": "one by one"}'
```

<script>document.title = "taken over"</script><img src="https://example.org/x.png" onerror="alert(1)">

[run](javascript:alert(1)) ![seen](https://example.org/y.png)
"""


def describe_apps(tab: Playground, **apps: tuple[str, str]) -> None:
    """Have the server say other titles and descriptions of its apps; the first one's title is the page's."""

    def described(route: Route) -> None:
        document = route.fetch().json()
        document["info"]["title"] = next(iter(apps.values()))[0]
        document["tags"] = [{"name": n, "summary": title, "description": text} for n, (title, text) in apps.items()]
        route.fulfill(json=document)

    tab.page.route("**/openapi.json", described)


def test_what_an_app_says_of_itself_stands_above_its_form_and_nothing_in_it_is_run(
    contents: str, playground: Opener
) -> None:
    tab = playground(contents)
    describe_apps(tab, contents=("Words, one by one", README))
    about = tab.open("/nested").region("About")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Words, one by one")
    expect(about.get_by_role("heading", level=3, name="Words")).to_be_visible()
    expect(about.get_by_role("link", name="one")).to_have_attribute("href", "https://example.org/words")
    expect(about.locator("pre code")).to_contain_text("curl -d")
    expect(about).to_contain_text("onerror")  # as text
    assert about.locator("h2, script, img, [href^=javascript]").count() == 0
    assert "taken" not in tab.page.title()
    assert serious_problems(tab) == {}


def test_an_app_that_is_not_the_first_is_told_of_by_its_own_title(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    describe_apps(tab, first=("The first", "Say nothing."), contents=("The second", "Say *all*."))
    about = tab.open("/nested").region("About")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("The second")
    expect(about.locator("em")).to_have_text("all")


@pytest.mark.parametrize("width", [1280, 390])
def test_what_an_app_says_at_length_is_folded_and_run_stays_on_the_first_screen(
    contents: str, playground: Opener, width: int
) -> None:
    tab = playground(contents, viewport={"width": width, "height": 800})
    describe_apps(tab, contents=("Words, one by one", README + "Once *more*.\n\n" * 40))
    about = tab.open("/everything").region("About")
    expect(tab.button("Run")).to_be_in_viewport(ratio=1)
    expect(tab.field("Text") if width > 390 else tab.output).to_be_in_viewport()  # what comes out is first on a phone
    folded = height_of(about)
    about.get_by_role("button", name="Show all").click()
    assert height_of(about) > 5 * folded
    about.get_by_role("button", name="Show less").click()
    assert height_of(about) == folded


def height_of(shown: Locator) -> float:
    box = shown.bounding_box()
    assert box is not None
    return box["height"]


def test_what_an_app_says_in_a_sentence_is_not_folded(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    describe_apps(tab, contents=("Words, one by one", "Say *all*."))
    about = tab.open("/nested").region("About")
    expect(about).to_have_text("Say all.")
    expect(about.get_by_role("button")).to_have_count(0)


def test_what_an_endpoint_says_of_itself_is_markdown(contents: str, playground: Opener) -> None:
    tab = playground(contents)

    def described(route: Route) -> None:
        document = route.fetch().json()
        document["paths"]["/nested"]["post"]["description"] = "Tell `of` each."
        route.fulfill(json=document)

    tab.page.route("**/openapi.json", described)
    expect(tab.open("/nested").region("Input").locator("code")).to_have_text("of")


def test_of_an_app_that_says_nothing_of_itself_nothing_is_shown(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    describe_apps(tab, contents=("contents", ""))
    tab.open("/nested").run().ends()
    expect(tab.region("About")).to_have_count(0)


def test_a_flood_of_events_is_followed_and_the_page_stays_usable(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/flood")
    tab.page.evaluate(WATCH_STALLS)
    tab.run().ends()
    expect(tab.panel("Timeline")).to_contain_text("10000")
    stalled_ms, total_ms = tab.page.evaluate("[window.longest, performance.now() - window.began]")
    assert stalled_ms < total_ms / 2  # it was drawn while they came, not after


def test_a_server_that_was_started_anew_is_told_and_can_be_used(playground: Opener) -> None:
    with serving(CONTENTS) as url:
        tab = playground(url).open("/work", steps=1000).run().ends("running")
    tab.ends("reconnecting")
    with serving(CONTENTS, port=int(url.rpartition(":")[2])):
        tab.ends("failed")
        expect(tab.alert.first).to_contain_text("The server does not have this run any more")
        tab.open("/nested").run().ends()


def test_a_reload_goes_on_with_the_job(contents: str, playground: Opener) -> None:
    before = runs_of(contents)
    tab = playground(contents).open("/gated", steps=3).run().ends("running")
    let_through(contents, 1)
    expect(tab.preview).to_be_visible()
    tab.page.reload()
    expect(tab.preview).to_have_attribute("data-step", "1")
    let_through(contents, 2)
    tab.ends()
    assert runs_of(contents) == before + 1


# Keys, links, history


def test_a_key_is_kept_for_the_tab_and_nowhere_else(playground: Opener) -> None:
    with serving(CONTENTS, STREAMAPP_API_KEY="open sesame") as url:
        tab = playground(url).open("/work", steps=1)
        tab.page.get_by_label("API key").fill("wrong")
        tab.page.get_by_label("API key").press("Enter")
        expect(tab.alert.first).to_contain_text(re.compile("key", re.IGNORECASE))
        tab.page.get_by_label("API key").fill("open sesame")
        tab.page.get_by_label("API key").press("Enter")
        tab.run().ends()
        tab.page.reload()
        tab.run().ends()
        assert "open sesame" not in tab.page.evaluate(
            "JSON.stringify([{...localStorage}, document.cookie, location.href])"
        )
        second = playground(url, beside=tab).open("/work")
        expect(second.page.get_by_label("API key")).to_have_value("")


def test_a_shared_link_brings_the_inputs_along(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/everything")
    tab.field("Text").fill("a & b # c ? ä")
    tab.unfold().field("Count").fill("9")
    tab.button("Share").click()
    second = playground(contents, beside=tab)
    second.page.goto(tab.copied())
    expect(second.field("Text")).to_have_value("a & b # c ? ä")
    expect(second.field("Count")).to_have_value("9")


def test_history_survives_a_reload_and_brings_inputs_back(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", steps=3, interval_s=0).run().ends()
    tab.open("/nested").run().ends()
    tab.page.reload()
    runs = tab.region("History").get_by_role("listitem")
    expect(runs).to_have_count(2)
    runs.filter(has_text="/work").get_by_role("button").first.click()
    expect(tab.field("Steps")).to_have_value("3")


def test_after_a_reload_the_history_learns_how_the_other_runs_go_on(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/audio").run().ends()
    headers = {"Prefer": "respond-async"}
    job_id = httpx.post(f"{contents}/gated", json={"steps": 1}, headers=headers, timeout=WAIT_S).json()["job_id"]
    past = {"jobId": job_id, "path": "/gated", "input": {"steps": 1}, "status": "queued", "at": 0}
    gone = {**past, "jobId": "0" * 32}
    write = "([key, more]) => localStorage[key] = JSON.stringify([...JSON.parse(localStorage[key]), ...more])"
    tab.page.evaluate(write, [f"streamapp:history:{contents}", [past, gone]])
    tab.page.reload()
    for status in ("Done", "Running", "Unknown"):
        expect(tab.runs.filter(has_text=status)).to_have_count(1)
    let_through(contents, 1)
    expect(tab.runs.filter(has_text="Done")).to_have_count(2)


def test_a_run_of_another_tab_stands_in_the_history(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/nested")
    expect(tab.button("Run")).to_be_enabled()
    playground(contents, beside=tab).open("/work", steps=1, interval_s=0).run().ends()
    expect(tab.runs.filter(has_text="Done")).to_have_count(1)


PAST = {"jobId": "0" * 32, "path": "/work", "input": {"steps": 2}, "status": "succeeded", "at": 1e12}
RUBBISH = [
    *("", "{", "null", "7", '"text"', "{}", "[null, 7, [], {}]", "[[[[[]]]]]", "\x00" * 1000, "[" * 100_000),
    *(json.dumps([{**PAST, name: None}]) for name in (*PAST, "picture", "seed", "ms") if name != "input"),
    *(json.dumps([{**PAST, name: value}]) for name in PAST if name != "input" for value in ([1], "../x", True)),
    json.dumps([{name: value for name, value in PAST.items() if name != "input"}]),
    json.dumps([{**PAST, "picture": "https://elsewhere.test/x.png"}, {**PAST, "status": {"a": 1}}]),
]


@pytest.mark.parametrize("place", ["localStorage", "sessionStorage"])
def test_whatever_stands_in_the_browsers_storage_the_page_works_and_mends_it(
    contents: str, playground: Opener, place: str
) -> None:
    keys = [f"streamapp:history:{contents}"] if place == "localStorage" else ["streamapp:key"]
    tab = playground(contents).open("/nested")
    for rubbish in [text for text in RUBBISH if place == "localStorage"] + ["\u20ac\n", "purple"]:
        tab.page.evaluate(f"([keys, text]) => keys.forEach(key => {place}[key] = text)", [keys, rubbish])
        tab.page.evaluate("localStorage['streamapp:theme'] = 'purple'")
        tab.page.reload()
        expect(tab.button("Run")).to_be_enabled()
        expect(tab.runs).to_have_count(0)
    tab.run().ends()
    expect(tab.runs).to_have_count(1)
    tab.page.reload()
    expect(tab.runs).to_have_count(1)
    tab.button("Theme").click()
    assert tab.page.evaluate("localStorage['streamapp:theme']") in ("dark", "light")


def test_runs_that_are_right_are_kept_beside_those_that_are_not(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/nested")
    mixed = [
        *(PAST, {**PAST, "jobId": "1" * 32, "path": "/gone", "seed": 5, "ms": 7}, {**PAST, "at": "noon"}, "text"),
        {**PAST, "jobId": "2" * 32, "path": "/images", "input": [1]},  # any JSON, which `/images` does not take
    ]
    key = f"streamapp:history:{contents}"
    tab.page.evaluate("([key, text]) => localStorage[key] = text", [key, json.dumps(mixed)])
    tab.page.reload()
    expect(tab.runs).to_have_count(3)
    tab.choose_run("/work").ends("Not found")
    expect(tab.field("Steps")).to_have_value("2")
    tab.choose_run("/gone").ends("Not found")
    tab.choose_run("/images").ends("Not found")
    expect(tab.field("Steps")).to_have_value("2")
    tab.open("/audio").run().ends()
    assert len(json.loads(tab.page.evaluate("key => localStorage[key]", key))) == 4


NO_STORAGE = {
    "refused": """for (const place of ["localStorage", "sessionStorage"]) Object.defineProperty(window, place, {
        get() { throw new DOMException("The operation is insecure.", "SecurityError"); } });""",
    "missing": """for (const place of ["localStorage", "sessionStorage"])
        Object.defineProperty(window, place, { value: null });""",
    "full": "Storage.prototype.setItem = () => { throw new DOMException('no room', 'QuotaExceededError'); };",
}


@pytest.mark.parametrize("trouble", NO_STORAGE)
def test_without_storage_the_page_works_and_remembers_the_runs_of_the_visit(
    contents: str, playground: Opener, trouble: str
) -> None:
    tab = playground(contents)
    tab.page.add_init_script(NO_STORAGE[trouble])
    tab.open("/nested").run().ends()
    tab.page.evaluate("location.hash = '#/audio'")
    tab.run().ends()
    expect(tab.runs.filter(has_text="Done")).to_have_count(2)
    tab.choose_run("/nested")
    expect(tab.output).to_contain_text("dusk")
    tab.button("Theme").click()
    tab.button("Clear").click()
    expect(tab.runs).to_have_count(0)


# Code

CALLS: dict[str, dict[str, Any]] = {
    "/work": {"steps": 2, "seed": SEED, "interval_s": 0},
    "/everything": {"text": 'it\'s "so"', "count": 7},
    "/own": {"pieces": ['data: {"n": 12}\n', '\ndata: {"n": "it\'s"}\n\n']},
}
ANSWERED = {
    "/work": ["seed", str(SEED), str(SEED * 3 % 1000)],
    "/everything": ['it\'s "so"', "7"],
    "/own": ["12", "it's"],
    "/sketch": ["image", "data:image/"],  # fal's client takes the first message, which is a preview
}
SESSION = ("/sketch", {"size": 4})


def call(command: list[str], path: str, folder: Path | None = None, **environment: str) -> None:
    """Run copied code, and see it print what the endpoint answers."""
    variables = {**os.environ, **environment}
    run = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert run.returncode == 0, run.stderr
    said = run.stdout.replace("\\", "")  # each language quotes in its own way
    assert [part for part in ANSWERED[path] if part not in said] == []


COMMANDS = {"curl": ["bash", "-c"], "Python": [sys.executable, "-c"], "fal_client": [sys.executable, "-c"]}


@pytest.mark.parametrize("language", COMMANDS)
@pytest.mark.parametrize("path", CALLS, ids=["stream", "unary", "response"])
def test_copied_code_makes_the_same_call(contents: str, playground: Opener, language: str, path: str) -> None:
    code = copied_code(playground(contents).open(path, **CALLS[path]), language)
    call([*COMMANDS[language], code], path)


@pytest.mark.parametrize("language", ["Python", "fal_client"])
def test_copied_code_of_a_session_sends_the_same_input(contents: str, playground: Opener, language: str) -> None:
    path, values = SESSION
    call([*COMMANDS[language], copied_code(playground(contents).open(path, **values), language)], path)


@pytest.mark.long
def test_copied_code_takes_the_key_from_the_environment(playground: Opener) -> None:
    with serving(CONTENTS, STREAMAPP_API_KEY="open sesame") as url:
        tab = playground(url).open("/work")
        tab.page.get_by_label("API key").fill("open sesame")
        tab.page.get_by_label("API key").press("Enter")
        calls = [*itertools.product(CALLS.items(), COMMANDS), (SESSION, "Python"), (SESSION, "fal_client")]
        for (path, values), language in calls:
            code = copied_code(tab.open(path, **values), language)
            assert "sesame" not in code
            call([*COMMANDS[language], code], path, STREAMAPP_API_KEY="open sesame")


def test_copied_code_for_event_source_makes_the_same_call(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/work", **CALLS["/work"])
    code = copied_code(tab, "EventSource")
    logged: list[str] = []
    tab.page.on("console", lambda message: logged.append(message.text))
    with tab.page.expect_console_message(lambda message: "seed" in message.text):
        tab.page.evaluate(f"() => {{ {code} }}")
    assert any(str(SEED) in line and str(SEED * 3 % 1000) in line for line in logged)


@pytest.mark.parametrize(("path", "values"), [*CALLS.items(), SESSION], ids=["stream", "unary", "response", "session"])
def test_copied_javascript_makes_the_same_call(
    contents: str, playground: Opener, path: str, values: dict[str, Any], tmp_path: Path
) -> None:
    sdk = ROOT / "client_sdk" / "js"
    if not (sdk / "node_modules" / ".installed").exists():
        missing_tool("the npm packages are missing; run `make test`")
    built = tmp_path / "node_modules" / "streamapp-client"
    bundle = ["npx", "esbuild", "src/index.ts", "--bundle", "--format=esm", f"--outdir={built / 'dist'}"]
    subprocess.run(bundle, cwd=sdk, capture_output=True, timeout=WAIT_S, check=True)
    shutil.copy(sdk / "package.json", built)
    (tmp_path / "call.mjs").write_text(copied_code(playground(contents).open(path, **values), "JavaScript"))
    call(["node", "--experimental-websocket", "call.mjs"], path, tmp_path)


# For everybody, everywhere


def test_the_keyboard_is_enough(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl).open("/stream", **LONG)
    expect(tab.button("Run")).to_be_visible()
    tab_to(tab, tab.field("Prompt"))
    tab.page.keyboard.press("Control+A")
    tab.page.keyboard.type("a blue circle")
    tab_to(tab, tab.button("Run"))
    tab.page.keyboard.press("Enter")
    expect(tab.preview.first).to_be_visible()
    tab_to(tab, tab.button("Cancel"))
    tab.page.keyboard.press("Enter")
    tab.ends("cancelled")
    tab_to(tab, tab.page.get_by_role("tablist", name="Details").get_by_role("tab", selected=True))
    tab.page.keyboard.press("End")
    tab_to(tab, tab.page.get_by_role("tab", name="curl"))
    tab.page.keyboard.press("ArrowRight")
    expect(tab.page.get_by_role("tab", name="Python")).to_be_focused()
    expect(tab.page.get_by_role("tabpanel", name="Python")).to_contain_text("streamapp_client")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("path", "values"),
    [
        *(("/everything", {"text": "words"}), ("/images", {"steps": 1}), ("/tokens", {}), ("/voxels", {})),
        *(("/any", {}), ("/fails", {}), ("/sound", {})),
    ],
    ids=["form", "images", "text", "3D", "JSON", "failure", "sound"],
)
def test_axe_finds_no_serious_problem(
    contents: str, playground: Opener, scheme: str, path: str, values: dict[str, Any]
) -> None:
    tab = playground(contents, color_scheme=scheme).open(path, **values)
    tab.run().ends("failed" if path == "/fails" else "succeeded")
    assert serious_problems(tab) == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_problem_in_a_session(contents: str, playground: Opener, scheme: str) -> None:
    tab = connect(playground(contents, color_scheme=scheme), size=12)
    tab.button("Send").click()
    expect(tab.alert).to_be_visible()
    assert serious_problems(tab) == {}


def test_the_theme_follows_the_system_until_it_is_chosen(contents: str, playground: Opener) -> None:
    tab = playground(contents, color_scheme="dark").open("/nested")
    expect(tab.button("Run")).to_be_visible()
    dark = background(tab)
    assert sum(dark) < 200
    tab.button("Theme").click()
    until(lambda: sum(background(tab)) > 600)
    tab.page.reload()
    expect(tab.button("Run")).to_be_visible()
    assert sum(background(tab)) > 600


def background(tab: Playground) -> tuple[int, ...]:
    """Return the colour of the page's left lower corner."""
    image = PIL.Image.open(io.BytesIO(tab.page.screenshot())).convert("RGB")
    pixel = image.getpixel((2, image.height - 3))
    assert isinstance(pixel, tuple)
    return pixel


def test_it_fits_on_a_phone(sdxl: str, playground: Opener) -> None:
    tab = playground(sdxl, viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
    tab.open("/stream", prompt="a red circle on a blue background", seed=7, num_inference_steps=20)
    tab.button("Run").tap()
    tab.ends()
    expect(tab.result).to_be_in_viewport()  # without scrolling for it
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    take_picture(tab, "playground-phone")


def test_it_works_from_another_machine_without_tls(contents: str, playground: Opener) -> None:
    """There browsers take away the clipboard, `crypto.randomUUID` and more."""
    tab = playground(contents.replace("127.0.0.1", "box.test")).open("/images", steps=2, count=2)
    assert tab.page.evaluate("isSecureContext") is False
    tab.run().ends()
    expect(tab.result).to_have_count(2)
    tab.button("Share").click()
    expect(tab.page.get_by_text("copied", exact=False).first).to_be_visible()


def test_it_works_behind_a_prefix(contents: str, playground: Opener) -> None:
    tab = playground(f"{contents}/prefix")
    asked: list[str] = []
    tab.page.on("request", lambda request: asked.append(request.url.removeprefix(contents)))
    tab.page.route("**/prefix/**", _as_a_proxy_does)
    tab.open("/work", steps=2, interval_s=0).run().ends()
    expect(tab.panel("Logs")).to_contain_text("step 2 of 2")
    assert {path.split("/")[1] for path in asked if not path.startswith(("data:", "blob:"))} == {"prefix"}


def _as_a_proxy_does(route: Route) -> None:
    """Take the prefix off, and tell the server of it."""
    headers = {**route.request.headers, "x-forwarded-prefix": "/prefix"}
    route.continue_(url=route.request.url.replace("/prefix/", "/", 1), headers=headers)
