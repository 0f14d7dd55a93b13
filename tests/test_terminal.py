"""What a job shows in the terminal, and what it saves."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from streamapp.cli.terminal import Display, print_error, print_result
from streamapp.jobs.events import Preview, to_event
from streamapp.media import File

PICTURE = Image.new("RGB", (8, 8), "red")


@pytest.fixture
def display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Display:
    monkeypatch.chdir(tmp_path)
    return Display(Path("out"), saves_previews=True)


def encoded(value: Any) -> Any:
    return to_event(value).json()


def saved() -> list[str]:
    return sorted(path.name for path in Path("out").glob("*"))


def test_media_of_the_result_are_saved_and_named_by_their_keys(display: Display) -> None:
    result = encoded({"image": PICTURE, "images": [PICTURE, PICTURE], "seed": 7})
    assert display.finish(result) == {
        "image": "out/image.png",
        "images": ["out/images-0.png", "out/images-1.png"],
        "seed": 7,
    }
    assert Path("out/images-1.png").read_bytes() == File.from_data_uri(result["images"][1]["url"]).data


@pytest.mark.parametrize(
    ("result", "path"), [(PICTURE, "out/result.png"), ([PICTURE], ["out/result-0.png"]), ("text", "text")]
)
def test_a_result_without_keys_is_named_result(display: Display, result: Any, path: Any) -> None:
    assert display.finish(encoded(result)) == path


@pytest.mark.parametrize(("content_type", "name"), [("audio/wav", "sound.wav"), ("audio/mpeg", "sound.mp3")])
def test_files_get_the_suffix_of_their_type(display: Display, content_type: str, name: str) -> None:
    media = {"url": f"data:{content_type};base64,AAAA", "content_type": content_type}
    assert display.finish({"sound": media}) == {"sound": f"out/{name}"}
    assert Path("out", name).read_bytes() == bytes(3)


def test_media_that_cannot_be_read_are_shown_as_they_came(display: Display) -> None:
    result = {"image": {"url": "data:image/png;base64,!", "content_type": "image/png"}}
    assert display.finish(result) == result


def test_a_key_cannot_lead_to_another_folder(display: Display) -> None:
    display.finish({"../../up": encoded(PICTURE)})
    assert saved() == ["______up.png"]


def test_media_elsewhere_keep_their_urls(display: Display) -> None:
    result = {"image": {"url": "http://box/files/1.png", "content_type": "image/png"}}
    assert display.finish(result) == result


def test_media_of_outputs_that_are_shown_elsewhere_are_saved_by_their_number(display: Display) -> None:
    file = encoded(File(b"a", "text/plain"))
    assert [display.finish_output(file) for _ in range(2)] == ["out/output-001.txt", "out/output-002.txt"]


def test_previews_are_saved_by_step_else_by_number(display: Display) -> None:
    display.show("preview", encoded(Preview(PICTURE, step=7, total=9)))
    display.show("preview", encoded(Preview(PICTURE)))
    display.show("preview", encoded(PICTURE))
    display.show("preview", "no picture")
    assert saved() == ["preview-002.jpg", "preview-003.png", "preview-007.jpg"]


def test_previews_are_not_saved_when_not_asked_for(tmp_path: Path) -> None:
    display = Display(tmp_path / "out", saves_previews=False)
    display.show("preview", encoded(Preview(PICTURE, step=1, total=2)))
    assert not (tmp_path / "out").exists()


def test_outputs_before_the_last_are_shown_as_lines(display: Display, capsys: pytest.CaptureFixture[str]) -> None:
    for output in ({"n": 1}, {"n": 2, "image": encoded(PICTURE)}, {"n": 3}):
        display.show("output", output)
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        '{"n": 1}',
        "saved out/output-002-image.png",
        '{"n": 2, "image": "out/output-002-image.png"}',
    ]
    assert captured.out == ""


def test_logs_and_gaps_are_shown_as_they_are(display: Display, capsys: pytest.CaptureFixture[str]) -> None:
    display.show("log", {"message": "[bold] loaded " + "x" * 100, "level": "INFO"})
    display.show("lagged", {"skipped": 3})
    assert capsys.readouterr().err.splitlines() == ["[bold] loaded " + "x" * 100, 'lagged: {"skipped": 3}']


def test_the_output_of_an_attempt_that_is_lost_is_not_shown(
    display: Display, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in [("output", "lost"), ("restarted", {"attempt": 2}), ("output", "kept"), ("output", "result")]:
        display.show(name, data)
    shown = capsys.readouterr().err
    assert ("lost" in shown, "restarted" in shown, "kept" in shown) == (False, True, True)


def test_progress_moves_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Display(Path("out"), saves_previews=False) as display:
        display.show("progress", {"step": 3, "total": 9, "message": "drawing"})
        display.show("preview", {"step": 4, "total": 9})
    assert "4/9" in terminal.getvalue()


def test_the_result_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_result({"text": "é"})
    captured = capsys.readouterr().out
    assert json.loads(captured) == {"text": "é"}
    assert "é" in captured


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("code: a long\n  message " + "x" * 200)
    assert capsys.readouterr().err == "code: a long message " + "x" * 200 + "\n"
