"""What the page shows of pictures, sounds, films, tables and files, and what one does with them there."""

import csv
import io
import wave
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect
from tests.apps.contents import tone
from tests.tabs import PHONE, Opener, Playground, let_through, serious_problems
from tests.waiting import LONG_S, until

pytestmark = pytest.mark.timeout(LONG_S)

# The types of what is in the clipboard.
COPIED = "navigator.clipboard.read().then(items => items.flatMap(({ types }) => types))"


def sound(tab: Playground, name: str) -> Locator:
    return tab.output.get_by_role("region", name=f"Sound {name}", exact=True)


def button(place: Locator, name: str) -> Locator:
    return place.get_by_role("button", name=name, exact=True)


def boxes(images: Locator) -> list[tuple[int, ...]]:
    """Return where images are, and how large, in whole pixels."""
    found = [image.bounding_box() for image in images.all()]
    return [tuple(round(box[side]) for side in ("x", "y", "width", "height")) for box in found if box]


# Sounds


def test_a_file_has_the_player_that_chunks_have(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/audio", seconds=4).run().ends()
    player, audio = sound(tab, "tone.wav"), tab.output.locator("audio")
    expect(player.locator(".wave path").first).to_be_attached()
    button(player, "Play").press("Enter")
    until(lambda: audio.evaluate("media => media.currentTime > 0"))
    button(player, "Pause").press("Enter")
    position = player.get_by_role("slider", name="Position")
    position.press("End")
    expect(position).to_have_attribute("aria-valuetext", "0:04 / 0:04")
    position.press("Home")
    for _ in range(50):  # each by a hundredth of the sound
        position.press("ArrowRight")
    expect(position).to_have_attribute("aria-valuetext", "0:02 / 0:04")
    button(player, "Mute").press("Enter")
    until(lambda: audio.evaluate("media => media.muted"))
    player.get_by_role("slider", name="Volume").press("ArrowLeft")
    until(lambda: audio.evaluate("media => !media.muted && media.volume < 1"))
    player.get_by_role("combobox", name="Speed").select_option("1.5×")
    assert audio.evaluate("media => media.playbackRate") == 1.5


@pytest.mark.long
def test_a_long_file_is_not_decoded_and_can_be_sought_in(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/audio", seconds=310).run().ends()
    position = tab.page.get_by_role("slider", name="Position")
    expect(position).to_be_enabled()
    position.press("End")
    expect(position).to_have_attribute("aria-valuetext", "5:10 / 5:10")
    expect(tab.output.locator(".wave")).to_have_count(0)


def test_one_sound_is_heard_at_a_time(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/duet", seconds=20).run().ends()
    voice, music = sound(tab, "voice"), sound(tab, "music.wav")
    until(lambda: tab.loudness() > 0.1)
    button(music, "Play").click()
    expect(button(voice, "Play")).to_be_visible()
    until(lambda: tab.loudness() == 0)
    button(voice, "Play").click()
    expect(button(music, "Play")).to_be_visible()
    until(lambda: tab.loudness() > 0.1)
    assert tab.output.locator("audio").evaluate("media => media.paused")


def test_chunks_are_saved_as_one_file(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/duet", seconds=0.5).run().ends()
    with tab.page.expect_download() as download:
        button(sound(tab, "voice"), "Download").click()
    assert download.value.suggested_filename == "voice.wav"
    with wave.open(str(download.value.path())) as saved, wave.open(io.BytesIO(tone(0.5))) as chunk:
        assert saved.getparams()[:3] == chunk.getparams()[:3]
        assert saved.readframes(9000) == 2 * chunk.readframes(9000)


# Images


def test_images_stand_in_an_even_grid(contents: str, playground: Opener) -> None:
    tab = playground(contents)
    for rows in ([1], [2], [3], [2, 2], [3, 2], [3, 3], [3, 3, 3]):
        tab.open("/images", steps=1, count=sum(rows)).run().ends()
        expect(tab.result).to_have_count(sum(rows))
        places = boxes(tab.result)
        assert len({place[2:] for place in places}) == 1
        assert [sum(place[1] == top for place in places) for top in sorted({place[1] for place in places})] == rows


def test_on_a_phone_two_images_stand_beside_each_other(contents: str, playground: Opener) -> None:
    tab = playground(contents, viewport=PHONE, is_mobile=True, has_touch=True).open("/images", steps=1, count=6)
    tab.run().ends()
    expect(tab.result).to_have_count(6)
    assert len({x for x, *_ in boxes(tab.result)}) == 2
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_a_result_stands_where_its_preview_has_stood(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/wide").run()
    until(lambda: tab.preview.evaluate("image => image.naturalWidth") == 32)
    before = boxes(tab.preview)
    let_through(contents, 1)
    tab.ends()
    until(lambda: tab.result.evaluate("image => image.naturalWidth") == 480)
    assert boxes(tab.result) == before
    [(_, _, width, height)] = before
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def test_images_fill_the_window_one_after_another(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/images", steps=1, count=3).run().ends()
    expect(tab.result).to_have_count(3)
    zoom = button(tab.output, "Zoom").nth(1)
    zoom.press("Enter")
    dialog = tab.page.get_by_role("dialog")
    image = dialog.get_by_role("img")
    expect(dialog).to_contain_text("2 of 3 · 96 × 96")
    shown = []
    for place in ("3 of 3", "1 of 3", "2 of 3"):
        tab.page.keyboard.press("ArrowRight")
        expect(dialog).to_contain_text(place)
        shown.append(image.get_attribute("src"))
    assert len(set(shown)) == 3
    [(_, _, fitted, _)] = boxes(image)
    assert fitted > 500
    button(dialog, "100 %").click()
    assert boxes(image)[0][2:] == (96, 96)
    assert serious_problems(tab) == {}
    tab.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(zoom).to_be_focused()


def test_an_image_is_copied_and_tiny_ones_keep_their_pixels(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/shelf").run().ends()
    until(lambda: tab.result.evaluate("image => getComputedStyle(image).imageRendering") == "pixelated")
    button(tab.output, "Copy image").click()
    until(lambda: tab.page.evaluate(COPIED) == ["image/png"])


def test_a_picture_that_is_none_is_told(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/harmful", text="words").run().ends()
    expect(tab.output).to_contain_text("This picture cannot be shown.")
    expect(tab.result).to_be_hidden()


# Films, files and tables


def test_a_short_film_begins_silently_by_itself_and_again(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/video").run().ends()
    film = tab.output.locator("video")
    until(lambda: film.evaluate("film => film.currentTime > 0 && film.muted && film.loop"))
    expect(tab.output).to_contain_text("WEBM film · 1.5 kB")


def test_a_table_is_sorted_and_saved(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/shelf").run().ends()
    table = tab.output.get_by_role("table", name="marks")
    first = table.locator("td:first-child")
    head = table.get_by_role("columnheader", name="mark")
    assert first.all_inner_texts() == ["9", "10", "2", ""]
    for order, values in (("ascending", ["2", "9", "10", ""]), ("descending", ["10", "9", "2", ""])):
        button(head, "mark").press("Enter")
        expect(head).to_have_attribute("aria-sort", order)
        assert first.all_inner_texts() == values
    with tab.page.expect_download() as download:
        button(tab.output, "Download CSV").click()
    rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text())))
    assert rows[0] == ["mark", "of", "why"]
    assert rows[1] == ["10", "Ann", ""]
    assert rows[4] == ["", 'B, "C"', "so " * 200]
    button(tab.output, "Copy CSV").click()
    until(lambda: tab.copied().startswith("mark,of,why"))


def test_of_a_long_table_more_is_shown_when_it_is_asked_for(contents: str, playground: Opener) -> None:
    tab = playground(contents).open("/table", rows=250).run().ends()
    rows = tab.output.get_by_role("table").first.locator("tbody tr")
    expect(rows).to_have_count(200)
    button(tab.output, "Show 50 more").first.click()
    expect(rows).to_have_count(250)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_files_are_told_in_words(contents: str, playground: Opener, scheme: str) -> None:
    tab = playground(contents, color_scheme=scheme).open("/shelf").run().ends()
    expect(tab.output).to_contain_text("PDF document · 8 B")
    expect(tab.output).to_contain_text("Model weights · 20.0 kB")
    with tab.page.expect_download() as download:
        tab.output.locator(".file", has_text="paper.pdf").get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "paper.pdf"
    assert serious_problems(tab) == {}
