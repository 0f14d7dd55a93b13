"""Give fal's clients the tokens that they open sockets with: `POST /rest/tokens/`, and `fal_jwt_token` in a query.

What is no token for the app is refused at the handshake, 401.

Divergence: one that has expired is refused on an open socket. fal-js keeps the one that it has until a socket of it has
been open: refused at the handshake it would show it for ever. One frame is what it takes for a lost token, and what
fal_client raises.
"""

import json
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ..errors import MalformedRequest
from ..http.call import caller_in
from ..http.file_routes import json_object
from ..http.route import LaterRoute
from ..http.tokens import MAX_TOKEN_S, Tokens

_USUAL_S = 120  # what the clients ask for
_MAX_APPS, _MAX_NAME = 20, 200
_MAX_SHOWN = 40
_EXPIRED = "the token has expired; ask for a new one, and connect again"


def add_token_route(api: FastAPI) -> None:
    """Serve tokens; who asks has the API key, where there is one."""
    tokens: Tokens = api.state.tokens

    async def token(request: Request) -> Response:
        asked = await json_object(request)
        apps, lasts_s = _apps(asked.get("allowed_apps")), _seconds(asked.get("token_expiration", _USUAL_S))
        return JSONResponse(tokens.make(apps, lasts_s=lasts_s, caller=caller_in(request.scope)))

    api.router.routes.append(LaterRoute("/rest/tokens/", token, methods=["POST"], include_in_schema=False))


def _apps(asked: Any) -> list[str]:
    """Return the names of the apps: each comes alone, or as an endpoint's id, `owner/name/path`."""
    if not isinstance(asked, list) or not 0 < len(asked) <= _MAX_APPS or not all(map(_is_id, asked)):
        raise MalformedRequest(f"allowed_apps: expected a list of 1 to {_MAX_APPS} names of apps, got {_shown(asked)}")
    return [id.strip("/").split("/")["/" in id.strip("/")] for id in asked]


def _is_id(asked: Any) -> bool:
    return isinstance(asked, str) and len(asked) <= _MAX_NAME and bool(asked.strip("/"))


def _seconds(asked: Any) -> float:
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 1 <= asked <= MAX_TOKEN_S:
        raise MalformedRequest(f"token_expiration: expected 1 to {MAX_TOKEN_S} seconds, got {_shown(asked)}")
    return asked


def _shown(asked: Any) -> str:
    return json.dumps(asked)[:_MAX_SHOWN]


async def tell_expired(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a handshake with the one frame that has every client of fal's notice."""
    await receive()
    await send({"type": "websocket.accept"})
    told = {"type": "x-fal-error", "status": "error", "error": "Unauthorized", "reason": _EXPIRED}
    await send({"type": "websocket.send", "text": json.dumps(told)})
    await send({"type": "websocket.close", "code": 1008, "reason": _EXPIRED})
