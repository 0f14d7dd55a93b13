"""Describe videos as fal does."""

from pydantic import ConfigDict

from .._fields import ui_field
from ..file import File

#: a `Field` that the playground shows as a video
VideoField = ui_field("video")


class Video(File):
    """Describe a video by its URL."""

    model_config = ConfigDict(json_schema_extra={"ui": {"field": "video"}})
