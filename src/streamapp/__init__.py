"""Serve generative apps whose results appear while they are being made.

Write the class you would write for fal, run it anywhere with `streamapp serve`, and every client works.
"""

from functools import cache as cached

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
from .session import realtime, websocket
from .sockets.rooms import Member, Room, Rooms

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
    "websocket",
]
