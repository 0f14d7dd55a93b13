"""What an app says to be asked by OpenAI's clients, and what it is told of mistakes."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, Header, Request
from tests.scripted_answers import ScriptedModel
from tests.served import serving

import streamapp
from streamapp.errors import DefinitionError


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "answers nothing"),
        ({"text": ""}, "expected text"),
        ({"text": 5}, "expected text"),
        ({"text": "self.llm"}, "the name of the attribute"),
        ({"images": "stream"}, "write '/stream'"),
        ({"speech": "speak"}, "write '/speak'"),
        ({"text": "llm", "model": " "}, "expected text"),
    ],
)
def test_what_is_no_declaration_is_refused_where_it_is_written(said: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        streamapp.OpenAI(**said)


class Teller(streamapp.App):
    openai = streamapp.OpenAI(text="llm")

    def setup(self) -> None:
        self.llm = ScriptedModel()

    @streamapp.endpoint("/hello")
    def hello(self) -> str:
        return "hello"


def test_an_endpoint_that_is_not_there_is_named_with_those_that_are() -> None:
    class Painter(Teller):
        pictures = streamapp.OpenAI(images="/paint")

    with pytest.raises(DefinitionError, match="no endpoint there; there are /hello"):
        streamapp.compile_app(Painter)


@pytest.mark.parametrize("more", [Annotated[str, Header()], Annotated[str, Depends(lambda: "it")], Request])
def test_an_endpoint_that_takes_more_than_an_input_is_refused(more: Any) -> None:
    def paint(self: Any, prompt: str, more: Any) -> None: ...

    paint.__annotations__["more"] = more
    body = {"pictures": streamapp.OpenAI(images="/paint"), "paint": streamapp.endpoint("/paint")(paint)}
    painter = type("Painter", (Teller,), body)
    with pytest.raises(DefinitionError, match=r"OpenAI\(images='/paint'\): .*paint takes more than an input"):
        streamapp.compile_app(painter)


def test_two_that_answer_alike_are_refused() -> None:
    class Twice(Teller):
        other = streamapp.OpenAI(text="other")

    with pytest.raises(DefinitionError, match="openai and other both say OpenAI"):
        streamapp.compile_app(Twice)


def test_a_subclass_says_it_anew() -> None:
    class Renamed(Teller):
        openai = streamapp.OpenAI(text="llm", model="mine")

    with serving(Renamed) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["mine"]


def test_a_model_without_a_name_is_called_like_its_app() -> None:
    with serving(Teller) as client:
        assert client.post("/v1/completions", json={"model": "teller", "prompt": "a"}).json()["model"] == "teller"


def test_an_attribute_that_is_no_model_is_told_of() -> None:
    class Forgetful(Teller):
        def setup(self) -> None:
            self.llm = "gpt2"  # type: ignore[assignment]

    with serving(Forgetful) as client:
        refusal = client.post("/v1/completions", json={"prompt": "a"})
    assert refusal.status_code == 500
    assert "in setup write self.llm = streamapp.llm.Engine" in refusal.json()["error"]["message"]


def test_several_attributes_may_say_what_an_app_does() -> None:
    class Both(Teller):
        pictures = streamapp.OpenAI(images="/paint", model="painter")

        @streamapp.endpoint("/paint")
        def paint(self, prompt: str) -> Iterator[dict[str, str]]:
            yield {"image": prompt}

    with serving(Both) as client:
        assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["both", "painter"]
        refusal = client.post("/v1/completions", json={"model": "painter", "prompt": "a"})
        assert refusal.json()["error"]["code"] == "model_not_found"


class Spoken(Teller):
    """Have endpoints of which OpenAI's clients can ask for some."""

    others = streamapp.OpenAI(images="/paint/", speech="/say", model="mine")

    @streamapp.endpoint("/chat")
    def chat(self, messages: list[dict[str, str]], top_p: float = 1) -> Iterator[str]:
        raise NotImplementedError

    @streamapp.endpoint("/go-on")
    def go_on(self, prompt: str) -> Iterator[str]:
        raise NotImplementedError

    @streamapp.endpoint("/caption")
    def caption(self, prompt: str, image: streamapp.Image) -> Iterator[str]:
        raise NotImplementedError

    @streamapp.endpoint("/tags")
    def tags(self, prompt: str) -> list[str]:
        raise NotImplementedError

    @streamapp.endpoint("/paint")
    def paint(self, prompt: str) -> Iterator[Any]:
        raise NotImplementedError

    @streamapp.endpoint("/say")
    def say(self, text: str) -> Iterator[Any]:
        raise NotImplementedError


def test_the_document_says_where_openais_clients_ask_for_what_an_endpoint_makes() -> None:
    """Of a language model's these are those that stream, and need nothing else."""
    paths = streamapp.compile_app(Spoken).openapi()["paths"]
    asked = {path: item["post"].get("x-streamapp-clients", {}) for path, item in paths.items() if "post" in item}
    told = {path: clients["openai"] for path, clients in asked.items() if "openai" in clients}
    assert {path: (client["path"], client["model"]) for path, client in told.items()} == {
        "/chat": ("/v1/chat/completions", "spoken"),
        "/go-on": ("/v1/completions", "spoken"),
        "/paint": ("/v1/images/generations", "mine"),
        "/say": ("/v1/audio/speech", "mine"),
        "/v1/chat/completions": ("/v1/chat/completions", "spoken"),
        "/v1/completions": ("/v1/completions", "spoken"),
        "/v1/images/generations": ("/v1/images/generations", "mine"),
        "/v1/audio/speech": ("/v1/audio/speech", "mine"),
    }
