"""Offer the commands `streamapp serve | run | call | exec | env | worker | new | image`.

The one place that sets up logging and reads `[tool.streamapp]`. A mistake is told in one red line and ends with
exit code 1, a job that fails likewise; Ctrl-C cancels the job and ends with 130. What a user's own module raises
while it is imported is shown with its traceback.
"""

import asyncio
import errno
import json
import logging
import os
import re
import shlex
import signal
import socket
import sys
import tomllib
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, TypeGuard

import typer
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .. import __version__
from ..addresses import is_loopback
from ..app import App
from ..chutes.imports import load_served
from ..errors import InvalidInput, StreamAppError
from ..fal.environment import shim_variables, tls_variables
from ..later import module
from ..loading import format_import_error, source_folder
from ..media import File
from ..process.ending import LastResort, close_loop, end_process
from ..process.logs import Redacting, logger
from ..runpod.endpoints import Endpoint, Id
from ..runpod.environment import worker_variables
from ..runpod.pool import PoolApp, pool_app
from ..serve import server
from ..serve.build import compile_app
from ..serve.reload import keep_running
from ..settings import get_settings
from .banner import describe_server, shown_address
from .dockerfile import compose_file, dockerfile
from .image import image_of
from .run_once import run_once
from .scaffold import write_app
from .terminal import Display, print_error, print_result

if TYPE_CHECKING:
    import httpx

    import streamapp_client

    from ..jobs.job import Job
    from ..serve import certificates
else:  # what `serve` does without
    httpx, streamapp_client = module("httpx"), module("streamapp_client")
    certificates = module("..serve.certificates", __package__)

LogLevel = Literal["debug", "info", "warning", "error"]
_ASKING_S = 10.0
_CLIENT_IS_MISSING = (
    "the package streamapp_client, which streamapp-server brings, is missing: pip has taken it along with"
    " streamapp-client, which has the same files. Write: pip install --force-reinstall --no-deps streamapp-server"
)
_ARGUMENT = re.compile(r"(\w[\w-]*)(:=|=@|=)(.*)", re.DOTALL)

cli = typer.Typer(
    help="Serve generative apps whose results appear while they are being made.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Project(BaseModel):
    """Say what to serve, and where: `[tool.streamapp]` of a pyproject.toml, or the command line."""

    model_config = ConfigDict(title="[tool.streamapp]", extra="forbid")

    apps: list[str] = []
    endpoints: dict[Id, Endpoint] = {}
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    log_level: LogLevel = "info"
    no_auth: bool = False
    playground: bool = True
    debug: bool | None = None
    tls: bool = False
    tls_dir: Path = Path(typer.get_app_dir("streamapp")) / "tls"

    @property
    def sources(self) -> list[str]:
        """Return where apps come from; some may be the names of others."""
        return list(dict.fromkeys([*self.apps, *(each.app for each in self.endpoints.values() if each.app)]))


Arguments = Annotated[
    list[str] | None,
    typer.Argument(help="name=text, name:=json or name=@file", metavar="NAME=VALUE", show_default=False),
]
Out = Annotated[Path, typer.Option(help="The folder to save media in.")]
Url = Annotated[str, typer.Option(envvar="STREAMAPP_URL", help="The server.")]
SavesPreviews = Annotated[bool, typer.Option("--previews/--no-previews", help="Save previews as they come.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. When a server has ended, what Python would still wait for has a moment.

    Args:
        arguments: those of the process when None.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        cli(arguments, prog_name="streamapp")
    except SystemExit as end:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # one more Ctrl-C while Python ends has nothing to tell
        if arguments[:1] == ["serve"]:
            LastResort().arm(server.FORCED_END_S, end.code if isinstance(end.code, int) else 1)
        raise


@cli.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(f"streamapp {__version__}")
        raise typer.Exit


@cli.command()
def serve(
    apps: Annotated[
        list[str] | None,
        typer.Argument(
            help="path/to/app.py:Class or package.module:Class; without :Class the only app in it. Without any, "
            "[tool.streamapp] in ./pyproject.toml says: apps = [...], and host, port, log_level, no_auth, playground, "
            "debug, tls, tls_dir, and [tool.streamapp.endpoints.ID] of endpoints as Runpod has them: app, type, "
            "max_workers, max_queue, execution_timeout_s, ttl_s, gpu, image.",
            metavar="APP",
            show_default=False,
        ),
    ] = None,
    runpod: Annotated[
        list[str] | None,
        typer.Option(
            help="Serve an endpoint whose jobs Runpod's workers elsewhere run (see `streamapp worker`); repeatable.",
            metavar="ID",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Listen here; 127.0.0.1 when not given.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Listen here; 8000 when not given, 0 takes a free one.")
    ] = None,
    log_level: Annotated[LogLevel | None, typer.Option(help="info when not given; debug logs requests.")] = None,
    no_auth: Annotated[bool | None, typer.Option("--no-auth", help="Serve other machines without a key.")] = None,
    playground: Annotated[bool | None, typer.Option(help="Serve the page to try the apps on.")] = None,
    debug: Annotated[
        bool | None,
        typer.Option(
            help="Tell callers, and show on the page, the text and traceback of what the app raises; on with --reload."
        ),
    ] = None,
    tls: Annotated[bool | None, typer.Option("--tls", help="Speak https, with a certificate made for it.")] = None,
    tls_dir: Annotated[Path | None, typer.Option(help="Keep the certificates here.", show_default=False)] = None,
    reload: Annotated[bool, typer.Option("--reload", help="Start anew when a source file changes.")] = False,
    workers: Annotated[int, typer.Option(hidden=True)] = 1,
    fd: Annotated[int | None, typer.Option(hidden=True, help="A listening socket, from --reload.")] = None,
    endpoints: Annotated[str | None, typer.Option(hidden=True, help="As JSON, from --reload.")] = None,
) -> None:
    """Serve apps over HTTP until a signal comes. Chutes, and files that start a handler for Runpod, are apps as well.

    STREAMAPP_API_KEY=... guards all routes but /health, pages and files; STREAMAPP_ALLOWED_HOSTS=... says by which
    names a proxy or a tunnel leads here without one; STREAMAPP_WORKER_SECRET=... is what workers elsewhere know; other
    STREAMAPP_... variables set limits.
    """
    with explaining():
        if workers != 1:
            raise InvalidInput(
                "--workers: one process holds the model; start several servers with --port and put a proxy before them"
            )
        project = read_project(
            apps=apps or None,
            endpoints=_read_endpoints(endpoints, runpod or []),
            host=host,
            port=port,
            log_level=log_level,
            no_auth=no_auth,
            playground=playground,
            debug=debug,
            tls=tls,
            tls_dir=tls_dir,
        )
        set_up_logging(project.log_level)
        settings = get_settings()  # told before the apps are imported, which takes a while
        _refuse_open_host(project)
        if project.debug is None:
            project.debug = reload if "debug" not in settings.model_fields_set else settings.debug
        if reload:
            _serve_reloading(project, runpod or [])
        else:
            raise typer.Exit(_serve(project, runpod or [], fd))


@cli.command()
def run(
    app: Annotated[str, typer.Argument(help="path/to/app.py:Class or package.module:Class", metavar="APP")],
    path: Annotated[str, typer.Argument(help="The endpoint, for example /stream", metavar="PATH")],
    arguments: Arguments = None,
    out: Out = Path("out"),
    previews: SavesPreviews = True,
) -> None:
    """Run an endpoint once without a server, and print its result as JSON."""
    with explaining():
        set_up_logging("warning")
        get_settings()
        data = read_arguments(arguments or [])
        with redirect_stdout(sys.stderr):  # what the app prints is no part of the result
            (cls,) = _load([app])
            result = _run(cls, path, data, out, previews)
        print_result(result)


@cli.command()
def call(
    url: Annotated[str, typer.Argument(help="The server, for example http://127.0.0.1:8000", metavar="URL")],
    path: Annotated[str, typer.Argument(help="The endpoint, for example /stream", metavar="PATH")],
    arguments: Arguments = None,
    key: Annotated[str | None, typer.Option(envvar="STREAMAPP_API_KEY", help="The server's API key.")] = None,
    out: Out = Path("out"),
    previews: SavesPreviews = True,
) -> None:
    """Call an endpoint of a server, and print its result as JSON; a stream's media are saved in OUT/<job id>."""
    _refuse_other_scheme(url)
    with explaining():
        data = read_arguments(arguments or [])
        with streamapp_client.Client(url, key) as client:
            if _streams(client, path):
                result = _stream(client, path, data, out, previews)
            else:
                result = Display(out, saves_previews=False).finish(client.run(path, data))
        print_result(result)


@cli.command("exec", context_settings={"allow_interspersed_args": False})
def execute(
    command: Annotated[list[str], typer.Argument(help="For example: python script.py", metavar="COMMAND...")],
    url: Url = "http://127.0.0.1:8000",
) -> None:
    """Run a script that uses fal's Python or JavaScript client, unchanged, against a streamapp server.

    It gets STREAMAPP_API_KEY, if that is set, as its FAL_KEY.
    """
    _refuse_other_scheme(url)
    with explaining():
        try:
            os.execvpe(command[0], command, {**os.environ, **shim_variables(url, os.environ)})
        except OSError as error:
            raise InvalidInput(f"cannot run {command[0]}: {error.strerror}") from None


@cli.command()
def env(url: Url = "http://127.0.0.1:8000") -> None:
    """Print what `exec` sets, as shell exports: eval "$(streamapp env)"."""
    _refuse_other_scheme(url)
    typer.echo(_exports(shim_variables(url, os.environ)))


@cli.command()
def worker(
    runpod: Annotated[str, typer.Option(help="The endpoint, as `serve --runpod` has it.", metavar="ID")],
    url: Url = "http://127.0.0.1:8000",
    env_file: Annotated[
        bool, typer.Option("--env-file", help="Print lines for `docker run --env-file` instead.")
    ] = False,
) -> None:
    """Print the environment of a worker that takes its jobs from a streamapp server: Runpod's package, unchanged.

    As shell exports: eval "$(streamapp worker --runpod ID)" && python -u handler.py. STREAMAPP_WORKER_SECRET has to be
    set here as it is at the server. A container needs a --url by which it reaches the server.
    """
    _refuse_other_scheme(url)
    with explaining():
        secret = get_settings().worker_secret
        if secret is None:
            raise InvalidInput("set STREAMAPP_WORKER_SECRET to what the server has, so that it knows its workers")
        pool_app(runpod)  # says what no id can be
        variables = worker_variables(runpod, url, secret.get_secret_value())
        unknown = _why_unknown(runpod, url, secret.get_secret_value())
        typer.echo("# for one worker: the next one needs a RUNPOD_POD_ID of its own")
        if unknown is not None:
            typer.echo(f"# {unknown}")
        typer.echo("\n".join(map("=".join, variables.items())) if env_file else _exports(variables))


@cli.command()
def new(name: Annotated[str, typer.Argument(help="The folder's name, like my-app", metavar="NAME")]) -> None:
    """Write the folder that a new app starts from: an app that needs no GPU, and its test."""
    with explaining():
        write_app(name, Path())
    typer.echo(f"wrote {name}/; next:\n\n  cd {name}\n  streamapp serve --reload")


@cli.command()
def image(
    apps: Annotated[
        list[str] | None,
        typer.Argument(
            help="As `serve` takes them; without any ./pyproject.toml says.", metavar="APP", show_default=False
        ),
    ] = None,
    compose: Annotated[bool, typer.Option("--compose", help="A compose.yaml that builds and runs it instead.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write this file; else it is printed.", show_default=False)] = None,
) -> None:
    """Print the Dockerfile of an image that serves one's own app: streamapp image app.py | docker build -t me -f - .

    It is made of what the app says (requirements, num_gpus, image) and of the requirements.txt or pyproject.toml beside
    it, and built from this folder. The app is imported for that.
    """
    with explaining():
        set_up_logging("warning")
        project = read_project(apps=apps or None)
        with redirect_stdout(sys.stderr):  # what the app prints is no part of the file
            loaded = _load_described(project)
        names = {app.app_name for app in loaded}
        described = image_of(apps or [], [each for each in project.sources if each not in names], loaded, Path())
        text = compose_file(described, get_settings()) if compose else dockerfile(described)
        if out is None:
            typer.echo(text, nl=False)
        else:
            out.write_text(text)


def _load_described(project: Project) -> list[type[App]]:
    """Return the apps that run their jobs here, and thus say what an image holds."""
    try:
        apps = [app for app in _load_project(project)[0] if not issubclass(app, PoolApp)]
    except typer.Exit:
        print_error("an app is imported to learn what its image holds: run this where what it needs is installed")
        raise
    if not apps:
        raise InvalidInput("all jobs of these endpoints run elsewhere; name an app: streamapp image path/to/app.py")
    return apps


@contextmanager
def explaining() -> Iterator[None]:
    """Tell errors that explain themselves in one red line, and exit with 1."""
    try:
        yield
    except StreamAppError as error:
        message = f"{error.code}: {error.message}"
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors())
        message = f"{error.title}: {'; '.join(wrong)}"
    except BrokenPipeError:  # nobody reads what is printed: Typer ends without a word
        raise
    except OSError as error:  # the disk is full, a folder may not be written
        message = str(error)
    except RecursionError:
        message = "Expected JSON, got some that is nested too deeply"
    except ModuleNotFoundError as error:
        if error.name != "streamapp_client":
            raise
        message = _CLIENT_IS_MISSING
    except Exception as error:
        if not _is_clients(error):
            raise
        message = f"{error.code}: {error.message}"
        sys.stderr.write(error.traceback or "")
    else:
        return
    print_error(message)
    raise typer.Exit(1)


def _is_clients(error: Exception) -> "TypeGuard[streamapp_client.ClientError]":
    """Say whether the client has raised it, which has been imported then."""
    return "streamapp_client" in sys.modules and isinstance(error, streamapp_client.ClientError)


def read_project(**given: Any) -> Project:
    """Return what the command line says; where it names nothing to serve, on top of ./pyproject.toml.

    Raises:
        InvalidInput: neither names an app or an endpoint.
        ValidationError: a value is not what it should be.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if given.keys() & {"apps", "endpoints"}:
        return Project(**given)
    return Project(**{**_read_pyproject(Path("pyproject.toml")), **given})


def _read_pyproject(path: Path) -> dict[str, Any]:
    try:
        project: dict[str, Any] = tomllib.loads(path.read_text()).get("tool", {}).get("streamapp", {})
    except FileNotFoundError:
        project = {}
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path}: {error}") from None
    if not (project.get("apps") or project.get("endpoints")):
        raise InvalidInput(
            "name an app: streamapp serve path/to/app.py:Class; or write into ./pyproject.toml: "
            '[tool.streamapp] apps = ["path/to/app.py:Class"]'
        )
    return project


def _read_endpoints(written: str | None, elsewhere: list[str]) -> dict[str, Any] | None:
    """Return the endpoints that the command line names: those that --reload writes, and those of workers elsewhere."""
    for endpoint_id in elsewhere:
        pool_app(endpoint_id)  # says what no id can be
    return ({} if written is None else json.loads(written)) | dict.fromkeys(elsewhere, {}) or None


def read_arguments(arguments: list[str]) -> dict[str, Any]:
    """Read an endpoint's arguments: `name=text`, `name:=json`, `name=@file` (as a data URI).

    Raises:
        InvalidInput: one is not of these forms.
    """
    return dict(_read_argument(argument) for argument in arguments)


def _read_argument(argument: str) -> tuple[str, Any]:
    match = _ARGUMENT.fullmatch(argument)
    if match is None:
        raise InvalidInput(f"Expected name=text, name:=json or name=@file, got {argument!r}")
    name, form, value = match.groups()
    try:
        if form == ":=":
            return name, json.loads(value)
        return name, File.from_path(value).data_uri() if form == "=@" else value
    except (ValueError, OSError) as error:
        raise InvalidInput(f"{argument}: {error}") from None


def set_up_logging(level: str) -> None:
    """Write the logs of streamapp, of uvicorn and of Runpod's handlers to stderr, one short line each, without keys."""
    handler = _StderrHandler()
    handler.setFormatter(Redacting("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S", os.environ))
    for name in ("streamapp", "uvicorn", "runpod"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
    logging.getLogger("streamapp").setLevel(level.upper())


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Write to what `sys.stderr` is at that moment: a progress bar puts itself in between."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


# serve


def _serve(project: Project, elsewhere: Sequence[str], fd: int | None) -> int:
    if project.debug and not is_loopback(project.host):
        logger.warning("--debug tells other machines the texts and tracebacks of what the app raises")
    if project.sources:
        logger.info("importing %s", ", ".join(project.sources))
    settings = get_settings().model_copy(update={"debug": project.debug})
    apps, endpoints = _load_project(project)
    for app in apps:
        if app.app_name in elsewhere and not issubclass(app, PoolApp):
            raise InvalidInput(
                f"--runpod {app.app_name}: an app of that name is served, and runs its jobs here; leave out one of them"
            )
    api = compile_app(*apps, settings=settings, playground=project.playground, endpoints=endpoints)
    return serve_compiled(api, project, fd)


def serve_compiled(api: FastAPI, project: Project, fd: int | None = None) -> int:
    """Say what is served, and serve it until a signal comes; returns the exit code.

    Args:
        fd: a listening socket, from --reload.
    """
    issued = _issue(project) if project.tls else None
    listener = listen(project) if fd is None else socket.socket(fileno=fd)
    listener.set_inheritable(False)  # one lent by --reload would go on to what the app starts
    port = listener.getsockname()[1]
    typer.echo(describe_server(api, project.host, port, scheme="https" if issued else "http"))
    if issued is not None:
        address = shown_address(project.host, port)
        typer.echo(
            _exports(tls_variables(address, os.environ, bundle=issued.bundle, authority=issued.authority)) + "\n"
        )
    certificate = issued.server if issued is not None else None
    return server.serve(api, listener, log_level=project.log_level, stays_up=fd is not None, certificate=certificate)


def _issue(project: Project) -> "certificates.Certificates":
    try:
        issue = certificates.issue
    except ModuleNotFoundError:
        raise InvalidInput('--tls needs an extra; write pip install "streamapp-server[tls]"') from None
    return issue(project.tls_dir.absolute(), project.host)


def _serve_reloading(project: Project, elsewhere: Sequence[str]) -> None:
    with listen(project) as listener:
        fd = listener.fileno()
        # -P: as with the command itself, files of this folder stand for no packages of the server's
        command = [sys.executable, "-P", "-m", "streamapp", "serve", *project.apps, f"--fd={fd}"]
        command += [f"--host={project.host}"]
        command += [f"--log-level={project.log_level}", "--playground" if project.playground else "--no-playground"]
        command += ["--debug" if project.debug else "--no-debug"]
        command += ["--no-auth"] if project.no_auth else []
        command += ["--tls", f"--tls-dir={project.tls_dir}"] if project.tls else []
        command += [f"--runpod={endpoint_id}" for endpoint_id in elsewhere]
        if project.endpoints:
            command += [f"--endpoints={json.dumps(project.model_dump(mode='json')['endpoints'])}"]
        keep_running(command, {Path.cwd(), *map(source_folder, project.sources)}, fd=fd)


def _load_project(project: Project) -> tuple[list[type[App]], dict[str, Endpoint]]:
    """Return the apps, those of endpoints among them, and the endpoints, which name their apps."""
    loaded = dict(zip(project.apps, _load(project.apps), strict=True))
    names = {cls.app_name for cls in loaded.values()}
    endpoints = {}
    for endpoint_id, endpoint in project.endpoints.items():
        if endpoint.app is not None and endpoint.app not in names:
            if endpoint.app not in loaded:
                (loaded[endpoint.app],) = _load([endpoint.app])
            endpoint = endpoint.model_copy(update={"app": loaded[endpoint.app].app_name})
        elif endpoint.app is None and endpoint_id not in names:
            loaded[endpoint_id] = pool_app(endpoint_id, max_workers=endpoint.max_workers)
        endpoints[endpoint_id] = endpoint
    return list(dict.fromkeys(loaded.values())), endpoints


def _load(import_strings: list[str]) -> list[type[App]]:
    try:
        return [load_served(import_string) for import_string in import_strings]
    except StreamAppError:
        raise
    except SystemExit as error:
        raise InvalidInput(
            f"{', '.join(import_strings)}: exits, with {error.code!r}, while it is imported; what is to run only as a "
            'script belongs below `if __name__ == "__main__":`'
        ) from None
    except Exception as error:  # whatever the user's module raises
        sys.stderr.write(format_import_error(error))
        raise typer.Exit(1) from None


def listen(project: Project) -> socket.socket:
    """Return a socket that listens where a project says.

    Raises:
        InvalidInput: the port is in use, or the address not to be had.
    """
    try:
        return server.bind(project.host, project.port)
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise InvalidInput(f"cannot listen on {project.host}:{project.port}: {reason}; choose another") from None


def _refuse_open_host(project: Project) -> None:
    if is_open(project):
        raise InvalidInput(
            f"--host {project.host} lets other machines in, and no key guards the server; write "
            "STREAMAPP_API_KEY=<secret> streamapp serve ..., or --no-auth to let everybody in"
        )


def is_open(project: Project) -> bool:
    """Say whether other machines would be let in without a key, and nobody has said that they may."""
    return not (is_loopback(project.host) or project.no_auth or get_settings().api_key)


# run, call, exec, env and worker


def _refuse_other_scheme(url: str) -> None:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise typer.BadParameter(f"Expected a URL like http://127.0.0.1:8000, got {url!r}")


def _exports(variables: Mapping[str, str]) -> str:
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _why_unknown(endpoint_id: str, url: str, secret: str) -> str | None:
    """Ask the server whether it has jobs for such a worker; say why that is not known here.

    Raises:
        InvalidInput: it has none; says why.
    """
    try:
        answer = httpx.get(
            f"{url.rstrip('/')}/v2/{endpoint_id}/ping/none", headers={"Authorization": secret}, timeout=_ASKING_S
        )
    except httpx.TransportError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return f"the certificate of {url} is not trusted here; set SSL_CERT_FILE and, for pings, REQUESTS_CA_BUNDLE"
        return f"nobody answers at {url} now"
    if answer.status_code != 204:
        try:
            reason = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            reason = f"{url} answers with HTTP {answer.status_code}; is it a streamapp server?"
        raise InvalidInput(reason)
    return None


def _run(cls: type[App], path: str, data: dict[str, Any], out: Path, previews: bool) -> Any:
    with Display(out, saves_previews=previews) as display:
        running = run_once(cls, path, data, get_settings(), show=display.show, shows_previews=previews)
        job = run_shown(running, display)
        if job.error is None:
            return display.finish(job.result.json() if job.result is not None else None)
    print_error(f"{job.error.code}: {job.error.message}")
    raise typer.Exit(1)


def run_shown(running: Coroutine[Any, Any, "Job"], display: Display) -> "Job":
    """Run what `run_once` has begun, on a loop of its own, and return its job; Ctrl-C cancels it."""
    loop = asyncio.Runner().get_loop()
    try:
        with _cancelling(task := loop.create_task(running), display):
            return loop.run_until_complete(task)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        close_loop(loop)


@contextmanager
def _cancelling(task: "asyncio.Task[Job]", display: Display) -> Iterator[None]:
    """Have Ctrl-C cancel a task; the second one ends the process, whatever the app is busy with."""

    def cancel(number: int, _: FrameType | None) -> None:
        signal.signal(number, leave)
        task.get_loop().call_soon_threadsafe(task.cancel)

    def leave(number: int, _: FrameType | None) -> None:
        display.close()
        end_process(128 + number)

    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # and not ignored, as in the background of a script
        signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stream(client: "streamapp_client.Client", path: str, data: dict[str, Any], out: Path, previews: bool) -> Any:
    with client.stream(path, data) as stream:
        folder = out / re.sub(r"[^\w-]", "", stream.job_id or "")  # a header of the server's: no way out of the folder
        with Display(folder, saves_previews=previews) as display:
            for event in stream:
                display.show(event.name, event.data)
            return display.finish(stream.result)


def _streams(client: "streamapp_client.Client", path: str) -> bool:
    """Ask the server's description whether an endpoint streams; where it does not say, the call itself will."""
    try:
        document = json.loads(client.download("openapi.json"))
    except (streamapp_client.ClientError, ValueError, RecursionError):
        return True
    routes = document.get("paths") if isinstance(document, dict) else None
    for route, operations in routes.items() if isinstance(routes, dict) else ():
        match operations:
            case {"post": {"responses": {"200": {"content": dict() as content}}}} if content and _leads_to(route, path):
                return "text/event-stream" in content
    return True


def _leads_to(route: str, path: str) -> bool:
    asked, places = path.strip("/").split("/"), route.strip("/").split("/")
    return len(asked) == len(places) and all(
        place == name or place.startswith("{") for place, name in zip(places, asked, strict=True)
    )
