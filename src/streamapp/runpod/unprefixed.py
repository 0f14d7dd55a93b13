"""Lead local scripts to an endpoint without its `/v2/{endpoint_id}`: Runpod's `--rp_serve_api` has no such prefix.

The server's own paths stay what they are, `/health` as well where a key guards the server: it is open, and that of an
endpoint is not.
"""

import re
from collections.abc import Sequence

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from ..http.face import ASKED_PATH, Face
from ..runtime import Runtime

_PATH = re.compile(r"/(?:run|runsync|purge-queue|health)/?|/(?:status|status-sync|stream|cancel|retry)/[^/]+/?")


class Unprefixed:
    """Put the prefix before the paths of an endpoint's operations.

    Args:
        prefix: `/v2/{endpoint_id}`.
        is_guarded: a key guards the server.
    """

    def __init__(self, app: ASGIApp, *, prefix: str, is_guarded: bool) -> None:
        self.app = app
        self._prefix = prefix
        self._is_guarded = is_guarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            path = scope["path"].removeprefix(root)
            if _PATH.fullmatch(path) and not (self._is_guarded and path.startswith("/health")):
                scope = {**scope, "path": root + self._prefix + path, ASKED_PATH: path}
        await self.app(scope, receive, send)


def led_without_prefix(endpoint_id: str) -> Face:
    """Return what leads to an endpoint by the bare names of its operations; it goes before other faces."""

    def middleware(runtime: Runtime) -> Sequence[Middleware]:
        is_guarded = runtime.settings.api_key is not None
        return [Middleware(Unprefixed, prefix=f"/v2/{endpoint_id}", is_guarded=is_guarded)]

    return Face(name="Runpod's local server", middleware=middleware)
