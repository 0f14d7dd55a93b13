"""Take the body of a response apart into outputs of a job: pure, bytes in, values out, however they were cut.

Server-sent events are one output each, and so are lines of JSON and, as they come, pieces of text; a JSON document, a
text of known length and a file are the result as a whole. What a response says besides (ids, comments, most headers)
has no place in a job's log.
"""

import codecs
import re
from collections.abc import Iterable
from email.message import Message
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urljoin

from pydantic_core import from_json
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from ..errors import NotEncodable
from ..jobs.events import Output, is_name
from ..media import File

_MOST_BYTES = 64 * 1024 * 1024  # of what is held until it is whole: as much as the body of a request may have
_LINE_END = re.compile(rb"\r\n|\n|\r")
_JSON_LINES = {
    *("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl"),
    *("application/jsonlines", "application/x-jsonlines", "application/stream+json"),
}
_SENTINEL = b"[DONE]"  # with which OpenAI's streams end


class Reader(Protocol):
    """Take the body of one response."""

    def feed(self, chunk: bytes) -> Iterable[Any]:
        """Return the outputs that have become whole with this piece."""
        ...

    def end(self) -> Any:
        """Return the result where it is not the last output.

        Raises:
            HTTPException: the response tells of an error.
        """
        ...


def reader_of(status: int, headers: Headers, *, url: str) -> Reader:
    """Return what reads a response with this head.

    Args:
        url: what the response is an answer at: where it leads to may be told relative to it.
    Raises:
        NotEncodable: its body is compressed.
    """
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if 300 <= status < 400 and "location" in headers:
        return _Redirect(urljoin(url, headers["location"]))
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise NotEncodable(
            f"the endpoint's response is compressed ({encoding[:40]}), which no job reads; return it as it is, and "
            "leave compression to a middleware, or call the endpoint directly"
        )
    if status < 300:
        if content_type == "text/event-stream":
            return _Events()
        if content_type in _JSON_LINES:
            return _JsonLines()
        if content_type.startswith("text/") and "content-length" not in headers:
            return _Pieces(headers)
    return _Whole(status, content_type, headers)


class _Held:
    """Hold bytes until they are whole."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > _MOST_BYTES:
            raise NotEncodable(
                f"the endpoint's response has {self._what} of more than {_MOST_BYTES >> 20} MiB, which no job keeps; "
                "return a streamapp.File, or call the endpoint directly"
            )
        self._pieces.append(piece)

    def take(self) -> bytes:
        whole = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return whole


class _Lines:
    """Cut bytes into lines, which end with LF, CR or both."""

    def __init__(self) -> None:
        self._line = _Held("a line")
        self._was_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        if not chunk:
            return []
        rest = chunk.removeprefix(b"\n") if self._was_cr else chunk
        self._was_cr = rest.endswith(b"\r")
        first, *others = _LINE_END.split(rest)
        self._line.add(first)
        lines = []
        for other in others:
            lines.append(self._line.take())
            self._line.add(other)
        return lines

    def end(self) -> bytes:
        return self._line.take()


class _Events:
    """Read server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream.

    Divergence: the last block needs no blank line behind it, where the response has ended well.
    """

    def __init__(self) -> None:
        self._lines = _Lines()
        self._data = _Held("an event")
        self._has_data = self._is_begun = False
        self._name = ""

    def feed(self, chunk: bytes) -> Iterable[Any]:
        return [output for line in self._lines.feed(chunk) if (output := self._take(line)) is not None]

    def end(self) -> Any:
        if line := self._lines.end():
            self._take(line)
        return self._dispatched()

    def _take(self, line: bytes) -> Output | None:
        if not line:
            return self._dispatched()
        if not self._is_begun:
            line = line.removeprefix(codecs.BOM_UTF8)
            self._is_begun = True
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.add(b"\n" + value if self._has_data else value)
            self._has_data = True
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None

    def _dispatched(self) -> Output | None:
        data, name = self._data.take(), self._name
        self._has_data, self._name = False, ""
        if not data or data.strip() == _SENTINEL:
            return None
        return Output(_value(data), name if is_name(name) else "output")


class _JsonLines:
    """Read lines of JSON."""

    def __init__(self) -> None:
        self._lines = _Lines()

    def feed(self, chunk: bytes) -> Iterable[Any]:
        return [Output(_value(line)) for line in self._lines.feed(chunk) if line.strip()]

    def end(self) -> Any:
        line = self._lines.end()
        return Output(_value(line)) if line.strip() else None


class _Pieces:
    """Read text that is made while it is sent: pieces, and in the end the whole, as their result."""

    def __init__(self, headers: Headers) -> None:
        self._decoder = codecs.getincrementaldecoder(_charset(headers))(errors="replace")
        self._whole = _Held("a text")
        self._n = 0

    def feed(self, chunk: bytes) -> Iterable[Any]:
        return self._told(self._decoder.decode(chunk))

    def end(self) -> Any:
        rest = self._told(self._decoder.decode(b"", final=True))
        whole = self._whole.take().decode()
        is_told = self._n == 1 and not rest
        return None if is_told or not whole else whole

    def _told(self, text: str) -> list[Any]:
        if not text:
            return []
        self._whole.add(text.encode(errors="replace"))
        self._n += 1
        return [Output(text)]


class _Redirect:
    """Tell where a response leads to, which is nothing that a job follows."""

    def __init__(self, url: str) -> None:
        self._url = url

    def feed(self, chunk: bytes) -> Iterable[Any]:
        return ()

    def end(self) -> Any:
        return {"url": self._url}


class _Whole:
    """Read what is one value: a JSON document, a text, a file; or what a response tells of an error."""

    def __init__(self, status: int, content_type: str, headers: Headers) -> None:
        self._status = status
        self._type = content_type
        self._headers = headers
        self._body = _Held("a body")

    def feed(self, chunk: bytes) -> Iterable[Any]:
        self._body.add(chunk)
        return ()

    def end(self) -> Any:
        body = self._body.take()
        if self._status >= 400:
            raise HTTPException(self._status, self._detail(body))
        if not body:
            return None
        return self._plain(body) if self._is_plain else self._file(body)

    def _file(self, body: bytes) -> File:
        name = _head(self._headers, "content-disposition").get_filename()
        try:
            return File(body, self._type, name)
        except ValueError:  # no content type: what it is, its first bytes say
            return File(body, file_name=name)

    @property
    def _is_plain(self) -> bool:
        return self._type.startswith("text/") or self._is_json

    @property
    def _is_json(self) -> bool:
        return self._type == "application/json" or self._type.endswith("+json")

    def _plain(self, body: bytes) -> Any:
        return _value(body) if self._is_json else body.decode(_charset(self._headers), errors="replace")

    def _detail(self, body: bytes) -> Any:
        told = self._plain(body) if body and self._is_plain else None
        if isinstance(told, dict) and "detail" in told:
            told = told["detail"]
        return told or _phrase(self._status)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # a number of the app's own
        return f"HTTP {status}"


def _value(data: bytes) -> Any:
    try:
        return from_json(data)
    except ValueError:
        return data.decode(errors="replace")


def _head(headers: Headers, name: str) -> Message:
    """Return a header's value and parameters as the standard library reads them."""
    message = Message()
    message[name] = headers.get(name, "")
    return message


def _charset(headers: Headers) -> str:
    named = str(_head(headers, "content-type").get_param("charset") or "utf-8")
    try:
        b"text".decode(named, "replace")
    except (LookupError, ValueError):
        return "utf-8"
    return named
