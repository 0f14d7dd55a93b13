"""Define `OpenAI`: what an app says to be asked by OpenAI's clients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from pydantic import TypeAdapter

from ..app import App, Declaration
from ..endpoint import EndpointSpec
from ..errors import DefinitionError
from ..runtime import ServedApp
from ..stores.files import FileStore
from .asked import Ask, Asked, fields_of, needed_of
from .images import Images
from .speech import Speech
from .text import CHAT, COMPLETIONS, Forwards, Text

IMAGES, SPEECH = "/images/generations", "/audio/speech"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAI(Declaration):
    """Have an app answer OpenAI's clients, as an attribute of its class: `openai = streamapp.OpenAI(text="llm")`.

    Args:
        text: the attribute that `setup` sets to a language model, `streamapp.llm.Engine` for one: answers
            `/v1/chat/completions` and `/v1/completions`.
        images: the path of the endpoint that makes pictures of a `prompt`: answers `/v1/images/generations`.
        speech: the path of the endpoint that speaks a text: answers `/v1/audio/speech`.
        model: what clients call the model; where None the language model's own name, else the app's.
    Raises:
        DefinitionError: nothing is named, or not in its form.
    """

    text: str | None = None
    images: str | None = None
    speech: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise DefinitionError(f"OpenAI({field.name}={value!r}): expected text")
        if self.text is not None and not self.text.isidentifier():
            raise DefinitionError(
                f'OpenAI(text={self.text!r}): expected the name of the attribute that setup sets; write text="llm"'
            )
        for name in ("images", "speech"):
            path = getattr(self, name)
            if path is not None and not path.startswith("/"):
                raise DefinitionError(
                    f"OpenAI({name}={path!r}): expected the path of an endpoint; write {'/' + path!r}"
                )
        if self.text is self.images is self.speech is None:
            raise DefinitionError(
                'OpenAI() answers nothing; write OpenAI(text="llm"), images="/stream" or speech="/speak"'
            )


@dataclass(frozen=True, slots=True)
class Model:
    """Hold what an app's `OpenAI` says, and how it is asked.

    Attributes:
        asks: by the path below `/v1`.
        text: its language model, where it has one.
    """

    served: ServedApp
    said: OpenAI
    asks: Mapping[str, Ask]
    text: Text | None

    @property
    def name(self) -> str:
        """Return what clients call it; of a language model that says it itself not before `setup` has returned."""
        own = getattr(self._text_model, "name", None)
        return self.said.model or (own if isinstance(own, str) and own else self.served.name)

    @property
    def known_name(self) -> str:
        """Return what clients may call it as well, which is known before."""
        return _name_of(self.served, self.said)

    async def names(self) -> Sequence[str]:
        """Return all names that it has: those of a server elsewhere are told by that.

        Raises:
            StreamAppError: that does not answer.
        """
        model = self._text_model
        if self.said.model is None and isinstance(model, Forwards):
            return await model.models()
        return [self.name]

    @property
    def _text_model(self) -> object:
        """What `setup` has set, if it has."""
        return None if self.said.text is None else getattr(self.served.app, self.said.text, None)


def paths_said(app: type[App]) -> list[str]:
    """Return the paths below `/v1` at which an app answers, as it says by its class."""
    kinds = {"text": [CHAT, COMPLETIONS], "images": [IMAGES], "speech": [SPEECH]}
    said = _said_by(app)
    return [path for kind, paths in kinds.items() if any(getattr(each, kind) for each in said) for path in paths]


def asked_at(served: ServedApp) -> dict[str, tuple[str, str]]:
    """Return where OpenAI's clients ask for what an app's endpoints make, and by which name; by the endpoints' paths.

    Of a language model these are the endpoints that stream, and need nothing but what is said there.
    """
    found: dict[str, tuple[str, str]] = {}
    said = _said_by(type(served.app))
    for each in said:
        for spec in served.endpoints if each.text is not None else ():
            if spec.kind == "stream" and (path := _text_path(served.reader_of(spec).adapter)):
                found[spec.path] = path, _name_of(served, each)
    for each in said:
        for kind, place, path in (("images", each.images, IMAGES), ("speech", each.speech, SPEECH)):
            if place is not None:
                found[_endpoint_at(served, kind, place).path] = path, _name_of(served, each)
    return found


def _text_path(adapter: TypeAdapter[Any]) -> str | None:
    for name, path in (("messages", CHAT), ("prompt", COMPLETIONS)):
        if name in fields_of(adapter) and needed_of(adapter) <= {name}:
            return path
    return None


def _name_of(served: ServedApp, said: OpenAI) -> str:
    """Return a name that is known before `setup` has returned."""
    return said.model or str(served.name)


def models_of(served: ServedApp, files: FileStore) -> list[Model]:
    """Return what an app has for OpenAI's clients, and have jobs of the endpoints run there that this needs.

    Raises:
        DefinitionError: an endpoint that is named is not there, or cannot be asked so; or two would answer alike.
    """
    return [_model(served, said, files) for said in _said_by(type(served.app))]


def _said_by(app: type[App]) -> list[OpenAI]:
    found = {name: value for base in reversed(app.__mro__) for name, value in vars(base).items()}
    said = {name: value for name, value in found.items() if isinstance(value, OpenAI)}
    for name in ("text", "images", "speech"):
        alike = [attribute for attribute, each in said.items() if getattr(each, name) is not None]
        if len(alike) > 1:
            raise DefinitionError(
                f"{app.__qualname__}: {' and '.join(alike)} both say OpenAI({name}=...); make an app of each"
            )
    return list(said.values())


def _model(served: ServedApp, said: OpenAI, files: FileStore) -> Model:
    asks: dict[str, Ask] = {}
    text = None if said.text is None else Text(type(served.app), said.text)
    model = Model(served, said, asks, text)
    if text is not None:
        for path, spec in text.specs.items():
            served.bind(spec)
            asks[path] = partial(_ask_text, model, path)
    if said.images is not None:
        spec = _endpoint_at(served, "images", said.images)
        asks[IMAGES] = _without_id(Images(spec, served.reader_of(spec).adapter, files).asked)
    if said.speech is not None:
        spec = _endpoint_at(served, "speech", said.speech)
        asks[SPEECH] = _without_id(Speech(spec, served.reader_of(spec).adapter, files).asked)
    return model


def _ask_text(model: Model, path: str, given: Mapping[str, Any], job_id: str) -> Asked:
    assert model.text is not None
    forwards = isinstance(model.text.model_of(model.served.app), Forwards)
    name = (given.get("model") if forwards else None) or model.name
    return model.text.asked(path, given, job_id=job_id, name=name, forwards=forwards)


def _without_id(asked: Callable[[Mapping[str, Any]], Asked]) -> Ask:
    return lambda given, job_id: asked(given)


def _endpoint_at(served: ServedApp, kind: str, path: str) -> EndpointSpec:
    spec = next((spec for spec in served.endpoints if spec.path.rstrip("/") == path.rstrip("/")), None)
    where = f"{type(served.app).__qualname__}: OpenAI({kind}={path!r})"
    if spec is None:
        there = ", ".join(spec.path for spec in served.endpoints) or "none"
        raise DefinitionError(f"{where}: the app has no endpoint there; there are {there}")
    if served.reader_of(spec).takes_more:
        raise DefinitionError(
            f"{where}: {spec.function.__qualname__} takes more than an input, which is all that these clients send; "
            "write an endpoint without path parameters, Request, Header() and Depends()"
        )
    return spec
