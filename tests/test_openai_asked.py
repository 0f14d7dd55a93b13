"""What is asked of OpenAI's face knows an endpoint's fields, and says which of a request's is refused."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from streamapp.openai.asked import fields_of, refusal


class Text(BaseModel):
    text: str
    other: "Text | None" = None
    named: Annotated[str, Field(alias="as")] = ""


@pytest.mark.parametrize(("annotation", "fields"), [(Text, {"text", "other", "as"}), (str, set()), (Text | str, set())])
def test_the_fields_of_an_input_are_those_that_clients_write(annotation: Any, fields: set[str]) -> None:
    assert fields_of(TypeAdapter(annotation)) == fields


def test_a_refusal_names_the_field() -> None:
    (error,) = refusal("n", "write 1").errors()
    assert (error["loc"], error["msg"]) == (("body", "n"), "write 1")
