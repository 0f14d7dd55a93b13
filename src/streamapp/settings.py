"""Hold the settings of a deployment, read once from `STREAMAPP_*` environment variables.

What belongs to an app (its name, timeouts, queue length) is written on the class instead; these are the
defaults and the limits of the box it runs on. Variables that are no settings are the app's or the platform's
(Kubernetes makes `STREAMAPP_PORT=tcp://...` of a service's name); one that looks like a slip of the pen is told.
"""

import contextvars
import difflib
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyAddress,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, from_json

from .errors import DefinitionError
from .process.logs import logger

MIB = 1024 * 1024
#: how results and outputs have their files: at URLs, or inline, as data URIs
MediaForm = Literal["url", "inline"]

_PREFIX = "STREAMAPP_"
_EXPECTED = {int: "an integer", float: "a number", bool: "true or false", Path: "a folder", SecretStr: "a key"}
_NEAR = 0.77  # MAX_QUEU, MAXQUEUE and MAX_QEUUE are MAX_QUEUE; PORT, SERVICE_HOST and MODEL_DIR are nothing of ours
_MAX_SHOWN = 100


def _host_name(name: str) -> str:
    if re.fullmatch(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*", name) is None:
        raise ValueError("Expected names like example.org or *.example.org, without scheme and port")
    return name


def _ice_url(url: str) -> str:
    if re.fullmatch(r"(stuns?|turns?):[^\s/?:@]+(:[0-9]{1,5})?(\?transport=(udp|tcp))?", url) is None:
        raise ValueError("Expected URLs like stun:stun.example.org:3478 or turn:turn.example.org?transport=udp")
    return url


def _several(urls: Any) -> Any:
    return [urls] if isinstance(urls, str) else urls


class IceServer(BaseModel):
    """Name a STUN or TURN server as browsers have it: https://www.w3.org/TR/webrtc/#dom-rtciceserver."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    urls: Annotated[
        tuple[Annotated[str, AfterValidator(_ice_url)], ...], BeforeValidator(_several), Field(min_length=1)
    ]
    username: str | None = None
    credential: SecretStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _take_url(cls, value: Any) -> Any:
        """Take a URL alone."""
        return {"urls": value} if isinstance(value, str) else value


class Settings(BaseModel):
    """Name every setting with its unit; `STREAMAPP_MAX_QUEUE=8` sets `max_queue`.

    More than 15 attributes: one for each setting.

    Divergence: pydantic-settings, which does this as well, takes a twentieth of a server's start to be imported.
    """

    # Deferred: who imports an app, and serves none, needs no settings.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, validate_default=True, defer_build=True)

    api_key: SecretStr | None = Field(
        default=None, min_length=1, description="guards every route but /health, the playground and files"
    )
    worker_secret: SecretStr | None = Field(
        default=None, min_length=1, description="what Runpod's workers elsewhere know, and no caller"
    )
    cors_origins: tuple[str, ...] = Field(
        default=(), description="origins of web pages that may call, with commas between them; * for all"
    )
    allowed_hosts: tuple[Annotated[str, AfterValidator(_host_name)], ...] = Field(
        default=(), description="names by which a proxy or a tunnel leads to loopback without a key; * for all"
    )
    debug: bool = Field(default=False, description="show exceptions' texts and tracebacks to callers")

    max_queue: int = Field(default=64, ge=1, description="jobs that wait for the inference thread")
    max_async_jobs: int = Field(default=100, ge=1, description="jobs of `async def` endpoints at a time")
    max_sessions: int = Field(default=1000, ge=1, description="WebSockets of apps at a time")
    max_message_bytes: int = Field(default=16 * MIB, ge=1, description="one message of a WebSocket")
    timeout_s: float = Field(default=600, gt=0, description="how long a job may run")
    queue_timeout_s: float | None = Field(default=None, gt=0, description="how long a job may wait for its turn")
    stuck_s: float = Field(default=30, gt=0, description="after the deadline, until the thread counts as stuck")
    drain_s: float = Field(default=30, ge=0, description="how long running jobs may go on after SIGTERM")

    ahead_events: int = Field(default=1024, ge=1, description="events ahead of the job's owner, then it waits")
    ahead_bytes: int = Field(default=4 * MIB, ge=1, description="their bytes, of which either bound holds")
    behind_events: int = Field(default=4096, ge=0, description="taken events kept for resume")
    behind_bytes: int = Field(default=8 * MIB, ge=0, description="their bytes, of which either bound holds")
    send_timeout_s: float = Field(default=30, gt=0, description="how long in all a job waits for its reader")
    first_event_wait_s: float = Field(default=1, ge=0, description="until a POST stream starts without an event")
    heartbeat_s: float = Field(default=10, gt=0, description="silence before a comment is sent")
    resume_window_s: float = Field(default=10, ge=0, description="how long a GET stream's job waits for its reader")
    max_resume_window_s: float = Field(default=60, ge=0, description="the most that Streamapp-Resume can ask for")

    job_ttl_s: float = Field(default=600, gt=0, description="how long a finished job is kept")
    max_kept_bytes: int = Field(default=256 * MIB, ge=0, description="events of finished jobs kept in all")

    max_connections: int | None = Field(
        default=None, ge=1, description="at a time; if unset as many as three quarters of the descriptors"
    )
    keep_alive_s: float = Field(default=5, gt=0, description="how long a connection may be idle between requests")
    max_body_bytes: int = Field(default=64 * MIB, ge=1, description="a request's body")
    max_input_bytes: int = Field(
        default=512 * MIB, ge=2, description="inputs of all requests and jobs under way; half of it for one caller"
    )
    max_media_bytes: int = Field(default=50 * MIB, ge=1, description="what one input fetches and uploads in all")
    max_image_pixels: int = Field(default=64 * MIB, ge=1, description="width x height of an input image")
    media_timeout_s: float = Field(default=30, gt=0, description="fetching all media of one input")
    allow_private_urls: bool = Field(default=False, description="download inputs from private addresses too")

    media: MediaForm | None = Field(
        default=None,
        description="files in results: url, or inline; if unset URLs for fal's clients, for others those over 1 MiB",
    )
    files_dir: Path | None = Field(default=None, description="uploads and large results; a temporary folder if unset")
    file_ttl_s: float = Field(default=24 * 3600, gt=0, description="how long a file is kept")
    max_files_bytes: int = Field(default=4 * 1024 * MIB, ge=0, description="files kept in all")
    trusted_proxies: tuple[str, ...] = Field(
        default=("127.0.0.1", "::1"), description="addresses whose X-Forwarded-* headers are believed; * for all"
    )

    webrtc_ice_servers: tuple[IceServer, ...] = Field(
        default=(),
        description="STUN and TURN servers, for where WebRTC has a NAT in its way: URLs with commas between them, or a "
        "JSON list of objects with urls, username and credential",
    )
    webrtc_addresses: tuple[IPvAnyAddress, ...] = Field(
        default=(),
        description="this machine's addresses that WebRTC listens on; if unset all, and loopback for itself",
    )

    def __init__(self, **given: Any) -> None:
        """Read the environment, besides what is given, which comes first."""
        super().__init__(**{**_read_environment(), **given})

    @field_validator("files_dir", mode="before")
    @classmethod
    def _expand(cls, folder: Any) -> Any:
        """Have `~` be the user's folder; refuse an empty name, which would be that in which the server was started.

        Runs after `_strip`.
        """
        if folder == "":
            raise ValueError("Expected a folder")
        try:
            return Path(folder).expanduser() if isinstance(folder, str) else folder
        except RuntimeError as error:  # ~nobody
            raise ValueError(f"Expected a folder: {error}") from None

    @field_validator("api_key", "worker_secret", "debug", "allow_private_urls", "files_dir", "media", mode="before")
    @classmethod
    def _strip(cls, text: Any) -> Any:
        """Take the line end off what comes from a file, as pydantic does of numbers; a blank key is then too short."""
        return text.strip() if isinstance(text, str) else text

    @field_validator(
        "cors_origins", "allowed_hosts", "trusted_proxies", "webrtc_ice_servers", "webrtc_addresses", mode="before"
    )
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


def _read_environment() -> dict[str, str]:
    """Return the values of variables by the names of settings, whatever their case; those of others are among them."""
    variables = ((name.lower(), value) for name, value in os.environ.items())
    begins = _PREFIX.lower()
    return {name.removeprefix(begins): value for name, value in variables if name.startswith(begins)}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the process's settings; the environment is read at the first call only.

    Raises:
        DefinitionError: a variable's value is not what it should be; names all that are not.
    """
    for name in os.environ:
        if (meant := _meant_by(name)) is not None:
            logger.warning("%s is no setting; did you mean %s?", name, meant)
    try:
        return Settings()
    except ValidationError as error:
        raise DefinitionError("; ".join(map(_told, error.errors()))) from None


_current: contextvars.ContextVar[Settings] = contextvars.ContextVar("streamapp_settings")


def enter_settings(settings: Settings) -> None:
    """Make `settings` the current ones for the rest of this context."""
    _current.set(settings)


def current_settings() -> Settings:
    """Return what an app is served with, whose `setup` runs here; elsewhere the process's settings."""
    return _current.get(None) or get_settings()


def _meant_by(name: str) -> str | None:
    """Return the setting that the name of a variable is almost, and None for one that is it, or none of ours."""
    if not name.upper().startswith(_PREFIX):
        return None
    names = [field.upper() for field in Settings.model_fields]
    said = name.upper().removeprefix(_PREFIX)
    near = [] if said in names else difflib.get_close_matches(said, names, n=1, cutoff=_NEAR)
    return _PREFIX + near[0] if near else None


def _told(error: ErrorDetails) -> str:
    name = str(error["loc"][0])
    field = Settings.model_fields[name]
    is_secret = SecretStr in get_args(field.annotation)
    got = "a blank one" if is_secret else _shown(error["input"])
    kind = next((_EXPECTED[t] for t in (field.annotation, *get_args(field.annotation)) if t in _EXPECTED), None)
    if kind is None:
        message = error["msg"].removeprefix("Value error, ")
        return f"{_PREFIX}{name.upper()}: {message[:1].lower()}{message[1:]}, got {got}"
    bounds = [f", {bound.ge} or more" for bound in field.metadata if isinstance(bound, Ge)]
    bounds += [f", more than {bound.gt}" for bound in field.metadata if isinstance(bound, Gt)]
    return f"{_PREFIX}{name.upper()}: expected {kind}{''.join(bounds)}, got {got}"


def _shown(given: Any) -> str:
    """Name what came; of an object its names alone, as one of its values may be a secret."""
    return (", ".join(map(str, given)) if isinstance(given, dict) else repr(given))[:_MAX_SHOWN]
