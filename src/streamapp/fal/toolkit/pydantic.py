"""Define `FalBaseModel`, and the functions that describe its fields."""

from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, Field, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from .audio import AudioField
from .file import FileField
from .image import ImageField
from .video import VideoField

__all__ = ["AudioField", "FalBaseModel", "Field", "FileField", "Hidden", "ImageField", "VideoField"]

T = TypeVar("T")


class _Hidden:
    """Mark a field, by its metadata, as one that the playground leaves out."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described = handler(schema)
        return {**described, "ui": {**described.get("ui", {}), "hidden": True}}


def Hidden(field: T) -> T:
    """Hide a field with a default from the playground; the endpoint takes it all the same.

    Raises:
        TypeError, ValueError: it is no `Field(...)`, or it has no default.
    """
    if not isinstance(field, FieldInfo):
        raise TypeError(f"expected Hidden(Field(default=...)), got {type(field).__name__}")
    if field.is_required():
        raise ValueError("a hidden field needs a default; write Hidden(Field(default=...))")
    field.metadata = [*field.metadata, _Hidden()]
    return field


class FalBaseModel(BaseModel):
    """Describe an input whose fields come in an order of its own.

    Attributes:
        FIELD_ORDERS: fields that come first in the schema.
        SCHEMA_IGNORES: fields that the playground leaves out; `Hidden(Field(...))` says it at the field.
    """

    FIELD_ORDERS: ClassVar[list[str]] = []
    SCHEMA_IGNORES: ClassVar[set[str]] = set()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        reference = handler(schema)
        described = handler.resolve_ref_schema(reference)
        properties = described["properties"]
        for name in cls.SCHEMA_IGNORES & properties.keys():
            properties[name].setdefault("ui", {})["hidden"] = True
        first = {name: properties[name] for name in cls.FIELD_ORDERS if name in properties}
        described["properties"] = {**first, **properties}
        return reference
