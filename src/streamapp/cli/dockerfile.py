"""Write the Dockerfile of an image that serves apps, and the compose file that runs it: nothing here builds anything.

No key is in them: the server asks for one when it is started.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..settings import Settings

PORT = 8000
WRITTEN = "# Written by `streamapp image"
_USER_ID = 10001
_HEALTH = f"import urllib.request; urllib.request.urlopen('http://127.0.0.1:{PORT}/_streamapp/health', timeout=4)"
_VARIABLES = (
    "PYTHONUNBUFFERED=1 HF_HOME=/data/huggingface STREAMAPP_PERSISTENT_DIR=/data STREAMAPP_FILES_DIR=/data/files"
)
_END_S = 10  # after the drain, until the process has ended: more than the server takes
_FOR_NCCL = "1gb"  # of shared memory, by which several GPUs talk; Docker gives 64 MB


@dataclass(frozen=True, slots=True)
class Image:
    """Say what an image holds.

    Attributes:
        name: what it is called.
        served: what `serve` is given; nothing where the pyproject.toml says it.
        installs: pip's arguments, for each stage.
        lists: files that pip reads, in the folder that is built from.
        tools: what pip calls, of Debian's packages.
        sources: what is copied from there.
        base: the Dockerfile that is built upon; Python's own image when None.
        build_args: what that Dockerfile is given.
        gpus: how many it needs.
        webrtc: it needs the machine's own network.
    """

    name: str
    served: tuple[str, ...]
    installs: tuple[tuple[str, ...], ...]
    lists: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    sources: tuple[str, ...] = (".",)
    base: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    gpus: int = 0
    webrtc: bool = False


def docker_name(name: str) -> str:
    """Return what an image may be called after an app: small letters, digits, and - between them."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "app"


def dockerfile(image: Image) -> str:
    """Return the Dockerfile."""
    built = "".join(f" --build-arg {shlex.quote(f'{name}={value}')}" for name, value in image.build_args.items())
    user = _user(image.base)
    port, gpu = f"-p {PORT}:{PORT}", " --gpus all" if image.gpus else ""
    lines = [
        " ".join([WRITTEN, *image.served]) + "`; no key is in it:",
        f"#   docker build -t {image.name}{built} .",
        f"#   docker run {port}{gpu} -v {image.name}:/data -e STREAMAPP_API_KEY=<key> {image.name}",
        *([_own_base()] if image.base is None else ["USER root", "ENTRYPOINT []"]),
        "# Another index, or one more: --build-arg PIP_EXTRA_INDEX_URL=<URL>",
        "ARG PIP_INDEX_URL",
        "ARG PIP_EXTRA_INDEX_URL",
        *_tools(image),
        _make_folder(user),
        "WORKDIR /app",
        *([_copy(image.lists)] if image.lists else []),
        *(_install(words, is_own=image.base is None) for words in image.installs),
        *map(_copy_source, image.sources),
        f"USER {user}",
        f"ENV {_VARIABLES}",
        f"EXPOSE {PORT}",
        "# It answers while a model is loading; before that Python imports what the app does.",
        f"HEALTHCHECK --start-period=300s --timeout=5s CMD {json.dumps(['python3', '-c', _HEALTH])}",
        f"CMD {json.dumps(_command(image), ensure_ascii=False)}",
    ]
    return "\n".join([*([image.base.rstrip(), ""] if image.base else []), *lines, ""])


def compose_file(image: Image, settings: Settings) -> str:
    """Return a compose.yaml that builds the Dockerfile beside it, and runs it."""
    reach = ["network_mode: host # WebRTC's addresses are the machine's"]
    if not image.webrtc:
        reach = ["ports:", f'  - "127.0.0.1:{PORT}:{PORT}" # a proxy before it speaks https to others']
    meant = ((name, str(value).replace("$", "$$")) for name, value in image.build_args.items())
    args = [f"    {name}: {json.dumps(value)}" for name, value in meant]
    grace_s = round(settings.drain_s) + _END_S
    service = [
        "build:",
        "  context: .",
        *(["  args:", *args] if args else []),
        f"image: {image.name}",
        "init: true # while Python imports, a first process would not hear SIGTERM",
        "restart: unless-stopped",
        *reach,
        "environment:",
        "  STREAMAPP_API_KEY: ${STREAMAPP_API_KEY:?write it into .env}",
        f"  STREAMAPP_DRAIN_S: {json.dumps(f'{settings.drain_s:g}')}",
        f"stop_grace_period: {grace_s}s # the drain, and what is left to do after it",
        "volumes:",
        "  - data:/data",
        *(_gpu_lines(image.gpus) if image.gpus else []),
    ]
    indented = [f"    {line}" for line in service]
    return "\n".join(["services:", f"  {image.name}:", *indented, "volumes:", "  data:", ""])


def _gpu_lines(count: int) -> list[str]:
    shared = [f"shm_size: {_FOR_NCCL} # by it several GPUs talk; 64 MB if unsaid"] if count > 1 else []
    lines = ["deploy:", "  resources:", "    reservations:", "      devices:", "        - driver: nvidia"]
    return [*shared, *lines, f"          count: {count}", "          capabilities: [gpu]"]


def _own_base() -> str:
    return f"FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim"


def _user(base: str | None) -> str:
    """Return who runs the server: whom the Dockerfile that is built upon ends as, unless that is root."""
    users = re.findall(r"^\s*USER\s+(\S+)", (base or "").rpartition("FROM")[2], re.MULTILINE | re.IGNORECASE)
    return users[-1] if users and users[-1].partition(":")[0] not in ("root", "0") else str(_USER_ID)


def _make_folder(user: str) -> str:
    """Return the line that makes the folder of what is kept, and its owner where that is ours."""
    if user != str(_USER_ID):
        return f"RUN install -d -o {user.partition(':')[0]} /data"
    return f"RUN useradd --create-home --uid {_USER_ID} streamapp && install -d -o {_USER_ID} -g {_USER_ID} /data"


def _tools(image: Image) -> list[str]:
    if not image.tools or image.base is not None:
        return []
    install = f"apt-get install -y --no-install-recommends {' '.join(image.tools)}"
    return [f"RUN apt-get update && {install} && rm -rf /var/lib/apt/lists/*"]


def _install(words: Sequence[str], *, is_own: bool) -> str:
    """Return the line that has pip install; a distribution's own Python would refuse to be added to."""
    pip = "python3 -m pip install" if is_own else "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install"
    return f"RUN --mount=type=cache,target=/root/.cache/pip {pip} {shlex.join(words)}"


def _copy(sources: Sequence[str]) -> str:
    folders = {str(Path(source).parent) for source in sources}
    if folders == {"."}:
        return f"COPY {_paths([*sources, './'])}"
    return "\n".join(f"COPY {_paths([source, source])}" for source in sources)


def _copy_source(source: str) -> str:
    return f"COPY {_paths([source, './' if source == '.' else source])}"


def _paths(paths: Sequence[str]) -> str:
    return json.dumps(paths, ensure_ascii=False) if any(" " in path for path in paths) else " ".join(paths)


def _command(image: Image) -> list[str]:
    return ["streamapp", "serve", *image.served, "--host", "0.0.0.0", "--port", str(PORT)]
