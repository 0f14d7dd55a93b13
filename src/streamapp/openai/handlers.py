"""Ask a handler of Runpod's as its users ask a language model there: by `openai_route` and `openai_input`.

What it yields is passed on: texts that are blocks of a stream already, or values, which become such. The end of the
stream is written here, whether or not the handler has done so.

Source: https://github.com/runpod-workers/worker-vllm, whose handler takes such a job.
"""

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json
from starlette.responses import Response

from ..endpoint import EndpointSpec
from ..errors import EndpointFailed
from ..jobs.events import Event, encode
from ..jobs.job import Job
from .asked import Asked

_DONE = "data: [DONE]"


def asked_of_handler(spec: EndpointSpec, route: str, given: Mapping[str, Any], job_id: str) -> Asked:
    """Return the job that a request to a path is.

    Args:
        route: the path, from `/v1` on.
        given: the request's body.
    """
    asked = {"openai_route": route, "openai_input": given}
    return Asked(spec=spec, input=asked, telling=_Yielded(), streams=bool(given.get("stream")))


class _Yielded:
    """Tell what a handler yields as it is."""

    def told(self, event: Event) -> bytes:
        """Return the blocks of one item."""
        if event.kind != "output":
            return b""
        item = event.json()
        if not isinstance(item, str):
            return b"data: %b\n\n" % encode(item)
        text = item.replace("\r\n", "\n").replace(_DONE, "").strip("\n")
        return f"{text}\n\n".encode() if text.strip() else b""

    def ended(self, job: Job) -> bytes:
        """Return nothing: all that there is was told."""
        return b""

    def whole(self, job: Job) -> Response:
        """Return the one value that it has yielded or returned, of several the last; a text is JSON already."""
        result = None if job.result is None else job.result.json()
        if isinstance(result, str):
            try:
                result = from_json(result)
            except ValueError:
                raise EndpointFailed("the handler's answer is text that is no JSON; yield a dict") from None
        status = 200
        match result:
            case {"error": {"code": int(code)}} | {"object": "error", "code": int(code)}:
                status = code if 400 <= code < 600 else 400
            case {"error": _}:
                status = 400
        return Response(encode(result), status, media_type="application/json")
