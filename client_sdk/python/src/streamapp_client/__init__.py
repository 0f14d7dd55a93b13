"""Call a streamapp server: events as they arrive, typed errors, images.

from streamapp_client import Client

for event in Client("http://127.0.0.1:8000").stream("/stream", {"prompt": "a red circle"}):
    if event.name in ("preview", "output"):
        event.image().save(f"{event.name}.png")
"""

from ._async_client import AsyncClient, AsyncJobHandle, AsyncStream
from ._async_session import AsyncSession
from ._client import Client, JobHandle, Stream
from ._decoder import ServerSentEvent, SSEDecoder
from ._errors import (
    ApiError,
    Cancelled,
    ClientError,
    ConnectionFailed,
    DeadlineExceeded,
    EndpointFailed,
    InvalidInput,
    JobUnfinished,
    MalformedRequest,
    NoImage,
    NotFound,
    NotSent,
    PayloadTooLarge,
    QueueFull,
    SessionEnded,
    StreamInterrupted,
    Unauthorized,
    Unavailable,
    UnexpectedAnswer,
)
from ._models import Event, JobStatus
from ._session import Session

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJobHandle",
    "AsyncSession",
    "AsyncStream",
    "Cancelled",
    "Client",
    "ClientError",
    "ConnectionFailed",
    "DeadlineExceeded",
    "EndpointFailed",
    "Event",
    "InvalidInput",
    "JobHandle",
    "JobStatus",
    "JobUnfinished",
    "MalformedRequest",
    "NoImage",
    "NotFound",
    "NotSent",
    "PayloadTooLarge",
    "QueueFull",
    "SSEDecoder",
    "ServerSentEvent",
    "Session",
    "SessionEnded",
    "Stream",
    "StreamInterrupted",
    "Unauthorized",
    "Unavailable",
    "UnexpectedAnswer",
]
