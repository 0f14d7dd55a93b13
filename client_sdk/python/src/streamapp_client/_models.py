"""Define the event as the user of the client sees it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ._errors import ApiError, NoImage
from ._images import image_urls, open_image

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Event:
    """Hold one event of a job.

    Attributes:
        name: preview, output, progress, log, lagged, or the app's own; "message" where the server gave none.
        data: the decoded JSON.
        id: its place in the job, `{job}:{attempt}.{n}`; ids rise, with holes.
    """

    name: str
    data: Any
    id: str
    download: Callable[[str], bytes] = field(repr=False, compare=False)

    def image(self) -> "Image.Image":
        """Open the event's first image: `data["image"]` or `data["images"][0]`, a data URI or a URL of the same server.

        Raises:
            NoImage: the event has none, it cannot be opened, or pillow is not installed.
        """
        return open_image(self._image_urls()[0], self.download)

    def images(self) -> "list[Image.Image]":
        """Open all of the event's images; raise NoImage as `image` does."""
        return [open_image(url, self.download) for url in self._image_urls()]

    def _image_urls(self) -> list[str]:
        urls = image_urls(self.data)
        if not urls:
            keys = list(self.data) if isinstance(self.data, dict) else type(self.data).__name__
            raise NoImage(f'Expected data["image"] or data["images"] in the event {self.name!r}, got {keys}')
        return urls


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Hold a job's state at one moment.

    Attributes:
        id: the job.
        status: queued, running, succeeded, failed or cancelled.
        position: how many jobs run before it, while it is queued.
        created_at, started_at, finished_at: seconds since 1970, by the server's clock; None before.
        error: why it failed, or was cancelled.
        logs: the lines that are new since the last update, `{"message", "level", "source"}` each.
    """

    id: str
    status: str
    position: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: ApiError | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Say whether the job has ended, in whatever way."""
        return self.status in ("succeeded", "failed", "cancelled")

    def with_logs(self, logs: list[dict[str, Any]]) -> "JobStatus":
        """Return the same state with new lines."""
        return replace(self, logs=logs)

    @classmethod
    def read(cls, data: dict[str, Any], error: ApiError | None) -> "JobStatus":
        """Read what `/jobs/{id}` answers."""
        created_at, started_at, finished_at = data["created_at"], data["started_at"], data["finished_at"]
        return cls(data["job_id"], data["status"], data["position"], created_at, started_at, finished_at, error)
