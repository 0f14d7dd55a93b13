"""Read what a form or a query gives of an input: names with texts and uploads, where JSON has more kinds.

What a text stands for depends on its field: all values of a name are a list; an empty one is nothing, unless the field
takes text, as browsers send every field of a form; a number is one where only certain values are taken, which pydantic
compares as they are; one that begins as JSON is an object, where a text is possible as well only if its part of the
form says that it is JSON. The fields are those of pydantic's core schema, which has
followed unions, aliases and what else may stand around a type.
"""

import errno
from codecs import BOM_UTF8
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import from_json
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import FormParser, MultiPartException, MultiPartParser
from starlette.requests import Request

from .budget import Take, uncounted
from .errors import PayloadTooLarge, StorageFull
from .jsontext import LARGE_BYTES, weigh
from .largefile import LargeFile
from .media import File
from .process.threads import in_pool

_LISTS = {"list", "set", "frozenset", "tuple", "deque", "generator", "named-tuple"}
_WHOLES = {"model", "dataclass", "typed-dict"}
_OBJECTS = {*_WHOLES, "dict"}
# Kinds of which no empty text is one.
_NO_TEXTS = {
    *("none", "bool", "int", "float", "decimal", "complex", "date", "time", "datetime", "timedelta", "uuid"),
    *("url", "multi-host-url", "is-subclass", "callable"),
}
#: a form without parts that is larger is read in a thread: a million escapes take a second, and a hundred megabytes
LARGE_FORM_BYTES = 64 * 1024
_MOST_ESCAPES = 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # on the disk, of its user, in the largest file that may be
_WITHIN = ("schema", "lax_schema", "json_schema")  # where that stands around which something is

Schema = Mapping[str, Any]
Pairs = Iterable[tuple[str, Any]]


@dataclass(slots=True)
class _Field:
    """Say what may stand in a field, or in fields of the same name in several members of a union."""

    is_list: bool = False
    is_single: bool = False
    takes_text: bool = False
    takes_file: bool = False
    takes_bytes: bool = False
    #: an object, or a list whose items are no texts
    takes_json: bool = False
    #: numbers and truths, of those values that alone are taken, as they are written
    written: dict[str, Any] = field(default_factory=dict)

    def has_json(self, value: Any) -> bool:
        """Say whether a value for this field is the JSON of it."""
        if isinstance(value, JsonText):
            return self.takes_json or self.is_list or not self.takes_text
        is_json = isinstance(value, str) and value.lstrip()[:1] in ("{", "[")
        return is_json and self.takes_json and not self.takes_text

    def read(self, text: str) -> Any:
        """Return what a text stands for."""
        if self.has_json(text):
            return _parsed(text, text)
        return text if self.takes_text else self.written.get(text, text)


class JsonText(str):
    """Be a text whose part of a form says that it is JSON."""

    __slots__ = ()


def has_read_form(request: Request) -> bool:
    """Say whether FastAPI has read the body as a form, for a dependency: as text it cannot be read any more."""
    return getattr(request, "_form", None) is not None


async def read_form(request: Request, *, max_part_size: int) -> FormData:
    """Return a request's form as `Request.form` does, but what Starlette forgets: which text is a `JsonText`.

    Raises:
        HTTPException: 400, it is broken.
        PayloadTooLarge: it has too many escapes.
        StorageFull: there is no room on the disk for its files.
    """
    is_multipart = request.headers.get("content-type", "").lower().startswith("multipart/")
    if has_read_form(request) or (not is_multipart and len(await request.body()) <= LARGE_FORM_BYTES):
        return await request.form(max_part_size=max_part_size)
    try:
        if is_multipart:
            async with aclosing(request.stream()) as stream:
                form = await _Parts(request.headers, stream, max_part_size=max_part_size).parse()
        else:
            form = await in_pool(_urlencoded, request.headers, await request.body(), max_part_size)
    except MultiPartException as error:
        raise HTTPException(400, error.message) from None
    except OSError as error:
        if error.errno not in _NO_ROOM:  # that of a connection, say
            raise
        raise StorageFull(f"the form's files cannot be kept: {error.strerror}") from error
    request._form = form  # for whoever asks the request for it as well
    return form


def write_form(form: FormData, write: Callable[[bytes], Any]) -> None:
    """Write what a form says, each text behind its length, whatever stood between its parts; blocks."""
    for name, value in form.multi_items():
        texts = [value.filename, value.content_type] if isinstance(value, UploadFile) else [value]
        for text in (type(value).__name__, name, *texts):
            data = (text or "").encode(errors="surrogatepass")
            write(b"%d:%b" % (len(data), data))
        if isinstance(value, UploadFile):
            _write_file(value, write)


def _write_file(upload: UploadFile, write: Callable[[bytes], Any]) -> None:
    write(b"%d:" % (upload.size or 0))
    if upload.file.closed:  # by a dependency that has read the form: nobody gets it
        return
    read_up_to = upload.file.tell()
    upload.file.seek(0)
    while chunk := upload.file.read(_CHUNK_BYTES):
        write(chunk)
    upload.file.seek(read_up_to)


def _urlencoded(headers: Headers, body: bytes, max_part_size: int) -> FormData:
    """Read a large form by Starlette's parser, in this thread: it waits for nothing but its stream."""
    if (escapes := body.count(b"%")) > _MOST_ESCAPES:
        raise PayloadTooLarge(
            f"the form has {escapes} escapes, and may have {_MOST_ESCAPES}; send it as multipart/form-data or as JSON"
        )

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parsing = FormParser(headers, whole(), max_part_size=max_part_size).parse()
    try:
        parsing.send(None)
    except StopIteration as ended:
        form: FormData = ended.value
        return form
    raise AssertionError  # it waits


class _Parts(MultiPartParser):
    """Note the type of each part."""

    _header = _type = b""

    def on_part_begin(self) -> None:
        super().on_part_begin()
        self._type = b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        super().on_header_field(data, start, end)
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        super().on_header_value(data, start, end)
        if self._header.lower() == b"content-type":
            self._type += data[start:end]

    def on_header_end(self) -> None:
        super().on_header_end()
        self._header = b""

    def on_part_end(self) -> None:
        super().on_part_end()
        name, value = self.items[-1]
        if isinstance(value, str) and b"json" in self._type.lower():
            self.items[-1] = name, JsonText(value)


class FormReader:
    """Read names and values as the fields of one input.

    Args:
        schema: pydantic's core schema of it.
        name: what the input is called where it is not the fields that have names: it can be given by this name as well.
    """

    def __init__(self, schema: Schema, name: str | None = None) -> None:
        self._definitions = {each["ref"]: each for each in schema.get("definitions", ())}
        self._fields: dict[str, _Field] = {}
        for field_name, below in self._named(schema):
            self._describe(below, self._fields.setdefault(field_name, _Field()))
        self._name = None if name in self._fields else name
        if self._name is not None:
            self._describe(schema, self._fields.setdefault(self._name, _Field()))

    async def read_uploads(self, pairs: Pairs, take: Take = uncounted) -> Any:
        """Return the input of a form: of an upload its content, for a field that takes bytes, or where it is JSON.

        Args:
            take: is told of what the values of JSON take.
        """
        read = [(name, await self._content(name, value, take)) for name, value in pairs]
        is_large = sum(len(value) for _, value in read if isinstance(value, str)) > LARGE_BYTES
        return await in_pool(self.read, read) if is_large else self.read(read)

    def read(self, pairs: Pairs, beside: dict[str, Any] | None = None) -> Any:
        """Return an object with what is given for each field; or what is given for the whole.

        Args:
            beside: what is given for other fields.
        Raises:
            ValueError: both are given, and the whole is no object.
        """
        values: dict[str, list[Any]] = {}
        for name, value in pairs:
            values.setdefault(name, []).append(value)
        found = {name: given for name in values if (given := self._value(name, values[name])) is not ...}
        whole = {} if self._name is None else found.pop(self._name, {})
        found = {**(beside or {}), **found}
        if isinstance(whole, dict):
            return {**whole, **found}
        if found:
            raise ValueError(f"expected {self._name} as a JSON object, as there is also {', '.join(found)}")
        return whole

    async def _content(self, name: str, value: Any, take: Take) -> Any:
        field = self._fields.get(name)
        if field is None:
            return value
        if field.has_json(value):
            take(await _weighed(value.encode(errors="surrogatepass")))
            return value
        if field.takes_file or not isinstance(value, UploadFile) or _is_unchosen(value):
            return value
        if field.takes_bytes:
            return await value.read()
        if "json" not in (value.content_type or "").lower():
            return value
        text = await value.read()
        take(await _weighed(text))
        return await in_pool(_parsed, text, value) if len(text) > LARGE_BYTES else _parsed(text, value)

    def _value(self, name: str, values: list[Any]) -> Any:
        """Return what the values of a name are together; ... where they are nothing."""
        field = self._fields.get(name)
        if field is None:
            return values[-1]
        is_only_list = field.is_list and not field.is_single
        if not field.takes_text or (is_only_list and len(values) == 1):
            values = [value for value in values if value != ""]
        values = [value for value in values if not _is_unchosen(value)]
        values = [field.read(value) if isinstance(value, str) else value for value in values]
        if not values:
            return ...
        if field.is_list and (is_only_list or len(values) > 1):
            return values[0] if len(values) == 1 and isinstance(values[0], list) else values
        return values[-1]

    def _named(self, schema: Schema) -> Iterator[tuple[str, Schema]]:
        """Yield the names of an input's fields, those of all members of a union, with their schemas."""
        for option in _options(schema, self._definitions):
            if option.get("root_model"):
                yield from self._named(option["schema"])
            elif option["type"] in _WHOLES:
                for name, field in _fields(option):
                    yield name, field["schema"]
                    for alias, below in _aliases(field.get("validation_alias")):
                        yield alias, below or field["schema"]

    def _describe(self, schema: Schema, field: _Field) -> None:
        for option in _options(schema, self._definitions):
            match option["type"]:
                case "model" if option["root_model"]:
                    self._describe(option["schema"], field)
                case kind if kind in _OBJECTS:
                    field.is_single = field.takes_json = True
                case kind if kind in _LISTS:
                    field.is_list = True
                    self._describe_items(option, field)
                case kind:
                    field.is_single |= kind != "none"
                    _describe_one(option, field)

    def _describe_items(self, schema: Schema, field: _Field) -> None:
        items = _Field()
        for option in (option for item in _items(schema) for option in _options(item, self._definitions)):
            if option["type"] not in _LISTS | _OBJECTS:  # which may hold lists of their own kind
                _describe_one(option, items)
        field.takes_text |= items.takes_text
        field.takes_file |= items.takes_file
        field.takes_bytes |= items.takes_bytes
        field.takes_json |= not items.takes_text
        field.written |= items.written


def has_fields(schema: Schema, name: str) -> bool:
    """Say whether the field `name` of a model has fields of its own: a model, a dataclass, a TypedDict, or a union with
    one of them.
    """
    definitions = {each["ref"]: each for each in schema.get("definitions", ())}
    (model,) = _options(schema, definitions)
    field = dict(_fields(model))[name]
    return any(option["type"] in _WHOLES for option in _options(field["schema"], definitions))


def _options(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """Yield what a value may be by a core schema: the members of unions, without what stands around them."""
    match schema["type"]:
        case "definition-ref":
            yield from _options(definitions[schema["schema_ref"]], definitions)
        case "union":
            for choice in schema["choices"]:
                yield from _options(choice[0] if isinstance(choice, tuple) else choice, definitions)
        case "tagged-union":
            for choice in schema["choices"].values():
                yield from _options(choice, definitions)
        case "model" | "dataclass" | "json":
            yield schema
        case kind:
            if kind == "nullable":
                yield {"type": "none"}
            within = next((schema[key] for key in _WITHIN if key in schema), None)
            if within is None:
                yield schema
            else:
                yield from _options(within, definitions)


def _fields(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Yield the fields of a model, a dataclass or a TypedDict."""
    within = schema if schema["type"] == "typed-dict" else schema["schema"]
    while within and "fields" not in within:  # a validator stands around them
        within = within.get("schema", {})
    fields = within.get("fields", {})
    yield from fields.items() if isinstance(fields, dict) else ((field["name"], field) for field in fields)


def _aliases(alias: Any) -> Iterator[tuple[str, Schema | None]]:
    """Yield other names of a field, with the schema of what is looked into for it where it is a part of that."""
    match alias:
        case str():
            yield alias, None
        case [list(), *_]:
            for path in alias:
                yield from _aliases(path)
        case [str() as name]:
            yield name, None
        case [str() as name, part, *_]:
            yield name, {"type": "dict" if isinstance(part, str) else "list"}


def _items(schema: Schema) -> list[Schema]:
    """Return the schemas of a list's items; those of a tuple may differ."""
    if schema["type"] == "named-tuple":
        return [field["schema"] for field in schema["fields"]]
    items = schema.get("items_schema", {"type": "any"})
    return items if isinstance(items, list) else [items]


def _describe_one(schema: Schema, field: _Field) -> None:
    """Note what may stand for one value that is neither a list nor an object."""
    match schema["type"]:
        case "literal":
            _describe_certain(schema["expected"], field)
        case "enum":
            _describe_certain([member.value for member in schema["members"]], field)
        case "bytes":
            field.takes_text = field.takes_bytes = True
        case "is-instance":
            field.takes_file = True
        case "function-plain" if _makes(schema, (File, LargeFile, UploadFile)):
            field.takes_file = True
            field.takes_json |= _makes(schema, (File, LargeFile))  # {"url": ...}
        case "any":
            field.takes_text = field.takes_file = field.takes_json = True
        case "function-plain":
            field.takes_text = field.takes_file = True
        case kind:
            field.takes_text |= kind not in _NO_TEXTS


def _describe_certain(values: list[Any], field: _Field) -> None:
    field.takes_text |= "" in values
    written = {str(value).lower(): value for value in values if isinstance(value, int | float)}
    field.written |= {text: value for text, value in written.items() if text not in values}


def _makes(schema: Schema, classes: tuple[type, ...]) -> bool:
    """Say whether a function is one of these classes' own."""
    owner = getattr(schema["function"]["function"], "__self__", None)
    return isinstance(owner, type) and issubclass(owner, classes)


def _is_unchosen(value: Any) -> bool:
    """Say whether this is what a browser sends for a file that was not chosen."""
    return isinstance(value, UploadFile) and not value.filename and not value.size


async def _weighed(text: bytes) -> int:
    return await in_pool(weigh, text) if len(text) > LARGE_BYTES else weigh(text)


def _parsed(text: str | bytes, otherwise: Any) -> Any:
    """Return what a JSON text says; of one that is none, validation tells what was expected."""
    try:
        return from_json(_without_mark(text), allow_inf_nan=False)
    except ValueError:
        return otherwise


def _without_mark(text: str | bytes) -> str | bytes:
    """Return a text without a byte order mark."""
    return text.removeprefix("\ufeff") if isinstance(text, str) else text.removeprefix(BOM_UTF8)
