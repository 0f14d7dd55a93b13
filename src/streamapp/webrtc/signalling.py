"""Answer what is asked before a session by WebRTC: which servers help to find the way, and an offer.

It is our own HTTP, so the guards of all requests stand before it. A peer has a place from its offer on; when it says
which session it wants, that has one.
"""

import asyncio

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..errors import InvalidInput, PayloadTooLarge
from ..http.call import nameless_in
from ..runtime import Runtime, ServedApp
from ..session import SessionSpec
from ..sockets.conversation import RealtimeMethod
from ..sockets.live import LiveSessions
from .offers import MAX_BYTES, Description, read
from .peer import Peer, ice_server

_MAX_BODY_BYTES = 2 * MAX_BYTES  # as JSON escapes it


class Signalling:
    """Serve one realtime method's two routes.

    Args:
        peers: where those that are open are counted.
    """

    def __init__(
        self, runtime: Runtime, served: ServedApp, spec: SessionSpec, sessions: LiveSessions, peers: set[object]
    ) -> None:
        self._runtime = runtime
        self._app = served.name
        self._method = RealtimeMethod(runtime, served, spec, sessions)
        self._peers = peers

    async def ice_servers(self, request: Request) -> Response:
        """Tell the servers that a browser's own connection is made with, as its constructor takes them."""
        servers = []
        for server in map(ice_server, self._runtime.settings.webrtc_ice_servers):
            told = {"urls": server.urls, "username": server.username, "credential": server.credential}
            servers.append({name: value for name, value in told.items() if value is not None})
        return JSONResponse({"ice_servers": servers}, headers={"Cache-Control": "no-store"})

    async def answer(self, request: Request) -> Response:
        """Answer an offer, and serve who made it.

        Raises:
            InvalidInput, PayloadTooLarge: it is none of ours.
            Unavailable: there are too many sessions.
        """
        offer = read(_described(await _body(request)).sdp)
        if not self._runtime.is_draining:
            self._runtime.start()
        peer = Peer(self._method, request.scope, offer)
        network = nameless_in(request.scope)
        try:
            self._runtime.places.take(peer, app=self._app, kind="webrtc", network=network, end=peer.end)
            sdp = await peer.answer()
        except BaseException:  # refused, or the client has gone meanwhile
            await peer.close()
            raise
        self._peers.add(peer)
        self._runtime.keep(asyncio.create_task(self._serve(peer)))
        return JSONResponse({"type": "answer", "sdp": sdp})

    async def _serve(self, peer: Peer) -> None:
        try:
            await peer.serve()
        finally:
            self._peers.discard(peer)
            await peer.close()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MAX_BODY_BYTES:
            raise PayloadTooLarge(f"an offer is larger than {MAX_BYTES} bytes")
    return bytes(body)


def _described(body: bytes) -> Description:
    try:
        return Description.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidInput(
            f'expected {{"type": "offer", "sdp": ...}}: {where + ": " if where else ""}{first["msg"]}'
        ) from None
