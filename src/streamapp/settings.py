"""Hold the settings of a deployment, read once from `STREAMAPP_*` environment variables.

What belongs to an app (its name, timeouts, queue length) is written on the class instead; these are the
defaults and the limits of the box it runs on.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_core import from_json
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Name every setting with its unit; `STREAMAPP_MAX_QUEUE=8` sets `max_queue`.

    More than 15 attributes: one for each setting.
    """

    model_config = SettingsConfigDict(env_prefix="STREAMAPP_", frozen=True, extra="ignore", allow_inf_nan=False)

    api_key: SecretStr | None = Field(
        default=None, min_length=1, description="guards every route but /health, the playground and files"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="origins of web pages that may call, with commas between them; * for all"
    )
    debug: bool = Field(default=False, description="show exceptions' texts and tracebacks to callers")

    max_queue: int = Field(default=64, ge=1, description="jobs that wait for the inference thread")
    max_async_jobs: int = Field(default=100, ge=1, description="jobs of `async def` endpoints at a time")
    timeout_s: float = Field(default=600, gt=0, description="how long a job may run")
    queue_timeout_s: float | None = Field(default=None, gt=0, description="how long a job may wait for its turn")
    stuck_s: float = Field(default=30, gt=0, description="after the deadline, until the thread counts as stuck")
    drain_s: float = Field(default=30, ge=0, description="how long running jobs may go on after SIGTERM")

    ahead_events: int = Field(default=1024, ge=1, description="events ahead of the job's owner, then it waits")
    ahead_bytes: int = Field(default=4 * MIB, ge=1)
    behind_events: int = Field(default=4096, ge=0, description="taken events kept for resume")
    behind_bytes: int = Field(default=8 * MIB, ge=0)
    send_timeout_s: float = Field(default=30, gt=0, description="how long in all a job waits for its reader")
    first_event_wait_s: float = Field(default=1, ge=0, description="until a POST stream starts without an event")
    heartbeat_s: float = Field(default=10, gt=0, description="silence before a comment is sent")
    resume_window_s: float = Field(default=10, ge=0, description="how long a GET stream's job waits for its reader")
    max_resume_window_s: float = Field(default=60, ge=0, description="the most that Streamapp-Resume can ask for")

    job_ttl_s: float = Field(default=600, gt=0, description="how long a finished job is kept")
    max_kept_bytes: int = Field(default=256 * MIB, ge=0, description="events of finished jobs kept in all")

    max_body_bytes: int = Field(default=64 * MIB, ge=1, description="a request's body")
    max_media_bytes: int = Field(default=50 * MIB, ge=1, description="what one input fetches and uploads in all")
    max_image_pixels: int = Field(default=64 * MIB, ge=1, description="width x height of an input image")
    media_timeout_s: float = Field(default=30, gt=0, description="fetching all media of one input")
    allow_private_urls: bool = Field(default=False, description="download inputs from private addresses too")

    files_dir: Path | None = Field(default=None, description="uploads and large results; a temporary folder if unset")
    file_ttl_s: float = Field(default=24 * 3600, gt=0, description="how long a file is kept")
    max_files_bytes: int = Field(default=4 * 1024 * MIB, ge=0, description="files kept in all")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("127.0.0.1", "::1"), description="addresses whose X-Forwarded-* headers are believed; * for all"
    )

    @field_validator("api_key", mode="before")
    @classmethod
    def _strip(cls, key: Any) -> Any:
        """Take the line end off a key that comes from a file; a blank key is then too short."""
        return key.strip() if isinstance(key, str) else key

    @field_validator("cors_origins", "trusted_proxies", mode="before")
    @classmethod
    def _split(cls, names: Any) -> Any:
        """Take one name, or several with commas between them, where it is not a JSON list."""
        if not isinstance(names, str):
            return names
        if not names.lstrip().startswith("["):
            return [name.strip() for name in names.split(",") if name.strip()]
        try:
            return from_json(names)
        except ValueError as error:
            raise ValueError(f"Expected a JSON list, or names with commas between them: {error}") from None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the process's settings; the environment is read at the first call only."""
    return Settings()
