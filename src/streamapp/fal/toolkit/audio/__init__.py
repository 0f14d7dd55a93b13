"""Describe audio as fal does."""

from pydantic import ConfigDict

from .._fields import ui_field
from ..file import File

#: a `Field` that the playground shows as audio
AudioField = ui_field("audio")


class Audio(File):
    """Describe audio by its URL."""

    model_config = ConfigDict(json_schema_extra={"ui": {"field": "audio"}})
