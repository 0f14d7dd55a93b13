"""Files of an input that need not fit into memory: what they are, and how they are read."""

import io
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import cast

import pytest
from fastapi import UploadFile
from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json
from tests.served import serving

import streamapp
from streamapp.errors import NotFound
from streamapp.largefile import LargeFile, LargeReference
from streamapp.media import File


class In(BaseModel):
    file: LargeFile


class Sizes(streamapp.App):
    @streamapp.endpoint("/size")
    def size(self, file: LargeFile) -> dict[str, object]:
        with file.open() as opened:
            return {
                "size": file.size,
                "name": file.file_name,
                "type": file.content_type,
                "first": opened.read(3)[:1] == b"a",
            }


def test_a_file_at_a_path_is_read_from_its_beginning_each_time(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    file = LargeFile.at(tmp_path / "a.txt", "text/plain")
    with file.open() as one, file.open() as other:
        assert (one.read(2), other.read(), one.read()) == (b"he", b"hello", b"llo")
    assert (file.size, file.file_name) == (5, "a.txt")


def test_a_file_that_has_expired_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    file = LargeFile.at(tmp_path / "a", file_name="b.csv")
    (tmp_path / "a").unlink()
    with pytest.raises(NotFound, match="'b.csv' is not kept any more; upload it again"):
        file.open()


def test_several_read_an_upload_at_once_and_none_closes_it_for_the_others() -> None:
    with SpooledTemporaryFile() as spooled:
        spooled.write(b"one\ntwo\n")
        file = LargeFile(UploadFile(cast("io.BytesIO", spooled), size=8), 8)
        with file.open() as one:
            assert one.readline() == b"one\n"
            with file.open() as other:
                assert other.readlines() == [b"one\n", b"two\n"]
            assert one.readline() == b"two\n"
            assert (one.seek(4), one.read()) == (4, b"two\n")
        assert file.open().read() == b"one\ntwo\n"


def test_what_is_in_memory_may_stand_for_a_large_file() -> None:
    file = In.model_validate({"file": File(b"hi", "text/plain", "a.txt")}).file
    assert file == LargeFile(b"hi", 2, "text/plain", "a.txt")
    assert file.open().read() == b"hi"
    assert In(file=file).file is file


def test_an_input_names_it_as_it_does_other_files() -> None:
    given = In.model_validate({"file": {"url": "https://here/a", "content_type": "text/csv"}}).file
    assert isinstance(given, LargeReference)
    assert given.media.content_type == "text/csv"
    with pytest.raises(ValueError, match="expected file data as a data URI, an http"):
        In.model_validate({"file": "nothing"})
    schema = In.model_json_schema()["properties"]["file"]
    assert (schema["title"], schema["ui"]) == ("LargeFile", {"field": "file"})


def test_no_path_of_this_machine_is_shown_in_a_result(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    with pytest.raises(PydanticSerializationError, match="a LargeFile is an input"):
        to_json({"file": LargeFile.at(tmp_path / "secret")})


def test_an_endpoint_reads_what_was_uploaded_whole_though_it_is_over_the_limits_of_bodies_and_media() -> None:
    with serving(Sizes, max_body_bytes=1000, max_media_bytes=1000) as client:
        named = {"X-Fal-File-Name": "a.txt", "Content-Type": "text/plain"}
        url = client.post("/rest/files/upload", content=b"a" * 5000, headers=named).json()["access_url"]
        answer = client.post("/size", json={"file": url}).json()
    assert answer == {"size": 5000, "name": "a.txt", "type": "text/plain", "first": True}


def test_an_endpoint_reads_what_came_with_a_form() -> None:
    with serving(Sizes, max_media_bytes=1000) as client:
        answer = client.post("/size", files={"file": ("a.csv", b"a" * 5000, "text/csv")})
    assert answer.json() == {"size": 5000, "name": "a.csv", "type": "text/csv", "first": True}


def test_a_large_file_that_is_emitted_fails_its_job_and_shows_no_path() -> None:
    class Echo(streamapp.App):
        @streamapp.endpoint("/echo")
        def echo(self, file: LargeFile) -> object:
            return {"file": file}

    with serving(Echo) as client:
        answer = client.post("/echo", json={"file": "data:,a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "not_encodable")
