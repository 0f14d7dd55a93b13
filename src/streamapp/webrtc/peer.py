"""Hold one peer connection of a session's client, from its offer to its end; on the loop.

The client offers a data channel and a video; over the channel the session's own protocol is spoken. A peer that is not
up in time is closed, and so is one whose session has ended. Its session outlives it as it outlives a WebSocket.
"""

import asyncio
from contextlib import suppress
from typing import Any

from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from starlette.types import Message as Asgi
from starlette.types import Scope

from ..addresses import is_loopback
from ..errors import InvalidInput, Unavailable
from ..http.call import payer_in
from ..process.logs import logger
from ..session import SIGNALLING
from ..settings import IceServer, Settings
from ..sockets.conversation import RealtimeMethod
from ..sockets.own_socket import OwnSocket
from ..sockets.wire import FILM_EXTENSION
from .bounds import bound
from .datasocket import LABEL, DataSocket
from .film import Film, FilmTrack
from .offers import Offer

_CONNECT_S = 10.0
_CLOSE_S = 10.0
# A client closes the connection when it has seen the last image, which may come behind the last word.
_LAST_LOOK_S = 2.0
_LOOPBACK = "127.0.0.1"
_SCHEMES = {"http": "ws", "https": "wss"}


class Peer:
    """Serve one client; on the loop.

    Args:
        scope: of the request that brought the offer.
    """

    def __init__(self, method: RealtimeMethod, scope: Scope, offer: Offer) -> None:
        runtime = method.runtime
        self._method = method
        self._offer = offer
        self._share = runtime.inputs.share(payer_in(scope), self)
        self._film = Film(runtime.call_on_loop)
        self._track = FilmTrack(self._film)
        self._scope = _as_of_websocket(scope, self._film)
        self._pc = _connection(method.settings)
        self._opened: asyncio.Future[DataSocket | None] = asyncio.get_running_loop().create_future()
        self._cutting: asyncio.Task[None] | None = None
        self._pc.on("datachannel", self._open)
        self._pc.on("connectionstatechange", self._look)

    async def answer(self) -> str:
        """Return the answer, with the addresses at which the server can be reached.

        Raises:
            InvalidInput: there is none to this offer.
            Unavailable: the server has no address.
        """
        pc = self._pc
        try:
            if self._offer.has_video:
                transceiver = pc.addTransceiver(self._track, direction="sendonly")
                transceiver.setCodecPreferences(_VP8)
            await pc.setRemoteDescription(RTCSessionDescription(self._offer.sdp, "offer"))
            bound(pc, self._cut)
            self._choose_addresses()
            await pc.setLocalDescription()
            if self._method.settings.webrtc_ice_servers:
                for candidate in self._offer.candidates:
                    await pc.addIceCandidate(candidate)
        except Exception as error:  # aiortc's, at whatever it does not expect in an offer
            raise InvalidInput(
                f"sdp: expected an offer that can be answered: {type(error).__name__} {error}"
            ) from error
        answer: str = pc.localDescription.sdp
        if "a=candidate:" not in answer:
            raise Unavailable(
                "this machine has no address for WebRTC, which takes none of loopback for other machines: set "
                "STREAMAPP_WEBRTC_ADDRESSES; the same session can be opened by a WebSocket"
            )
        return answer

    def _choose_addresses(self) -> None:
        """Have those listened on that are set, else all that the machine has: of loopback where the client is here.

        With ICE servers it is left out, as they would be asked from there, in vain, for 5 s.
        """
        assert self._pc.sctp is not None  # there is no offer without
        settings = self._method.settings
        own = [str(address) for address in settings.webrtc_addresses]
        client = self._scope.get("client") or ("", 0)
        added = [_LOOPBACK] if is_loopback(client[0]) and not settings.webrtc_ice_servers else []
        connection = self._pc.sctp.transport.transport.iceGatherer._connection
        gather = connection.get_component_candidates

        async def gather_here(component: int, addresses: list[str]) -> Any:
            return await gather(component, own or [*addresses, *added])

        connection.get_component_candidates = gather_here  # type: ignore[method-assign, assignment]

    async def serve(self) -> None:
        """Serve the client that was answered, until its session has ended, or it has gone."""
        await asyncio.wait({self._opened}, timeout=_CONNECT_S)
        self.end()
        socket = self._opened.result()
        if socket is None:
            return

        async def receive() -> Asgi:
            message = await socket.receive()
            self._give_place_up()
            return message

        await OwnSocket(self._method, self._scope, receive, socket.send).serve()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LOOK_S):
                await socket.ended()

    def _cut(self) -> None:
        """End it at once, whatever its session waits for."""
        self._hang_up()
        self._cutting = asyncio.create_task(self.close())

    def _give_place_up(self) -> None:
        """Give the place of one that has no session yet up: its session takes one, or has it."""
        self._method.runtime.places.leave(self)

    def end(self) -> None:
        """End it while it has no session, as no more are begun."""
        if not self._opened.done():
            self._opened.set_result(None)

    async def close(self) -> None:
        """Let go of everything; again is without effect."""
        self._give_place_up()
        self.end()
        self._share.let_go(self)
        self._track.stop()
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._pc.close()
        except Exception as error:  # aiortc's, of a connection that was half made; or it takes too long
            logger.error("a peer connection could not be closed", exc_info=error)

    def _open(self, channel: RTCDataChannel) -> None:
        is_reliable = channel.ordered and channel.maxRetransmits is None and channel.maxPacketLifeTime is None
        if channel.label == LABEL and is_reliable and not self._opened.done():
            self._opened.set_result(DataSocket(channel, self._share, self._method.settings.max_message_bytes))
        else:  # each would take memory, and there may be 65,535 of them
            self._hang_up()

    def _look(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._hang_up()

    def _hang_up(self) -> None:
        self.end()
        socket = self._opened.result()
        if socket is not None:
            socket.end()


# Every browser has it: https://www.rfc-editor.org/rfc/rfc7742#section-5
_VP8 = [codec for codec in RTCRtpSender.getCapabilities("video").codecs if codec.mimeType in ("video/VP8", "video/rtx")]


def _connection(settings: Settings) -> RTCPeerConnection:
    """Return a connection; with no list of servers aiortc would ask one of Google's.

    Not with its policy "max-bundle", which in 1.16 closes the one transport where the other side names it second.
    """
    servers = [ice_server(server) for server in settings.webrtc_ice_servers]
    return RTCPeerConnection(RTCConfiguration(servers))


def ice_server(server: IceServer) -> RTCIceServer:
    """Return a server as aiortc has it."""
    credential = None if server.credential is None else server.credential.get_secret_value()
    return RTCIceServer(list(server.urls), server.username, credential)


def _as_of_websocket(scope: Scope, film: Film) -> Scope:
    """Return the scope of the WebSocket that the session would have had."""
    return {
        **scope,
        "type": "websocket",
        "scheme": _SCHEMES.get(scope.get("scheme", "http"), "ws"),
        "path": scope["path"].removesuffix(SIGNALLING),
        "extensions": {FILM_EXTENSION: film},
    }
