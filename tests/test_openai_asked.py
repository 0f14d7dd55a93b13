"""What is asked of OpenAI's face knows an endpoint's fields, and says which of a request's is refused."""

from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, TypeAdapter

from streamapp.openai.asked import fields_of, file_at, needed_of, own_fields, read_body, refusal
from streamapp.settings import Settings
from streamapp.stores.files import LocalFiles


class Text(BaseModel):
    text: str
    other: "Text | None" = None
    named: Annotated[str, Field(alias="as")] = ""


@pytest.mark.parametrize(("annotation", "fields"), [(Text, {"text", "other", "as"}), (str, set()), (Text | str, set())])
def test_the_fields_of_an_input_are_those_that_clients_write(annotation: Any, fields: set[str]) -> None:
    assert fields_of(TypeAdapter(annotation)) == fields


def test_of_these_some_are_needed() -> None:
    assert needed_of(TypeAdapter(Text)) == {"text"}


def test_a_refusal_names_the_field() -> None:
    (error,) = refusal("n", "write 1").errors()
    assert (error["loc"], error["msg"]) == (("body", "n"), "write 1")


def test_a_body_that_is_not_as_documented_is_refused_by_its_field() -> None:
    assert read_body(Text, {"text": "a", "more": 1}).text == "a"
    with pytest.raises(RequestValidationError) as refused:
        read_body(Text, {})
    assert refused.value.errors()[0]["loc"] == ("body", "text")


def test_fields_besides_the_documented_are_the_input_s_own() -> None:
    given = {"n": 1, "seed": 2, "size": None, "more": None}
    assert own_fields(given, {"seed", "text"}, {"n"}) == {"seed": 2}
    with pytest.raises(RequestValidationError, match="besides OpenAI's the model takes seed, text"):
        own_fields({"seeds": 2}, {"seed", "text"}, {"n"})


def test_a_file_is_read_from_its_data_uri_or_the_servers_own_and_no_other(tmp_path: Path) -> None:
    files = LocalFiles(Settings(files_dir=tmp_path))
    assert file_at("data:audio/wav;base64,YWJj", files).data == b"abc"
    stored = files.begin("audio/wav", "a.wav")
    part = files.open_part(stored.id, stored.key, 1)
    part.write(b"abc")
    files.end_part(stored, 1, part)
    kept = file_at(f"http://127.0.0.1:8000{files.complete(stored.id, stored.key, [1]).url_path}", files)
    assert (kept.data, kept.content_type) == (b"abc", "audio/wav")
    with pytest.raises(ValueError, match="a file of this server, got .https://example.org/a.wav"):
        file_at("https://example.org/a.wav", files)
    files.close()
