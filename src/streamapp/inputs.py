"""Read an endpoint's input from a request: JSON, form or query in, validated keyword arguments out.

A single parameter that has fields (a model, a dataclass, a TypedDict, a union with one of them), or `Body()`, is the
whole body; others are keys of the body; on GET both come from the query. What FastAPI fills itself (path parameters,
`Header()`, `Query()`, `Depends()` ...) is left to it. Media are downloaded, checked and decoded before the inference
thread sees them.

What was read is also given as plain data, for a `JobRequest`, of which the same arguments can be read again elsewhere.

Divergence: FastAPI takes a single list or dict for the whole body as well; here it is a key of it without `Body()`, so
that an endpoint that gets a second parameter takes what its callers send already.
"""

import inspect
import json
import math
import typing
import weakref
from typing import Annotated, Any, NamedTuple

import fastapi.params
from fastapi.exceptions import RequestValidationError
from fastapi.params import Body, Form
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUndefinedAnnotation,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, from_json, to_json
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .budget import SHARE, Share, Take, uncounted
from .endpoint import EndpointSpec, where_is
from .errors import DefinitionError, DownloadTimeout, InvalidInput, MalformedRequest, StreamAppError
from .fetch import MediaLimits, limit_by, resolve_media
from .forms import FormReader, has_fields, has_read_form, read_form
from .jobs.job import SECRET_HEADERS, JobRequest
from .jsontext import LARGE_BYTES, weigh
from .media import File, has_media_fields
from .process.threads import in_pool

# In one pass over its bytes a small body takes 14 000 instructions instead of 22 000; a string of a megabyte, twice the
# time. Numbers that JSON does not have, NaN and Infinity, would pass where nothing looks at them.
_ONE_PASS_BYTES = 64 * 1024
# What pydantic makes the same value of, whether it checks a JSON text or what was read from it before, as FastAPI has
# it. For others a text is a kind of input of its own: strict types take more from it, a union prefers other members,
# functions are told of it.
_ALIKE = frozenset(
    {
        *("any", "none", "bool", "int", "float", "str", "literal", "list", "dict", "nullable", "default"),
        *("model", "model-fields", "model-field", "function-after", "function-plain", "definitions", "definition-ref"),
    }
)
_UNLIKE = frozenset({"strict", "coerce_numbers_to_str", "val_json_bytes", "validate_default", "custom_init"})
_MOST_ERRORS = 10_000  # to tell of a million takes two seconds and a gigabyte
_FIRST_OF_MARKS = (b"\xef", b"\xfe", b"\xff")
_BELOW = ("schema", "items_schema", "keys_schema", "values_schema")
_MARKERS = (fastapi.params.Param, fastapi.params.Depends)


class Input(NamedTuple):
    """Hold what was read of a request."""

    #: the endpoint's keyword arguments
    arguments: dict[str, Any]
    #: as `JobRequest` has it
    plain: bytes | None
    #: fal's `sync_mode` is set: the result shall have its files inline
    asks_inline: bool = False


class _Raw(NamedTuple):
    """Hold a body that is neither JSON nor a form, for a parameter that is the body as it came: `Body()`."""

    data: bytes


class InputReader:
    """Read one endpoint's arguments.

    Attributes:
        adapter: pydantic's, of what the input must be.
        whole: the parameter that is the whole input; None where they are its keys.
        names: the parameters that the input fills.
        media_type: what the body is, where `Body()` says that a parameter is it as it comes.
        injected: the parameters that FastAPI fills.
        has_dependencies: some of them by `Depends`, which may have to close what it gave.
    """

    def __init__(self, spec: EndpointSpec, limits: MediaLimits) -> None:
        # Filled here, not by FastAPI: it fills one parameter with the request, and the route has that one already.
        self._requests = [parameter.name for parameter in spec.parameters if _is_request(parameter)]
        # As FastAPI has it: a `Response` to set headers and the status on, while another value is returned.
        self._response = next((p.name for p in spec.parameters if p.annotation is Response), None)
        others = [p for p in spec.parameters if not _is_request(p) and p.annotation is not Response]
        self.whole, self.adapter, own = _adapter(spec, [p for p in others if not _is_injected(p, spec.path)])
        self.injected = [parameter for parameter in others if parameter not in own]
        markers = [marker for parameter in self.injected for marker in markers_of(parameter)]
        self.has_dependencies = any(isinstance(marker, fastapi.params.Depends) for marker in markers)
        self._has_default = self.whole is not None and self.adapter.get_default_value() is not None
        marker = _body_marker(own[0]) if self.whole is not None else None
        self.media_type = None if marker is None else marker.media_type
        self.names = tuple(parameter.name for parameter in own)
        self._limits = limits
        self._has_media = has_media_fields(self.adapter)
        self._is_alike = _is_alike(self.adapter.core_schema)
        self._form = FormReader(self.adapter.core_schema, self.whole)
        holds = (self._requests, self._response is not None, spec.kind == "response", self.has_dependencies)
        self._is_bound = any(holds) or any(
            _is_secret(marker, p.name) for p in self.injected for marker in markers_of(p)
        )

    async def read(self, request: Request, *, is_get: bool, content_type: str | None) -> Input:
        """Return what the request's input gives: on GET the query, else the body.

        Raises:
            RequestValidationError: what is wrong, as FastAPI's list of errors.
            HTTPException: 415 for a body of an unknown type, 413 for one over the limit.
            MalformedRequest: a form cannot be decoded.
            PayloadTooLarge: there are too many values in it.
            Unavailable: all requests together have too much.
        """
        limit_by(self._limits)
        share: Share | None = request.scope.get(SHARE)
        take = uncounted if share is None else share.take
        given = self._from_query(request) if is_get else await self._from_body(request, content_type, take)
        if is_get and self._requests:  # whoever listens for the client's leaving would take it before the endpoint asks
            await request.body()
        location = "query" if is_get else "body"
        size = len(given) if isinstance(given, bytes) else 0
        if size > LARGE_BYTES:
            take(await in_pool(weigh, given))
            value = await in_pool(self._validated, given, location)
            asks_inline = await in_pool(_asks_inline, given)
        else:
            if size > _ONE_PASS_BYTES:
                take(weigh(given))
            value, asks_inline = self._validated(given, location), _asks_inline(given)
        fetched: dict[Any, File] = {}
        arguments = await self._arguments(value, location, fetched, take)
        if self._response is not None:
            arguments[self._response] = Response()
        for name in self._requests:
            arguments[name] = request
        plain = None if self._is_bound else await self._plain(given, fetched)
        if plain is not None and fetched:
            take(len(plain))
        return Input(arguments, plain, asks_inline)

    @property
    def takes_more(self) -> bool:
        """Say whether the endpoint is filled with more than an input: what FastAPI fills, or the request itself."""
        return bool(self.injected) or self._is_bound

    def plain_parameters(self, injected: dict[str, Any]) -> bytes | None:
        """Return what FastAPI filled as `JobRequest.parameters`; None where it is more than plain values.

        Only what JSON gives back as it was is plain: nothing is validated a second time.
        """
        if not self.injected or self._is_bound:
            return b""
        try:
            return to_json(injected) if _is_plain(injected) else None
        except PydanticSerializationError:  # a lone surrogate
            return None

    async def read_again(self, request: JobRequest) -> dict[str, Any]:
        """Return the keyword arguments that a job's request gives.

        Raises:
            StreamAppError: the endpoint asks for what has not left the process that took the request in.
            InvalidInput: the endpoint does not take this input, as it is another version's, say.
        """
        if request.input is None or self._is_bound:
            raise StreamAppError(
                f"{request.path} asked for what does not leave the process that took the request in: a Request, a "
                "Response, an upload, a dependency, a secret, or a value that is no JSON"
            )
        parameters = from_json(request.parameters or b"{}")
        missing = [parameter.name for parameter in self.injected if parameter.name not in parameters]
        if missing:
            raise InvalidInput(f"{request.path}: no value came for {', '.join(missing)}")
        try:
            return {**await self.validate(request.input), **parameters}
        except RequestValidationError as error:
            raise InvalidInput(described(error), detail=error.errors()) from None

    def enter(self) -> None:
        """Let what user code fetches in this context be limited as its inputs are."""
        limit_by(self._limits)

    def own_response(self, arguments: dict[str, Any]) -> Response | None:
        """Return the response among the arguments whose headers the endpoint can set."""
        return None if self._response is None else arguments[self._response]

    async def validate(self, data: Any) -> dict[str, Any]:
        """Return the keyword arguments for input that came another way: as values, or as JSON."""
        limit_by(self._limits)
        return await self._arguments(self._validated(data, "body"), "body", {}, uncounted)

    async def validate_value(self, value: Any, take: Take = uncounted) -> dict[str, Any]:
        """Do the same for a value that is no JSON text, also where it is bytes."""
        limit_by(self._limits)
        given = _Raw(value) if isinstance(value, bytes) else value
        return await self._arguments(self._validated(given, "body"), "body", {}, take)

    def _is_nothing(self, given: Any) -> bool:
        """Say whether the whole input, which has a default, is left to that."""
        return not (given.strip() if isinstance(given, bytes) else given)

    def _validated(self, given: Any, location: str) -> Any:
        if self._has_default and self._is_nothing(given):
            default = self.adapter.get_default_value()
            assert default is not None
            return default.value
        if isinstance(given, bytes):
            return self._check_json(given)
        return self._check(given.data if isinstance(given, _Raw) else given, location)

    def _check(self, data: Any, location: str) -> Any:
        try:
            return self.adapter.validate_python(data)
        except ValidationError as error:
            if (count := error.error_count()) > _MOST_ERRORS:
                raise _invalid((location,), f"{count} of its values are not what the endpoint takes", None) from None
            errors = error.errors(include_url=False)
            raise RequestValidationError([{**e, "loc": (location, *e["loc"])} for e in errors]) from None

    def _check_json(self, body: bytes) -> Any:
        """Validate a text as `_check` does what is read from it."""
        if self._is_alike and len(body) <= _ONE_PASS_BYTES and b"NaN" not in body and b"Infinity" not in body:
            try:
                return self.adapter.validator.validate_json(body)
            except ValidationError:  # what is told of it is told the other way
                pass
        return self._check(_parse_json(body, ("body",)) if body.strip() else {}, "body")

    async def _arguments(self, value: Any, location: str, fetched: dict[Any, File], take: Take) -> dict[str, Any]:
        if self._has_media:
            try:
                value = await resolve_media(value, limits=self._limits, fetched=fetched, take=take)
            except DownloadTimeout:
                raise
            except InvalidInput as error:
                raise _invalid((location,), error.message, None) from error
        if self.whole is not None:
            return {self.whole: value}
        return {name: getattr(value, name) for name in self.names}

    def _from_query(self, request: Request) -> Any:
        query = request.query_params
        given = query.get("_input")
        data = _parse_json(given.encode(), ("query", "_input")) if given is not None else {}
        if not isinstance(data, dict):
            raise _invalid(("query", "_input"), "_input is a JSON object", given)
        own = [(name, value) for name, value in query.multi_items() if not name.startswith("_")]
        try:
            return self._form.read(own, data)
        except ValueError as error:
            raise _invalid(("query",), str(error), None) from None

    async def _from_body(self, request: Request, declared: str | None, take: Take) -> Any:
        """Return a body's JSON text, what a form says, or the body as it came."""
        content_type = (declared or "").partition(";")[0].strip().lower()
        if content_type == "multipart/form-data" or has_read_form(request):
            return await self._from_form(request, take)
        body = await request.body()
        if declared is None or content_type == "application/json" or content_type.endswith("+json"):
            if body.startswith(b'{"'):
                return body
            return await in_pool(_in_utf8, body) if len(body) > LARGE_BYTES else _in_utf8(body)
        if content_type == "application/x-www-form-urlencoded" and not _begins_as_json(body):
            return await self._from_form(request, take)
        if self.media_type is not None:
            return _Raw(body) if body else body
        raise HTTPException(
            415,
            f"Expected a body of application/json or multipart/form-data, got {content_type[:80]!r}; "
            "with curl add -H 'Content-Type: application/json'",
        )

    async def _from_form(self, request: Request, take: Take) -> Any:
        try:
            form = await read_form(request, max_part_size=self._limits.max_bytes)
        except UnicodeError as error:  # of a charset like idna; Starlette goes on only where others fail
            raise MalformedRequest(f"the form is not in the charset that it names: {error}") from None
        for _, value in form.multi_items():
            if isinstance(value, UploadFile):
                weakref.finalize(value, value.file.close)  # when both the request and the job have let go of it
        try:
            return await self._form.read_uploads(form.multi_items(), take)
        except ValueError as error:
            raise _invalid(("body",), str(error), None) from None

    async def _plain(self, given: Any, fetched: dict[Any, File]) -> bytes | None:
        """Return an input as JSON that needs nothing but the server's own files; None where it cannot be had."""
        if isinstance(given, _Raw):
            return None
        if self._has_default and self._is_nothing(given):
            return b""
        if isinstance(given, bytes) and not fetched:
            return given if given.strip() else b"{}"
        return await in_pool(_written, given, fetched) if fetched else _written(given, fetched)


def described(error: RequestValidationError) -> str:
    """Say in one line which values are wrong, and how."""
    return "; ".join(f"{'.'.join(map(str, e['loc'][1:])) or 'input'}: {e['msg']}" for e in error.errors())


def markers_of(parameter: inspect.Parameter) -> tuple[Any, ...]:
    """Return where FastAPI looks for its markers: the default, and what stands in `Annotated` behind the type."""
    return (parameter.default, *typing.get_args(parameter.annotation)[1:])


def _asks_inline(given: Any) -> bool:
    """Say whether an input sets `sync_mode`, whether or not the endpoint has a parameter of that name."""
    if isinstance(given, bytes):
        if b'"sync_mode"' not in given:
            return False
        given = from_json(given)
    return isinstance(given, dict) and str(given.get("sync_mode")).lower() in ("true", "1", "on", "yes")


def _written(given: Any, fetched: dict[Any, File]) -> bytes | None:
    data = from_json(given) if isinstance(given, bytes) else given
    try:
        written = to_json(_with_fetched(data, fetched))
        if b"NaN" in written or b"Infinity" in written:
            from_json(written, allow_inf_nan=False)
    except (PydanticSerializationError, ValueError):  # an upload as such, which is no media; what JSON does not have
        return None
    return written


def _with_fetched(value: Any, fetched: dict[Any, File]) -> Any:
    """Put data URIs in the place of what was fetched: URLs, also where they stand for nothing but text, and uploads."""
    match value:
        case dict():
            return {key: _with_fetched(item, fetched) for key, item in value.items()}
        case list():
            return [_with_fetched(item, fetched) for item in value]
        case str() if value in fetched:
            return fetched[value].data_uri()
        case UploadFile() if value in fetched:
            file = fetched[value]
            return {"url": file.data_uri(), "content_type": file.content_type, "file_name": file.file_name}
    return value


def _is_secret(marker: Any, name: str) -> bool:
    """Say whether FastAPI fills a parameter with what the caller proves by who they are."""
    named = (getattr(marker, "alias", None) or name).replace("_", "-").lower()
    return isinstance(marker, fastapi.params.Cookie) or (
        isinstance(marker, fastapi.params.Header) and named in SECRET_HEADERS
    )


def _is_plain(value: Any) -> bool:
    kind = type(value)
    if kind is dict:
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    if kind is list:
        return all(map(_is_plain, value))
    return math.isfinite(value) if kind is float else value is None or kind in (bool, int, str)


def _in_utf8(body: bytes) -> bytes:
    """Return a JSON text as pydantic reads it: without a byte order mark, not in UTF-16 or 32: as FastAPI has it."""
    if body[:1] not in _FIRST_OF_MARKS and b"\0" not in body[:4]:
        return body
    encoding = json.detect_encoding(body)
    try:
        return body.decode(encoding).encode()
    except UnicodeDecodeError:
        return body


def _begins_as_json(body: bytes) -> bool:
    """Say so of what `curl -d @file` sends without a header."""
    return _in_utf8(body).lstrip()[:1] in (b"{", b"[")


def _parse_json(body: bytes, location: tuple[str, ...]) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise _invalid(location, f"JSON decode error: {error}", None, type_="json_invalid") from None


def _is_alike(schema: Any) -> bool:
    """Say whether a JSON text may be validated in one pass: nothing in a schema tells it from what is read from it."""
    if schema["type"] not in _ALIKE or _UNLIKE & {key for key in schema if schema[key]}:
        return False
    if _UNLIKE & schema.get("config", {}).keys() or schema.get("function", {}).get("type") == "with-info":
        return False
    if not isinstance(schema.get("validation_alias", ""), str):
        return False
    below = [schema[key] for key in _BELOW if key in schema]
    return all(map(_is_alike, [*below, *schema.get("fields", {}).values(), *schema.get("definitions", ())]))


def _invalid(
    location: tuple[str, ...], message: str, given: Any, *, type_: str = "value_error"
) -> RequestValidationError:
    return RequestValidationError([{"type": type_, "loc": location, "msg": message, "input": given}])


def _is_injected(parameter: inspect.Parameter, path: str) -> bool:
    if f"{{{parameter.name}}}" in path or f"{{{parameter.name}:" in path:
        return True
    return any(isinstance(marker, _MARKERS) for marker in markers_of(parameter))


def _is_request(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.annotation, type) and issubclass(parameter.annotation, Request)


def _adapter(
    spec: EndpointSpec, parameters: list[inspect.Parameter]
) -> tuple[str | None, TypeAdapter[Any], list[inspect.Parameter]]:
    """Return the parameter that is the whole input, what checks the input, and the parameters that it fills.

    Of several, a `Form()` or `File()` beside one with fields is left to FastAPI, which takes both from the same form.
    """
    try:
        keys = TypeAdapter(_make_model(spec, parameters))
        _refuse_bare_models(spec, keys.core_schema)
        with_fields = [parameter for parameter in parameters if has_fields(keys.core_schema, parameter.name)]
        if len(parameters) == 1 and _is_whole(parameters[0], has_fields=bool(with_fields)):
            return parameters[0].name, TypeAdapter(_with_default(parameters[0])), parameters
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise DefinitionError(
            f"{where_is(spec.mark, spec.function)}: no request can hold a parameter of this type: "
            f"{error.message.partition('. ')[0].rstrip('.')}; take JSON types, pydantic models, streamapp.Image, "
            "fastapi.UploadFile, or have it injected by fastapi.Depends"
        ) from error
    others = [parameter for parameter in parameters if not isinstance(_body_marker(parameter), Form)]
    is_mixed = len(parameters) > 1 and with_fields and len(others) < len(parameters)
    return _adapter(spec, others) if is_mixed else (None, keys, parameters)


def _refuse_bare_models(spec: EndpointSpec, schema: Any) -> None:
    if _mentions_bare_model(schema):
        raise DefinitionError(
            f"{where_is(spec.mark, spec.function)}: BaseModel itself has no fields, so all that a "
            "request sends would be lost; take a model of your own, or dict[str, Any]"
        )


def _mentions_bare_model(schema: Any) -> bool:
    """Say whether a field is of `BaseModel` itself, as a type variable is for pydantic that is bound to it."""
    match schema:
        case {"type": "model", "cls": cls} if cls is BaseModel:
            return True
        case dict():
            return any(map(_mentions_bare_model, schema.values()))
        case list() | tuple():
            return any(map(_mentions_bare_model, schema))
    return False


def _is_whole(parameter: inspect.Parameter, *, has_fields: bool) -> bool:
    """Say whether a parameter that is alone stands for the body instead of one of its keys."""
    marker = _body_marker(parameter)
    if marker is not None and marker.embed:
        return False
    return has_fields or (marker is not None and not isinstance(marker, Form))


def _body_marker(parameter: inspect.Parameter) -> Body | None:
    return next((marker for marker in markers_of(parameter) if isinstance(marker, Body)), None)


def _with_default(parameter: inspect.Parameter) -> Any:
    default = parameter.default
    if default is parameter.empty:
        return parameter.annotation
    return Annotated[parameter.annotation, default if isinstance(default, FieldInfo) else Field(default=default)]


def _make_model(spec: EndpointSpec, parameters: list[inspect.Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        parameter.name: (parameter.annotation, ... if parameter.default is parameter.empty else parameter.default)
        for parameter in parameters
    }
    name = "".join(word.capitalize() for word in spec.name.split("_")) + "Input"
    model = create_model(name, __config__=ConfigDict(protected_namespaces=()), **fields)
    model.model_rebuild()  # raises what names a type that is not known
    return model
