"""Serve `@realtime` methods over WebSockets.

Two protocols are spoken. A client that asks for the subprotocol `streamapp.v1` is one of ours: its inputs and events
have numbers, and it may come back to its session. All others are spoken to as fal's clients are.
"""

from starlette.types import Receive, Scope, Send

from ..runtime import Runtime, ServedApp
from ..session import SessionSpec
from . import own_frames
from .conversation import RealtimeMethod
from .fal_socket import FalSocket
from .live import LiveSessions
from .own_socket import OwnSocket


class RealtimeRoute:
    """Serve one realtime method: an ASGI app."""

    def __init__(self, runtime: Runtime, served: ServedApp, spec: SessionSpec, sessions: LiveSessions) -> None:
        self._method = RealtimeMethod(runtime, served, spec, sessions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket."""
        await receive()  # that there is a handshake
        is_own = own_frames.SUBPROTOCOL in scope.get("subprotocols", ())
        socket = (OwnSocket if is_own else FalSocket)(self._method, scope, receive, send)
        await socket.serve()
