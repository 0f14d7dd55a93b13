"""OpenAI's requests for pictures become an endpoint's input; its previews and pictures are told as documented."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import PIL.Image
import pytest
from fastapi.exceptions import RequestValidationError
from openai.types.image_gen_completed_event import ImageGenCompletedEvent
from openai.types.image_gen_partial_image_event import ImageGenPartialImageEvent
from openai.types.images_response import ImagesResponse
from pydantic import BaseModel, Field
from tests import at_work
from tests.served import PICTURE, blocks

import streamapp
from streamapp.endpoint import inspect_endpoint
from streamapp.errors import DefinitionError, NotEncodable
from streamapp.fetch import MediaLimits
from streamapp.inputs import InputReader
from streamapp.jobs.events import to_event
from streamapp.jobs.job import Job, Origin
from streamapp.openai.asked import Asked, Telling
from streamapp.openai.images import Images
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles

CLEAR = PIL.Image.new("RGBA", (4, 2), (255, 0, 0, 0))


class Sized(BaseModel):
    prompt: str
    width: int | None = None
    height: int | None = None
    num_images: int = Field(default=1, le=4)
    seed: int | None = None


class OfFal(BaseModel):
    prompt: str
    image_size: dict[str, int] | str = "square"
    quality: str = "auto"


class Draws(streamapp.App):
    @streamapp.endpoint("/sized")
    def sized(self, input: Sized) -> None: ...

    @streamapp.endpoint("/of-fal")
    def of_fal(self, input: OfFal) -> None: ...

    @streamapp.endpoint("/plain")
    def plain(self, prompt: str) -> None: ...

    @streamapp.endpoint("/named")
    def named(self, prompt: str, size: str, n: int = 1) -> None: ...

    @streamapp.endpoint("/wordless")
    def wordless(self, seed: int) -> None: ...


@pytest.fixture
def files() -> Iterator[LocalFiles]:
    files = LocalFiles(Settings())
    yield files
    files.close()


class Ask:
    """Ask an endpoint of `Draws` by its name."""

    def __init__(self, files: LocalFiles) -> None:
        self.files = files

    def __call__(self, name: str = "sized", **body: Any) -> Asked:
        spec = inspect_endpoint(getattr(Draws, name))
        reader = InputReader(spec, MediaLimits.of(Settings()))
        return Images(spec, reader.adapter, self.files).asked({"prompt": "a red circle", **body})

    def refused(self, name: str = "sized", **body: Any) -> str:
        """Return the field that is told of a request that is refused."""
        with pytest.raises(RequestValidationError) as refusal:
            self(name, **body)
        field: str = refusal.value.errors()[0]["loc"][1]
        return field


@pytest.fixture
def ask(files: LocalFiles) -> Ask:
    return Ask(files)


def drawn(result: Any) -> Job:
    job = at_work.new(origin=Origin(host="testserver"))
    job.start()
    job.succeed(to_event(result))
    return job


def whole(asked: Asked, result: Any) -> ImagesResponse:
    told = json.loads(bytes(asked.telling.whole(drawn(result)).body))
    return ImagesResponse.model_validate(told, strict=True)


def opened(data: str | None) -> PIL.Image.Image:
    assert data is not None
    return PIL.Image.open(io.BytesIO(base64.b64decode(data)))


def steps_told(telling: Telling, steps: list[int], total: int | None = 20) -> list[int]:
    """Return the steps whose previews are told."""
    return [n for n in steps if telling.told(to_event(streamapp.Preview(PICTURE, step=n, total=total)))]


def test_a_size_and_a_count_are_given_in_the_words_of_the_input(ask: Ask) -> None:
    size: dict[str, Any] = {"size": "64x32", "n": 2}
    assert ask(**size).input == {"prompt": "a red circle", "width": 64, "height": 32, "num_images": 2}
    assert ask("of_fal", size="64x32").input["image_size"] == {"width": 64, "height": 32}
    assert ask("named", **size).input == {"prompt": "a red circle", **size}


def test_fields_of_the_input_pass_and_the_face_s_own_do_not(ask: Ask) -> None:
    asked = ask("sized", seed=7, model="sdxl", stream=True, user="me")
    assert asked.input == {"prompt": "a red circle", "seed": 7}


@pytest.mark.parametrize("usual", [{"size": "auto"}, {"n": 1}, {"quality": "standard"}, {"background": "opaque"}])
def test_what_holds_anyway_may_be_said(ask: Ask, usual: dict[str, Any]) -> None:
    assert ask("plain", **usual).input == {"prompt": "a red circle"}


def test_null_is_nothing(ask: Ask) -> None:
    names = ("n", "size", "quality", "background", "moderation", "style", "user", "stream", "partial_images", "seed")
    others = ("output_format", "output_compression", "response_format", "frame_count", "svg")
    nothing: dict[str, Any] = dict.fromkeys(names + others)
    assert ask(**nothing).input == {"prompt": "a red circle"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("size", "64x32"),
            ("size", "huge"),
            ("size", "0x8"),
            ("n", 2),
            ("n", 0),
            ("n", 11),
            ("n", "1"),
            ("prompt", ""),
        ),
        *(("prompt", None), ("quality", "high"), ("background", "transparent"), ("style", "natural"), ("seed", 1)),
        *(("frame_count", 4), ("output_format", "gif"), ("output_compression", 101), ("output_compression", 50)),
        *(("partial_images", 4), ("partial_images", -1), ("response_format", "file"), ("moderation", "none")),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_field(ask: Ask, field: str, value: Any) -> None:
    assert ask.refused("plain", **{field: value}) == field


def test_events_hold_pictures_and_no_urls(ask: Ask) -> None:
    assert ask.refused(stream=True, response_format="url") == "response_format"


def test_a_quality_is_the_endpoint_s_where_it_has_one(ask: Ask) -> None:
    asked = ask("of_fal", quality="high")
    assert asked.input["quality"] == "high"
    assert whole(asked, {"image": PICTURE}).quality == "high"


def test_an_endpoint_without_a_prompt_is_refused_where_it_is_named(ask: Ask) -> None:
    with pytest.raises(DefinitionError, match=r"OpenAI\(images='/wordless'\) on Draws.wordless"):
        ask("wordless")


def test_a_whole_answer_holds_the_pictures_as_png(ask: Ask) -> None:
    told = whole(ask(n=2, user="me"), {"images": [PICTURE, PICTURE], "image": PICTURE})
    assert told.data is not None
    assert [opened(each.b64_json).format for each in told.data] == ["PNG", "PNG"]
    assert (told.size, told.output_format, told.safety_identifier) == ("2x2", "png", "me")


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_pictures_are_converted_to_the_format_asked_for(ask: Ask, format: str) -> None:
    told = whole(ask(output_format=format), streamapp.Image.from_pil(PICTURE, "WEBP"))
    assert told.data is not None and told.output_format == format
    assert opened(told.data[0].b64_json).format == format.upper()


def test_compression_makes_a_jpeg_smaller(ask: Ask) -> None:
    noise = PIL.Image.effect_noise((64, 64), 90)
    sizes = []
    for output_compression in (0, 50, None):
        told = whole(ask(output_format="jpeg", output_compression=output_compression), {"image": noise})
        assert told.data is not None and told.data[0].b64_json is not None
        sizes.append(len(told.data[0].b64_json))
    assert sizes == sorted(sizes) and sizes[0] < sizes[1] < sizes[2]


def test_an_opaque_background_is_white(ask: Ask) -> None:
    for background, mode in (("opaque", "RGB"), ("auto", "RGBA")):
        told = whole(ask(background=background), {"image": CLEAR})
        assert told.data is not None
        assert opened(told.data[0].b64_json).mode == mode


def test_pictures_by_url_are_kept_in_the_format_asked_for(ask: Ask, files: LocalFiles) -> None:
    told = whole(ask(response_format="url", output_format="jpeg"), {"image": PICTURE})
    assert told.data is not None and told.data[0].url is not None
    assert told.data[0].url.endswith("/image.jpeg")
    stored = files.find(told.data[0].url)
    assert stored is not None and stored.content_type == "image/jpeg"
    assert stored.path.read_bytes().startswith(b"\xff\xd8")


def test_a_file_of_the_server_is_read_and_told_by_its_url(ask: Ask, files: LocalFiles) -> None:
    url = files.publish(streamapp.Image.from_pil(PICTURE), base_url="http://testserver")
    inline, named = whole(ask(), {"images": [url]}), whole(ask(response_format="url"), {"image": {"url": url}})
    assert inline.data is not None and opened(inline.data[0].b64_json).size == (2, 2)
    assert named.data is not None and named.data[0].url == url


def test_a_picture_elsewhere_is_told_by_its_url_and_never_fetched(ask: Ask) -> None:
    elsewhere = {"image": {"url": "https://example.com/a.png"}}
    told = whole(ask(response_format="url"), elsewhere)
    assert told.data is not None and told.data[0].url == "https://example.com/a.png"
    with pytest.raises(NotEncodable, match="a file of this server"):
        whole(ask(), elsewhere)


@pytest.mark.parametrize("result", [None, {"images": []}, {"image": None}, "text", {"image": {"url": 1}}, 3])
def test_a_result_without_a_picture_is_the_endpoint_s_fault(ask: Ask, result: Any) -> None:
    with pytest.raises(NotEncodable):
        whole(ask(), result)


def test_each_picture_completes_with_all_that_is_documented(ask: Ask) -> None:
    asked = ask(stream=True, n=2, output_format="webp", safety_identifier="me")
    told = blocks(asked.telling.ended(drawn({"images": [PICTURE, CLEAR]})).decode())
    events = [ImageGenCompletedEvent.model_validate_json(block["data"], strict=True) for block in told]
    assert [block["event"] for block in told] == [event.type for event in events] == ["image_generation.completed"] * 2
    assert [(event.size, event.output_format, opened(event.b64_json).format) for event in events] == [
        ("2x2", "webp", "WEBP"),
        ("4x2", "webp", "WEBP"),
    ]
    assert events[0].usage.total_tokens == 0
    assert events[0].safety_identifier == "me"


def test_a_preview_is_a_partial_image_of_the_size_at_which_it_is_shown(ask: Ask) -> None:
    asked = ask(stream=True, partial_images=1)
    preview = streamapp.Preview({"image": PICTURE, "width": 8, "height": 8}, step=10, total=20)
    (told,) = blocks(asked.telling.told(to_event(preview)).decode())
    event = ImageGenPartialImageEvent.model_validate_json(told["data"], strict=True)
    assert (told["event"], event.size, event.partial_image_index) == (event.type, "8x8", 0)
    assert (event.quality, event.background) == ("auto", "auto")
    assert opened(event.b64_json).format == "PNG"


@pytest.mark.parametrize(("partial_images", "steps"), [(0, []), (1, [10]), (2, [7, 14]), (3, [5, 10, 15])])
def test_the_previews_that_are_told_are_spread_over_the_run(ask: Ask, partial_images: int, steps: list[int]) -> None:
    telling = ask(stream=True, partial_images=partial_images).telling
    assert steps_told(telling, list(range(1, 21))) == steps


def test_previews_that_come_late_are_told_as_far_as_there_are_any(ask: Ask) -> None:
    assert steps_told(ask(stream=True, partial_images=3).telling, [2, 15, 16, 17, 18, 20]) == [15, 17, 20]


def test_without_a_total_the_first_previews_are_told(ask: Ask) -> None:
    assert steps_told(ask(stream=True, partial_images=2).telling, [1, 2, 3], total=None) == [1, 2]


def test_progress_says_the_step_of_previews_that_do_not(ask: Ask) -> None:
    telling = ask(stream=True, partial_images=1).telling
    told = []
    for step in range(1, 11):
        telling.told(to_event(streamapp.Progress(step, 10)))
        told.append(bool(telling.told(to_event(streamapp.Preview(PICTURE)))))
    assert told.index(True) == 4 and told.count(True) == 1


@pytest.mark.parametrize("event", [streamapp.Preview("text"), streamapp.Preview({"text": 1}), {"image": PICTURE}])
def test_what_is_no_preview_of_a_picture_is_not_told(ask: Ask, event: Any) -> None:
    assert ask(stream=True, partial_images=3).telling.told(to_event(event)) == b""


@pytest.mark.parametrize(("stream", "partial_images", "shows"), [(True, 2, True), (True, 0, False), (False, 2, False)])
def test_previews_are_made_only_where_they_are_told(ask: Ask, stream: bool, partial_images: int, shows: bool) -> None:
    assert ask(stream=stream, partial_images=partial_images).shows_previews() is shows


def test_previews_are_made_until_the_last_is_told(ask: Ask) -> None:
    asked = ask(stream=True, partial_images=2)
    assert steps_told(asked.telling, [7]) and asked.shows_previews()
    assert steps_told(asked.telling, [14]) and not asked.shows_previews()
