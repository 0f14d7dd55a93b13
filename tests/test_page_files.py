"""Files as inputs on the page: dropped, pasted, chosen, several, sent in a form, and masks painted on images."""

import re
import wave
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from playwright.sync_api import Locator, Route, expect
from tests.tabs import BRING, PHONE, Opener, Playground, result_of, serious_problems, tab_to
from tests.waiting import LONG_S, until

pytestmark = pytest.mark.timeout(LONG_S)

FULL = {"error": {"code": "storage_full", "message": "the quota is used up; try again later"}}
# Paste a picture somewhere on the page, as the browser does where nothing can be written: into the body.
PASTE = """async type => {
  const held = new DataTransfer();
  const canvas = Object.assign(document.createElement("canvas"), { width: 3, height: 2 });
  const picture = await new Promise((resolve) => canvas.toBlob(resolve));
  held.items.add(new File([picture], "pasted.png", { type }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: held, bubbles: true, cancelable: true }));
}"""


def draw(path: Path, *, size: tuple[int, int] = (30, 20), color: str = "red") -> Path:
    PIL.Image.new("RGB", size, color).save(path)
    return path


def place(tab: Playground, title: str) -> Locator:
    """Find all of a file field."""
    return tab.page.locator(".field").filter(has=tab.field(title)).last


def button(within: Locator, name: str) -> Locator:
    return within.get_by_role("button", name=name, exact=True)


def test_a_file_is_chosen_replaced_and_removed(contents: str, playground: Opener, tmp_path: Path) -> None:
    tab = playground(contents).open("/everything", text="words")
    image, zone = tab.field("Image"), place(tab, "Image")
    with tab.page.expect_file_chooser() as chooser:
        zone.get_by_text("Drop an image, paste it, or choose a file").click()
    chooser.value.set_files(draw(tmp_path / "one.png"))
    expect(zone).to_contain_text("one.png30 × 20")
    expect(zone.get_by_role("img", name="chosen")).to_be_visible()
    with tab.page.expect_file_chooser() as chooser:
        button(zone, "Replace").click()
    chooser.value.set_files(draw(tmp_path / "two.png", size=(40, 40)))
    expect(zone).to_contain_text("two.png40 × 40")
    tab.run().ends()
    assert result_of(tab)["sizes"] == {"image": (tmp_path / "two.png").stat().st_size}
    button(zone, "Remove").click()
    expect(image).to_be_focused()
    tab.run().ends()
    until(lambda: result_of(tab)["sizes"] == {})


def test_a_sound_that_is_chosen_is_heard_by_the_player_of_results(
    contents: str, playground: Opener, tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(range(256)) * 250)  # four seconds
    tab = playground(contents).open("/everything", text="words")
    tab.field("Audio").set_input_files(tmp_path / "tone.wav")
    zone = place(tab, "Audio")
    expect(zone).to_contain_text("0:00 / 0:04")
    button(zone, "Play").click()
    expect(button(zone, "Pause")).to_be_visible()
    tab.run().ends()
    assert result_of(tab)["sizes"] == {"audio": (tmp_path / "tone.wav").stat().st_size}


def test_the_wrong_kind_of_file_is_refused_before_it_is_sent(contents: str, playground: Opener, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    tab = playground(contents).open("/everything", text="words")
    sent: list[str] = []
    tab.page.on("request", lambda request: sent.append(request.method))
    tab.field("Image").set_input_files(tmp_path / "note.txt")
    expect(place(tab, "Image")).to_contain_text("note.txt is not an image. Choose a PNG, JPEG, WebP or GIF.")
    tab.field("File").set_input_files(tmp_path / "note.txt")
    expect(place(tab, "File")).to_contain_text("note.txt5 B")
    assert sent.count("POST") == 1  # the one that fits


def test_an_upload_can_be_cancelled_and_one_that_failed_tried_again(
    contents: str, playground: Opener, tmp_path: Path
) -> None:
    held: list[Route] = []
    tab = playground(contents).open("/everything", text="words")
    zone = place(tab, "Image")
    tab.page.route("**/files/upload", lambda route: held.append(route))
    tab.field("Image").set_input_files(draw(tmp_path / "one.png"))
    expect(zone.get_by_role("progressbar", name="Uploading one.png")).to_be_attached()
    button(zone, "Cancel").click()
    expect(zone.get_by_text("Drop an image")).to_be_visible()
    tab.page.unroute("**/files/upload")
    tab.page.route("**/files/upload", lambda route: route.fulfill(status=507, json=FULL))
    tab.field("Image").set_input_files(tmp_path / "one.png")
    expect(tab.alert).to_contain_text("one.png was not uploaded: the quota is used up; try again later.")
    tab.page.unroute("**/files/upload")
    button(zone, "Try again").click()
    expect(zone).to_contain_text("30 × 20")


def test_a_run_waits_for_what_is_being_uploaded(contents: str, playground: Opener, tmp_path: Path) -> None:
    held: list[Route] = []
    tab = playground(contents).open("/everything", text="words")
    tab.page.route("**/files/upload", lambda route: held.append(route))
    tab.field("Image").set_input_files(draw(tmp_path / "one.png"))
    tab.run()
    expect(tab.page.get_by_text("It runs as soon as that is uploaded.")).to_be_visible()
    held[0].continue_()
    tab.ends()
    assert result_of(tab)["sizes"] == {"image": (tmp_path / "one.png").stat().st_size}


def test_a_picture_pasted_anywhere_goes_to_the_only_empty_image_field(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/masked")
    expect(place(tab, "Image")).to_be_visible()
    tab.page.evaluate(PASTE, "text/plain")
    tab.page.evaluate(PASTE, "image/png")
    expect(place(tab, "Image")).to_contain_text("pasted.png3 × 2")
    tab.page.evaluate(PASTE, "image/png")  # now none waits for one: a mask is painted
    tab.field("Mask").evaluate(BRING, ["drop", "mask.png"])
    expect(place(tab, "Mask")).to_contain_text("mask.png")
    expect(place(tab, "Image")).to_contain_text("3 × 2")


def test_a_url_is_taken_and_nothing_of_another_site_is_asked_for(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/everything", text="words")
    zone = place(tab, "Image")
    button(zone, "URL").click()
    url = zone.get_by_label("URL of the image")
    expect(url).to_be_focused()
    url.fill("x.png")
    url.press("Enter")
    expect(tab.alert).to_contain_text("it begins with https://")
    url.fill("https://elsewhere.test/some/x.png")
    url.press("Enter")
    expect(zone).to_contain_text("It is on another site")  # and none was asked: see the fixture
    expect(zone).to_contain_text("x.pngelsewhere.test")


def test_several_files_are_taken_put_in_order_and_removed(contents: str, playground: Opener, tmp_path: Path) -> None:
    tab = playground(contents).open("/album")
    expect(tab.field("Cover image URL")).to_have_attribute("accept", "image/*")
    zone = place(tab, "Pictures")
    tiles = zone.get_by_role("listitem").filter(has=tab.page.get_by_role("img", name="chosen"))
    tab.run()
    expect(tab.alert.first).to_be_visible()  # at least one is needed
    tab.field("Pictures").set_input_files(
        [draw(tmp_path / f"{name}.png", size=(n, 9)) for n, name in enumerate("abcd", 1)]
    )
    expect(zone).to_contain_text("At most 3 images go in here: 1 was left out.")
    expect(tiles).to_have_text(["a.png", "b.png", "c.png"])
    tab_to(tab, tiles.first.get_by_label("Move a.png later"))
    tab.page.keyboard.press("Enter")
    expect(tiles).to_have_text(["b.png", "a.png", "c.png"])
    expect(tab.page.get_by_label("Move a.png later")).to_be_focused()
    expect(tab.page.get_by_text("a.png is now 2 of 3.")).to_be_attached()
    tiles.last.drag_to(tiles.first)
    expect(tiles).to_have_text(["c.png", "b.png", "a.png"])
    tiles.nth(1).get_by_label("Remove b.png").click()
    expect(tiles).to_have_text(["c.png", "a.png"])
    tab.run().ends()
    assert result_of(tab) == {"widths": [3, 1], "notes": 0}


def test_an_upload_is_sent_in_a_form(contents: str, playground: Opener, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text("hello")
    tab = playground(contents).open("/sent", note="{say so}")
    tab.field("File").set_input_files(tmp_path / "a.txt")
    tab.field("More").set_input_files([tmp_path / "a.txt", tmp_path / "b.txt"])
    expect(button(place(tab, "File"), "URL")).to_have_count(0)
    tab.run().ends()
    assert result_of(tab) == ["a.txt", "text/plain; charset=utf-8", 5, "{say so}", ["a.txt", "b.txt"]]
    tab.open("/sent", file=f"{contents}/files/{'0' * 32}/gone.txt").run().ends("failed")
    expect(place(tab, "File")).to_contain_text("The server no longer has this file. Choose it again.")


def test_a_mask_is_painted_on_its_image(contents: str, playground: Opener, tmp_path: Path) -> None:
    tab = playground(contents).open("/masked")
    zone = place(tab, "Mask")
    button(zone, "Paint").click()
    expect(zone).to_contain_text("Choose the image first")
    tab.field("Image").set_input_files(draw(tmp_path / "photo.png", size=(300, 200)))
    expect(place(tab, "Image")).to_contain_text("300 × 200")
    button(zone, "Paint").click()
    dialog = tab.page.get_by_role("dialog", name="Paint the mask")
    expect(button(dialog, "Done")).to_be_disabled()
    paint(tab, dialog, (0.4, 0.5), (0.6, 0.5))
    button(dialog, "Clear").click()
    expect(button(dialog, "Done")).to_be_disabled()
    button(dialog, "Undo").click()
    button(dialog, "Eraser").click()
    paint(tab, dialog, (0.6, 0.5), (0.6, 0.5))
    button(dialog, "Done").click()
    expect(zone).to_contain_text("mask.png")
    expect(zone.get_by_role("img", name="chosen")).to_be_visible()
    tab.run().ends()
    mask = result_of(tab)
    assert (mask["size"], mask["corner"]) == ([300, 200], 0)
    assert 0.01 < mask["white"] < 0.04  # a brush of 24 pixels goes 60 far, without the end that was erased


def test_a_mask_is_painted_by_keys_inverted_and_gone_on_with(contents: str, playground: Opener, tmp_path: Path) -> None:
    tab = playground(contents).open("/masked")
    zone, keys = place(tab, "Mask"), tab.page.keyboard
    tab.field("Image").set_input_files(draw(tmp_path / "photo.png", size=(300, 200)))
    expect(place(tab, "Image")).to_contain_text("300 × 200")
    tab_to(tab, button(zone, "Paint"))
    keys.press("Enter")
    dialog = tab.page.get_by_role("dialog", name="Paint the mask")
    expect(dialog.get_by_label("Mask", exact=True)).to_be_focused()
    for key in ("Shift+ArrowRight", " ", "Control+z", " "):
        keys.press(key)
    tab_to(tab, button(dialog, "Done"))
    keys.press("Enter")
    expect(zone).to_contain_text("mask.png")
    button(zone, "Paint").click()
    button(dialog, "Invert").click()
    assert serious_problems(tab) == {}
    button(dialog, "Done").click()
    expect(dialog).to_have_count(0)
    tab.run().ends()
    assert 0.98 < result_of(tab)["white"] < 0.995  # all but a dot


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_problem_with_files(
    contents: str, playground: Opener, tmp_path: Path, scheme: Any
) -> None:
    tab = playground(contents, color_scheme=scheme, viewport=PHONE).open("/album")
    tab.field("Notes").set_input_files(draw(tmp_path / "a.png"))
    expect(tab.page.get_by_label("Move a.png later")).to_be_visible()
    assert serious_problems(tab) == {}
    tab.open("/masked")
    tab.field("Image").set_input_files(draw(tmp_path / "b.png"))
    expect(place(tab, "Image")).to_contain_text(re.compile("b.png.*30 × 20"))
    assert serious_problems(tab) == {}


def paint(tab: Playground, dialog: Locator, begin: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a line from one place of the image to another, each a share of its width and height."""
    box = dialog.get_by_label("Mask", exact=True).bounding_box()
    assert box is not None
    (ax, ay), (bx, by) = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (begin, end)]
    tab.page.mouse.move(ax, ay)
    tab.page.mouse.down()
    tab.page.mouse.move(bx, by, steps=4)
    tab.page.mouse.up()
