"""One request to an ASGI application, and what it has answered."""

import json
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Answer:
    """What an application answered to one request."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.sent[1]["body"])["error"]
        return error


async def ask(
    app: ASGIApp,
    path: str = "/stream",
    *,
    method: str = "POST",
    kind: str = "http",
    root_path: str = "",
    server: str = "testserver",
    body: tuple[bytes, ...] = (b"",),
    **headers: str,
) -> Answer:
    """Send one request; `_` in the name of a header stands for `-`."""
    path, _, query = path.partition("?")
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope: Scope = {"type": kind, "path": path, "root_path": root_path, "query_string": query.encode(), "headers": raw}
    scope["server"] = (server, 80)
    if kind == "http":
        scope["method"] = method
    chunks = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in body]
    chunks[-1]["more_body"] = False

    async def receive() -> Message:
        return chunks.pop(0)

    answer = Answer()
    await app(scope, receive, answer.send)
    return answer


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 to a request; tell other kinds of scopes apart by what it sends."""
    if scope["type"] == "http":
        await PlainTextResponse("ok")(scope, receive, send)
    else:
        await send({"type": f"{scope['type']}.passed"})
