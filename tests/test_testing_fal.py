"""The client for apps in tests: a server, and endpoints as methods."""

import threading

import httpx
import pytest
from pydantic import BaseModel

import streamapp
from streamapp.fal.exceptions import AppException, FalServerlessException
from streamapp.testing.fal import AppClient, AppClientError


class In(BaseModel):
    text: str


class Out(BaseModel):
    text: str


class Echo(streamapp.App, name="echo"):
    def setup(self) -> None:
        self.ending = "!"

    @streamapp.endpoint("/")
    def echo(self, input: In) -> Out:
        return Out(text=input.text + self.ending)

    @streamapp.endpoint("/untyped")
    async def untyped(self, text: str):  # type: ignore[no-untyped-def]
        return {"text": text}

    @streamapp.endpoint("/refused")
    def refused(self) -> Out:
        raise AppException("no credits", 402)

    @streamapp.endpoint("/stream")
    def stream(self, text: str):  # type: ignore[no-untyped-def]
        yield text


def test_a_model_goes_in_and_the_annotated_type_comes_out() -> None:
    with AppClient.connect(Echo) as client:
        assert client.echo(In(text="hi")) == Out(text="hi!")


def test_a_dict_goes_in_and_without_an_annotation_json_comes_out() -> None:
    with AppClient.connect(Echo) as client:
        assert client.untyped({"text": "hi"}) == {"text": "hi"}


def test_what_the_app_refuses_is_raised_with_its_status_and_headers() -> None:
    with (
        AppClient.connect(Echo) as client,
        pytest.raises(AppClientError, match="Failed to POST .*/refused: 402") as caught,
    ):
        client.refused({})
    assert (caught.value.status_code, "no credits" in caught.value.message) == (402, True)
    assert caught.value.headers["x-streamapp-job-id"]
    assert isinstance(caught.value, FalServerlessException)


@pytest.mark.parametrize("name", ["stream", "nothing"])
def test_what_does_not_answer_once_is_no_method(name: str) -> None:
    with AppClient.connect(Echo) as client, pytest.raises(AttributeError, match=f"no endpoint '{name}' .*'echo'"):
        getattr(client, name)


def test_the_client_knows_where_the_app_is_and_how() -> None:
    with AppClient.connect(Echo) as client:
        assert client.application == "local/echo"
        assert client.url.startswith("http://127.0.0.1:")
        assert isinstance(client.health(), dict)


def test_the_server_ends_with_the_block() -> None:
    with AppClient.connect(Echo) as client:
        pass
    with pytest.raises(httpx.ConnectError):
        client.health()


def test_a_setup_that_fails_is_told() -> None:
    class Broken(streamapp.App):
        def setup(self) -> None:
            raise ValueError("no weights")

        @streamapp.endpoint("/")
        def run(self) -> None: ...

    with pytest.raises(AppClientError, match="setup") as caught, AppClient.connect(Broken):
        pass
    assert caught.value.status_code == 503


def test_a_setup_that_takes_too_long_is_told() -> None:
    class Slow(streamapp.App):
        def setup(self) -> None:
            threading.Event().wait(3)

        @streamapp.endpoint("/")
        def run(self) -> None: ...

    with (
        pytest.raises(AppClientError, match=r"the app's setup took longer than 0.01 s"),
        AppClient.connect(Slow, startup_timeout=0.01),
    ):
        pass
