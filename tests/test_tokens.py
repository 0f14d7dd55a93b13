"""Tokens alone: what they say, and who can read them."""

import base64
import json
from typing import Any

import pytest

from streamapp.http.tokens import Tokens


def claims(token: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def test_a_token_says_for_which_apps_it_is_and_whose() -> None:
    token = Tokens("key").read(Tokens("key").make(["a", "b"], lasts_s=60, caller="me").encode())
    assert token is not None
    assert (token.apps, token.caller, token.has_expired) == (["a", "b"], "me", False)


def test_a_token_that_has_expired_says_so() -> None:
    token = Tokens("key").read(Tokens("key").make(["a"], lasts_s=-1).encode())
    assert token is not None
    assert token.has_expired


def test_a_token_has_the_form_that_others_read_its_expiry_from() -> None:
    token = Tokens("key").make(["a"], lasts_s=60)
    assert json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "==")) == {"alg": "HS256", "typ": "JWT"}
    assert claims(token)["exp"] > 1_700_000_000


def test_nothing_of_the_key_is_in_a_token() -> None:
    assert "key" not in json.dumps(claims(Tokens("key").make(["a"], lasts_s=60)))


def test_a_token_of_another_key_is_none() -> None:
    assert Tokens("key").read(Tokens("other").make(["a"], lasts_s=60).encode()) is None


def test_without_a_key_each_process_has_its_own() -> None:
    token = Tokens(None).make(["a"], lasts_s=60).encode()
    assert Tokens(None).read(token) is None


def forged(token: str, **changed: Any) -> str:
    """Return a token with other claims under the same signature."""
    head, _, signature = token.split(".")
    body = base64.urlsafe_b64encode(json.dumps({**claims(token), **changed}).encode()).rstrip(b"=")
    return f"{head}.{body.decode()}.{signature}"


def unsigned(token: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


@pytest.mark.parametrize(
    "change",
    [
        lambda token: forged(token, apps=["b"]),
        lambda token: forged(token, exp=9_999_999_999),
        unsigned,
        lambda token: token[:-1],
        lambda token: token + "A",
        lambda token: token.rpartition(".")[0],
        lambda token: token.replace(".", "", 1),
        lambda token: "." + token,
        lambda token: token.swapcase(),
        lambda token: "key",
        lambda token: "",
        lambda token: "..",
        lambda token: "\u00e9" * 100,
    ],
)
def test_what_is_no_token_of_ours_is_none(change: Any) -> None:
    tokens = Tokens("key")
    assert tokens.read(change(tokens.make(["a"], lasts_s=60)).encode()) is None
