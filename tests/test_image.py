"""The Dockerfile of one's own app: what the app says is in it, no secret is, and it serves when it is carried out."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests import processes
from tests.dockerfiles import carry_out, check_compose, lint, needs_linters
from tests.nursery import Forked
from tests.waiting import WAIT_S, until

from streamapp import __version__
from streamapp.chutes.imports import load_served
from streamapp.cli.dockerfile import _HEALTH, _VARIABLES, Image, compose_file, dockerfile
from streamapp.cli.image import image_of
from streamapp.errors import InvalidInput
from streamapp.settings import Settings

ROOT = Path(__file__).parent.parent
APP = """
import streamapp

class Words(streamapp.App{keywords}):
    {options}

    @streamapp.endpoint("/stream")
    def stream(self, text: str = "a b"):
        yield from text.split()
"""
Describe = Callable[..., Image]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that is built from."""
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "path", sys.path[:])
    return place


def described(options: str = "pass", *, keywords: str = "", file: str = "app.py") -> Image:
    """Describe the image of an app with these options."""
    Path(os.path.normpath(file)).parent.mkdir(exist_ok=True)
    Path(file).write_text(APP.format(options=options, keywords=keywords))
    return of(file)


def of(*files: str) -> Image:
    return image_of(files, files, [load_served(file) for file in files], Path())


def refused(options: str = "pass", **how: str) -> str:
    with pytest.raises(InvalidInput) as error:
        described(options, **how)
    return error.value.message


# The Dockerfile


def test_the_image_of_an_app() -> None:
    Path(".dockerignore").write_text(".git\n")
    server = f"streamapp-server=={__version__}"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert dockerfile(described('requirements = ["pillow>=11"]')).splitlines() == [
        "# Written by `streamapp image app.py`; no key is in it:",
        "#   docker build -t words .",
        "#   docker run -p 8000:8000 -v words:/data -e STREAMAPP_API_KEY=<key> words",
        f"FROM python:{version}-slim",
        "# Another index, or one more: --build-arg PIP_EXTRA_INDEX_URL=<URL>",
        "ARG PIP_INDEX_URL",
        "ARG PIP_EXTRA_INDEX_URL",
        "RUN useradd --create-home --uid 10001 streamapp && install -d -o 10001 -g 10001 /data",
        "WORKDIR /app",
        f"RUN --mount=type=cache,target=/root/.cache/pip python3 -m pip install {server} 'pillow>=11'",
        "COPY . ./",
        "USER 10001",
        f"ENV {_VARIABLES}",
        "EXPOSE 8000",
        "# It answers while a model is loading; before that Python imports what the app does.",
        f'HEALTHCHECK --start-period=300s --timeout=5s CMD ["python3", "-c", "{_HEALTH}"]',
        'CMD ["streamapp", "serve", "app.py", "--host", "0.0.0.0", "--port", "8000"]',
    ]


def test_carried_out_it_serves_the_app_answers_its_health_check_and_ends_by_sigterm(
    folder: Path, tmp_path: Path
) -> None:
    Path("extra.py").write_text("WORDS = 'one two'")
    Path("requirements.txt").write_text("pillow>=11\n")
    done = carry_out(dockerfile(described("import extra")), folder, tmp_path / "image")
    assert [[word for word in words if word != "-r"] for words in done.installed] == [
        [f"streamapp-server=={__version__}", "requirements.txt"]
    ]
    name, serve, *arguments = done.command
    assert (name, serve, arguments[-2:]) == ("streamapp", "serve", ["--port", "8000"])
    env = {**os.environ, "STREAMAPP_API_KEY": "a-key"}
    with processes.serving(*arguments[:-2], env=env, folder=done.app) as (url, server):
        health = [word.replace("http://127.0.0.1:8000", url) for word in done.health]
        until(lambda: subprocess.run([sys.executable, *health[1:]], timeout=WAIT_S, check=False).returncode == 0)
        server.send_signal(15)
        assert server.wait(WAIT_S) == -15


def test_without_a_key_what_it_starts_ends_at_once_and_says_so() -> None:
    done = carry_out(dockerfile(described()), Path(), Path("../image"))
    env = {name: value for name, value in os.environ.items() if name != "STREAMAPP_API_KEY"}
    server = Forked(*done.command[1:], env=env)
    assert "no key guards the server" in server.communicate(WAIT_S)[1]
    assert server.returncode == 1
    server.close()


@needs_linters
@pytest.mark.parametrize(
    "app",
    [
        "apps/image_chunks/handler.py",
        "tests/apps/fal_style.py",
    ],
)
def test_linters_have_nothing_against_what_is_written(
    app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    image = of(app)
    assert lint(dockerfile(image), "DL3013") == ""  # whether a version is pinned is the app's to say
    (tmp_path / "compose.yaml").write_text(compose_file(image, Settings()))
    assert check_compose(tmp_path / "compose.yaml") == ""


@needs_linters
@pytest.mark.parametrize("file", ["Dockerfile", "apps/image_chunks/Dockerfile"])
def test_linters_have_nothing_against_the_repositorys_own(file: str) -> None:
    assert lint((ROOT / file).read_text(), "DL3066") == ""  # a user's name beside its number


@needs_linters
def test_linters_find_what_is_wrong(tmp_path: Path) -> None:
    assert "DL3025" in lint("FROM python:3.11-slim\nCMD python app.py\n")
    (tmp_path / "compose.yaml").write_text("services:\n  app:\n    deploy: [gpu]\n")
    assert "deploy" in check_compose(tmp_path / "compose.yaml")


# What is installed


def test_each_requirement_comes_to_pip_as_it_is_written(tmp_path: Path) -> None:
    written = ["torch>=2.4,<3", 'tomli; python_version < "3.11"', "kernels @ git+https://example.org/k.git@v1"]
    options = [
        *written,
        "--extra-index-url https://example.org/whl",
        "--pre",
        "--find-links",
        "https://example.org/x y",
    ]
    done = carry_out(dockerfile(described(f"requirements = {options!r}")), Path(), tmp_path / "image")
    (words,) = done.installed
    assert words[1:4] == written
    assert [str(Requirement(word)) for word in words[:4]]
    assert words[4:] == [
        *("--extra-index-url", "https://example.org/whl", "--pre", "--find-links", "https://example.org/x y")
    ]


def test_stages_are_layers_of_their_own_and_each_holds_the_server(tmp_path: Path) -> None:
    written = dockerfile(described('requirements = [["torch"], ["flash-attn", "--no-build-isolation"]]'))
    server = f"streamapp-server=={__version__}"
    done = carry_out(written, Path(), tmp_path / "image")
    assert done.installed == [[server, "torch"], [server, "flash-attn", "--no-build-isolation"]]


def test_what_clones_gets_git() -> None:
    written = dockerfile(described('requirements = ["x @ git+https://example.org/x.git"]'))
    assert "apt-get install -y --no-install-recommends git &&" in written
    assert "apt-get" not in dockerfile(described(file="other.py"))


def test_what_a_list_clones_gets_git() -> None:
    Path("requirements.txt").write_text("x @ git+https://example.org/x.git\n")
    assert described().tools == ("git",)


def test_a_wheel_of_the_server_beside_the_app_is_installed(tmp_path: Path) -> None:
    wheel = Path("streamapp_server-0.1.0-py3-none-any.whl")
    wheel.touch()
    done = carry_out(
        dockerfile(described("def setup(self):\n        import streamapp.diffusion")), Path(), tmp_path / "image"
    )
    assert done.installed == [[f"./{wheel}[diffusion]"]]
    assert (done.app / wheel).is_file()


def test_several_wheels_of_the_server_are_refused() -> None:
    for version in ("0.9.0", "0.10.0"):
        Path(f"streamapp_server-{version}-py3-none-any.whl").touch()
    assert "leave one of them" in refused()


def test_the_lists_of_a_folder_above_the_app_are_read_too(tmp_path: Path) -> None:
    Path("requirements.txt").write_text("-r more.txt\n")
    Path("more.txt").write_text("numpy\n")
    done = carry_out(dockerfile(described(file="apps/words.py")), Path(), tmp_path / "image")
    assert done.installed[0][1:] == ["-r", "requirements.txt"]
    assert sorted(path.name for path in done.app.rglob("*.*")) == ["more.txt", "requirements.txt", "words.py"]


def test_a_password_in_a_url_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    Path("requirements.txt").write_text("--index-url https://me:listed@example.org/simple\n")
    described('requirements = ["x @ git+https://hidden@example.org/x.git", "y @ git+ssh://git@example.org/y.git"]')
    assert [message.rpartition(" in ")[0] for message in caplog.messages] == [
        "requirements: who has the image can read the password"
    ] * 2
    assert not any(secret in caplog.text for secret in ("hidden", "listed"))


# What is copied


def test_what_an_app_needs_besides_its_folder_is_copied(tmp_path: Path) -> None:
    for place in ("shared", "apps/page", "data"):
        Path(place).mkdir(parents=True)
    for file in ("shared/__init__.py", "apps/beside.py", "apps/page/index.html", "data/words.txt", "other.txt"):
        Path(file).touch()
    sys.path.append(os.getcwd())
    written = dockerfile(
        described(
            'import beside; static = "page"; local_python_modules = ["shared"]',
            keywords=', app_files=["../data"]',
            file="apps/words.py",
        )
    )
    done = carry_out(written, Path(), tmp_path / "image")
    found = sorted(str(path.relative_to(done.app)) for path in done.app.rglob("*.*") if "__pycache__" not in str(path))
    assert found == ["apps/beside.py", "apps/page/index.html", "apps/words.py", "data/words.txt", "shared/__init__.py"]


def test_a_name_with_spaces_is_copied(tmp_path: Path) -> None:
    done = carry_out(dockerfile(described(file="my apps/words.py")), Path(), tmp_path / "image")
    assert (done.app / "my apps" / "words.py").is_file()
    assert done.command[2] == "my apps/words.py"


@pytest.mark.parametrize("name", ["a$b", "a[b]", "a\nRUN evil", 'a"b', "a*", "a\\", "--from=x"])
def test_a_name_that_docker_reads_otherwise_is_refused(name: str) -> None:
    assert "rename it" in refused(file=f"{name}/words.py")


@pytest.mark.parametrize("way", ["apps/words.py", "./apps/words.py", "apps/../apps/words.py", "{}/apps/words.py"])
def test_however_an_app_is_named_it_is_served_by_its_place_in_the_image(way: str, folder: Path) -> None:
    assert described(file=way.format(folder)).served == ("apps/words.py",)


def test_a_module_is_served_by_its_name(tmp_path: Path) -> None:
    described(file="words_of_ours.py")
    place = "words_of_ours:Words"
    image = image_of([place], [place], [load_served(place)], Path())
    assert (image.served, image.sources) == ((place,), (".",))


def test_a_file_whose_name_would_be_a_line_of_its_own_is_refused() -> None:
    assert "rename it" in refused(file="a\nRUN evil.py")


def test_an_app_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    assert "is not in" in refused(file=str(tmp_path / "elsewhere" / "words.py"))


@pytest.mark.parametrize("name", [".env", ".env.local", "tls.key", ".netrc"])
def test_a_file_with_secrets_is_refused_until_it_is_ignored(name: str) -> None:
    Path(name).touch()
    assert f"{name} would be in the image" in refused()
    Path(".dockerignore").write_text(f"# nothing\n**/{name}\n")
    described()
    Path(".dockerignore").write_text(f"*\n!{name}\n")
    assert f"{name} would be in the image" in refused()


@pytest.mark.parametrize(
    ("lines", "is_refused"),
    [
        *(("", True), (".env\n", True), ("*.env", True), ("conf*\n!conf/a\n", True), ("/\n.\n#conf", True)),
        *(("conf", False), ("**/.env", False), ("/conf/*/.env", False), ("conf/**", False)),
    ],
)
def test_a_file_with_secrets_in_a_folder_is_refused_unless_it_is_ignored(lines: str, is_refused: bool) -> None:
    Path("conf/a").mkdir(parents=True)
    Path("conf/a/.env").touch()
    Path(".dockerignore").write_text(lines)
    if not is_refused:
        described()
        return
    assert "conf/a/.env would be in the image" in refused()


def test_what_folders_of_no_use_hold_is_not_looked_at() -> None:
    Path(".venv/lib").mkdir(parents=True)
    Path(".venv/lib/cacert.pem").touch()
    described()


def test_a_file_with_secrets_that_an_app_names_is_refused() -> None:
    Path("keys").mkdir()
    Path("keys/tls.key").touch()
    assert "keys/tls.key would be" in refused('app_files = ["../keys/tls.key"]', file="apps/words.py")


@pytest.mark.parametrize("name", ["app.py", "requirements.txt"])
def test_what_the_image_needs_is_not_to_be_ignored(name: str) -> None:
    Path("requirements.txt").touch()
    Path(".dockerignore").write_text(f"{name}\n")
    assert refused().endswith(f"keeps {name} from the image, which needs it; write !{name}")
    Path(".dockerignore").write_text("*\n!*.py\n!*.txt\n")
    described()


def test_folders_of_no_use_are_named(caplog: pytest.LogCaptureFixture) -> None:
    Path(".git").mkdir()
    Path(".venv").mkdir()
    Path(".dockerignore").write_text(".git/\n")
    described()
    assert [message.partition(" would")[0] for message in caplog.messages if ".venv" in message] == [".venv"]


# What the app was written for

CHUTE = """
from chutes.chute import Chute, NodeSelector
from chutes.image import Image

image = Image(name="words").from_base("python:3.12").run_command("python3 -m pip install torch").set_user("me")
chute = Chute(name="words", image=image, node_selector=NodeSelector(gpu_count=2))

@chute.cord(public_api_path="/words")
async def words(self, text: str) -> str:
    return text
"""

FAL = "image = streamapp.ContainerImage.from_dockerfile_str({text!r}, build_args={{'A': '1 2'}})"


def test_the_image_of_fal_is_built_upon(tmp_path: Path) -> None:
    text = 'FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04\nENTRYPOINT ["x"]\n'
    written = dockerfile(described(FAL.format(text=text)))
    assert written.startswith(text)
    assert "\nUSER root\nENTRYPOINT []\n" in written
    assert "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install streamapp-server" in written
    assert "docker build -t words --build-arg 'A=1 2' ." in written
    done = carry_out(written, Path(), tmp_path / "image")
    assert (done.base, done.user) == ("nvidia/cuda:12.4.1-runtime-ubuntu22.04", "10001")


@pytest.mark.parametrize(("user", "ours"), [("me", "me"), ("root", "10001"), ("0:0", "10001"), ("me:us", "me:us")])
def test_whom_that_image_ends_as_serves_unless_it_is_root(user: str, ours: str, tmp_path: Path) -> None:
    written = dockerfile(described(FAL.format(text=f"FROM python:3.12\nUSER {user}\n")))
    assert carry_out(written, Path(), tmp_path / "image").user == ours
    assert ("install -d -o me /data" in written) == (ours != "10001")


NO_WHOLE = [
    *("", "RUN x", "FROM python:3.12\nRUN a \\\n", "FROM python:3.12\nRUN a \\\n  # b\n\n"),
    *("FROM a\nRUN <<EOF\necho b\n", "FROM a\nRUN <<-'EOF' cat <<X\n\tEOF\n X\n"),
]


@pytest.mark.parametrize(
    "text", ["RUN <<EOF\necho b\nEOF\n", "# <<EOF\n", "RUN <<-'E' cat <<X\n\tE\nX\n", "RUN a \\\n# b\n c\n"]
)
def test_what_is_a_whole_dockerfile_is_built_upon(text: str) -> None:
    assert described(FAL.format(text=f"FROM a\n{text}")).base == f"FROM a\n{text}"


@pytest.mark.parametrize("text", NO_WHOLE)
def test_what_is_no_whole_dockerfile_is_refused(text: str) -> None:
    assert "is no whole Dockerfile" in refused(FAL.format(text=text))


@pytest.mark.parametrize("args", ["{'A': 'b\\nRUN evil'}", "{'A B': 'c'}", "['A=b']"])
def test_build_arguments_that_are_none_are_refused(args: str) -> None:
    image = f'image = streamapp.ContainerImage("FROM x", {{"build_args": {args}}})'
    assert "build_args: expected names" in refused(image)


def test_what_was_written_already_is_not_built_upon() -> None:
    written = dockerfile(described(FAL.format(text="FROM python:3.12")))
    assert "has written" in refused(FAL.format(text=written), file="again.py")


def test_an_image_of_another_folder_is_refused() -> None:
    image = 'image = streamapp.ContainerImage("FROM x", {"context_dir": "/"})'
    assert "run `streamapp image` there" in refused(image)


def test_the_image_of_a_chute_is_built_upon(tmp_path: Path) -> None:
    Path("chute.py").write_text(CHUTE)
    image = of("chute.py")
    done = carry_out(dockerfile(image), Path(), tmp_path / "image")
    assert (image.name, image.gpus, done.base, done.user) == ("words", 2, "python:3.12", "me")
    assert done.installed == [["torch"], [f"streamapp-server=={__version__}"]]


def test_two_apps_are_served_by_one_image(tmp_path: Path) -> None:
    described('requirements = ["numpy"]', file="one.py")
    described('requirements = ["pillow"]; num_gpus = 2', file="two.py", keywords=', name="two"')
    image = of("one.py", "two.py")
    assert (image.name, image.gpus, image.installs[0][1:], image.installs[1][1:]) == (
        "words",
        2,
        ("numpy",),
        ("pillow",),
    )
    assert carry_out(dockerfile(image), Path(), tmp_path / "image").command[2:4] == ["one.py", "two.py"]


def test_two_images_are_none() -> None:
    described(FAL.format(text="FROM a"), file="one.py")
    described('image = "b"', file="two.py", keywords=', name="two"')
    with pytest.raises(InvalidInput, match="name several images"):
        of("one.py", "two.py")


# compose.yaml


@pytest.mark.parametrize(
    ("options", "gpus"),
    [
        ("pass", 0),
        ("num_gpus = 2", 2),
        ("num_gpus = 0; machine_type = 'GPU'", 0),
        ("machine_type = 'GPU-H100'", 1),
        ("machine_type = ['S', 'GPU-A100']", 1),
        ("machine_type = None", 0),
    ],
)
def test_as_many_gpus_are_reserved_as_the_app_says(options: str, gpus: int) -> None:
    written = compose_file(described(options), Settings())
    assert (f"count: {gpus}" in written) == ("driver: nvidia" in written) == (gpus > 0)
    assert ("shm_size" in written) == (gpus > 1)


@pytest.mark.parametrize("count", ["-1", "'two'", "True"])
def test_what_is_no_number_of_gpus_is_refused(count: str) -> None:
    assert "expected num_gpus to be a number" in refused(f"num_gpus = {count}")


def test_compose_waits_for_the_drain_and_bakes_no_key_in() -> None:
    written = compose_file(described(FAL.format(text="FROM python:3.12")), Settings(drain_s=100, api_key="a-secret"))
    assert "stop_grace_period: 110s" in written
    assert 'STREAMAPP_DRAIN_S: "100"' in written
    assert "STREAMAPP_API_KEY: ${STREAMAPP_API_KEY:?write it into .env}" in written
    assert '        A: "1 2"\n' in written
    assert "a-secret" not in written


def test_compose_takes_build_arguments_as_they_are() -> None:
    image = Image("words", ("app.py",), (("streamapp-server",),), build_args={"A": "$B ${C} $$"})
    assert 'A: "$$B $${C} $$$$"\n' in compose_file(image, Settings())


def test_webrtc_has_the_machines_own_network() -> None:
    image = Image("live", ("app.py",), (("streamapp-server[webrtc]",),), webrtc=True)
    written = compose_file(image, Settings())
    assert "network_mode: host" in written
    assert "ports:" not in written


# What cannot be


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('local_python_modules = ["no_such_module"]', "there is no such module here"),
        ("local_python_modules = [3]", "there is no such module here"),
        ('app_files = ["nowhere"]', "there is no"),
        ('app_files = "nowhere"', "app_files names 'nowhere', and there is no"),
        ("image = streamapp.ContainerImage(None)", "expected the text of a Dockerfile, got None"),
        ('requirements = ["a\\nRUN evil"]', "expected one line each"),
    ],
)
def test_what_cannot_be_carried_over_is_refused(options: str, said: str) -> None:
    assert said in refused(options)
