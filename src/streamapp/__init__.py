"""Serve generative apps whose results appear while they are being made.

Write the class you would write for fal, run it anywhere with `streamapp serve`, and every client works.
"""

from functools import cache as cached
from typing import TYPE_CHECKING

from .later import names_of

if TYPE_CHECKING:
    from .app import App, RetryConfig
    from .endpoint import HealthCheck, endpoint
    from .errors import Cancelled, InputsEnded, StreamAppError
    from .fal.container import ContainerImage
    from .follow import follow
    from .http.broadcast import Broadcast
    from .jobs.events import Log, Output, Preview, Progress
    from .jobs.pause import Pause
    from .jobs.stream import Stream, current_stream
    from .largefile import LargeFile
    from .media import Audio, File, Image, Video
    from .openai.declared import OpenAI
    from .openai.upstream import Upstream
    from .serve.build import compile_app
    from .serving import Serving, serve_apps
    from .session import realtime, websocket
    from .sockets.rooms import Member, Room, Rooms
else:
    # A name's module is imported when the name is first asked for: who starts a process for one of them, or for what
    # needs none, waits for no other.
    __getattr__ = names_of(
        __name__,
        {
            "App": "app",
            "Audio": "media",
            "Broadcast": "http.broadcast",
            "Cancelled": "errors",
            "ContainerImage": "fal.container",
            "File": "media",
            "HealthCheck": "endpoint",
            "Image": "media",
            "InputsEnded": "errors",
            "LargeFile": "largefile",
            "Log": "jobs.events",
            "Member": "sockets.rooms",
            "OpenAI": "openai.declared",
            "Output": "jobs.events",
            "Pause": "jobs.pause",
            "Preview": "jobs.events",
            "Progress": "jobs.events",
            "RetryConfig": "app",
            "Room": "sockets.rooms",
            "Rooms": "sockets.rooms",
            "Serving": "serving",
            "Stream": "jobs.stream",
            "StreamAppError": "errors",
            "Upstream": "openai.upstream",
            "Video": "media",
            "compile_app": "serve.build",
            "current_stream": "jobs.stream",
            "endpoint": "endpoint",
            "follow": "follow",
            "realtime": "session",
            "serve_apps": "serving",
            "websocket": "session",
        },
        # `streamapp.errors.NotFound` needs no import of its own, as if all names had been imported with the package
        modules=frozenset(
            "addresses aliases app budget errors fal fetch forms generics http inputs jobs jsontext largefile loading "
            "media openai places process runpod runtime serve session settings sockets stores text workers".split()
        ),
    )

__version__ = "0.1.0"

__all__ = [
    "App",
    "Audio",
    "Broadcast",
    "Cancelled",
    "ContainerImage",
    "File",
    "HealthCheck",
    "Image",
    "InputsEnded",
    "LargeFile",
    "Log",
    "Member",
    "OpenAI",
    "Output",
    "Pause",
    "Preview",
    "Progress",
    "RetryConfig",
    "Room",
    "Rooms",
    "Serving",
    "Stream",
    "StreamAppError",
    "Upstream",
    "Video",
    "__version__",
    "cached",
    "compile_app",
    "current_stream",
    "endpoint",
    "follow",
    "realtime",
    "serve_apps",
    "websocket",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
