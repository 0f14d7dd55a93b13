"""The Dockerfile of an image that was written for Chutes: what is meant, in a form that Docker takes."""

import json
import logging
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from tests.waiting import WAIT_S

from streamapp.chutes import Image
from streamapp.errors import DefinitionError

# What may begin a line of a Dockerfile.
INSTRUCTION = re.compile(r"(FROM|RUN|ENV|ADD|COPY|USER|WORKDIR|LABEL|EXPOSE|ENTRYPOINT) \S")


def steps(image: Image) -> list[str]:
    """Return the lines behind the first; each has to be an instruction."""
    first, *others = str(image).split("\n")
    assert first == "FROM parachutes/python:3.12"
    assert all(map(INSTRUCTION.match, others))
    return others


def test_the_image_of_chutes_example_is_a_dockerfile(caplog: pytest.LogCaptureFixture) -> None:
    image = (
        Image(username="myuser", name="streaming-processor", tag="1.0")
        .from_base("nvidia/cuda:12.4.1-runtime-ubuntu22.04")
        .with_python("3.11")
        .run_command("pip install torch>=2.4.0 'transformers>=4.44.0'")
        .with_env("TRANSFORMERS_CACHE", "/app/models")
    )
    assert str(image).split("\n") == [
        "FROM nvidia/cuda:12.4.1-runtime-ubuntu22.04",
        "COPY --from=astral/uv /uv /usr/local/bin/uv",
        "RUN UV_PYTHON_INSTALL_DIR=/opt/pythons uv venv --managed-python --seed --python 3.11 /opt/python",
        'ENV PATH="/opt/python/bin:$PATH"',
        "RUN pip install torch>=2.4.0 'transformers>=4.44.0'",
        'ENV TRANSFORMERS_CACHE="/app/models"',
    ]
    assert (image.reference, repr(image)) == (
        "myuser/streaming-processor:1.0",
        "<Image myuser/streaming-processor:1.0>",
    )
    (said,) = caplog.messages
    assert "a shell takes torch>=2.4.0 for a file" in said
    assert "called =2.4.0" in said
    assert "write 'torch>=2.4.0', in quotes" in said


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pip install a>=1 b<2 'c>=3' \"d>=4\"", ["a>=1", "b<2"]),
        ("pip install a[x,y]>=1.0,!=1.2", ["a[x,y]>=1.0,!=1.2"]),
        ("pip install \\\n  a>=1 \\\n  'b>=1'", ["a>=1"]),
        (r"pip install a\>=1", []),
        ("pip install a==1 2>/dev/null >log.txt", []),
        ("echo b>1", []),
    ],
)
def test_of_a_requirement_that_a_shell_would_write_to_a_file_the_log_says_how_to_quote_it(
    command: str, words: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    image = Image().run_command(command)
    assert caplog.messages == []
    str(image)
    assert [message.split(" for a file")[0].split()[-1] for message in caplog.messages] == words
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_a_command_of_several_lines_runs_all_of_them_up_to_the_first_that_fails() -> None:
    (line,) = steps(Image().run_command("\necho \"one\" 'two'\necho \\\n  three\nfalse\necho four\n"))
    ran = subprocess.run(json.loads(line.removeprefix("RUN ")), capture_output=True, text=True, timeout=WAIT_S)
    assert (ran.stdout, ran.returncode) == ("one two\nthree\n", 1)


@pytest.mark.parametrize(
    ("image", "lines"),
    [
        (Image().with_env("GREETING", 'a "b" \\c'), ['ENV GREETING="a \\"b\\" \\\\c"']),
        (Image().add("my file", "/app/"), ['ADD ["my file", "/app/"]']),
        (
            Image().add("src", "/app", True, "sha256:0", "me:me", "755", build_dir="."),
            ['ADD --keep-git-dir=true --checksum=sha256:0 --chown=me:me --chmod=755 ["src", "/app"]'],
        ),
        (
            Image().apt_install("libstdc++6").apt_install(["git", "vim=2:8.2*"]).apt_remove("git"),
            [
                "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -y install libstdc++6",
                "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get -y install git 'vim=2:8.2*'",
                "RUN DEBIAN_FRONTEND=noninteractive apt-get -y remove git",
            ],
        ),
        (Image().set_user("me").set_workdir("/my work"), ["USER me", "WORKDIR /my work"]),
        (Image().with_maintainer('Me "$1"'), ['LABEL maintainer="Me \\"\\$1\\""']),
        (
            Image().with_entrypoint("a").with_entrypoint("b", "c d").run_command("x"),
            ["RUN x", 'ENTRYPOINT ["b", "c d"]'],
        ),
    ],
)
def test_each_step_is_an_instruction_in_its_order(image: Image, lines: list[str]) -> None:
    assert steps(image) == lines


def test_what_is_left_out_needs_a_newer_syntax() -> None:
    first, _, add = str(Image().add("src", "/app", exclude=["*.md", "*.txt"])).split("\n")
    assert (first, add) == ("# syntax=docker/dockerfile:1", 'ADD --exclude=*.md --exclude=*.txt ["src", "/app"]')


def test_the_last_base_is_built_upon() -> None:
    assert str(Image().from_base("one").run_command("x").from_base("two:2@sha256:0")) == "FROM two:2@sha256:0\nRUN x"


def test_of_an_image_comes_one_that_serves_a_chute() -> None:
    image = Image().run_command("x").set_user("me").with_entrypoint("bash")
    assert image.dockerfile_for("apps/words.py").split("\n")[-8:] == [
        'ENTRYPOINT ["bash"]',
        "USER root",
        "RUN python3 -m pip install streamapp-server",
        "WORKDIR /app",
        'COPY ["apps/words.py", "./"]',
        "USER me",
        "EXPOSE 8000",
        'ENTRYPOINT ["streamapp", "serve", "words.py", "--host", "0.0.0.0"]',
    ]
    assert "USER" not in Image().dockerfile_for("words.py")


def test_what_chutes_class_takes_stays_readable() -> None:
    image = Image("me", "Words", "V1", readme="# Words", later=1)
    assert (image.username, image.readme, image.others) == ("me", "# Words", {"later": 1})
    assert image.reference == "me/words:V1"
    assert Image(name="words").reference == "words:latest"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Image(name="my image"), "Image: expected name to be letters, digits"),
        (lambda: Image(tag=""), "Image: expected tag to be letters, digits"),
        (lambda: Image(username="-"), "Image: expected username to be letters, digits"),
        (lambda: Image().from_base("a b"), "from_base: expected one word, got 'a b'"),
        (lambda: Image().from_base(""), "from_base: expected one word, got ''"),
        (lambda: Image().with_python(3.11), 'with_python: expected a version like "3.11" or "3.11.9", got 3.11'),  # type: ignore[arg-type]
        (lambda: Image().with_python("three"), "got 'three'"),
        (lambda: Image().run_command(" \n"), "run_command: expected a command, got an empty text"),
        (lambda: Image().run_command(["pip"]), "run_command: expected a text, got ['pip']"),  # type: ignore[arg-type]
        (lambda: Image().with_env("A B", "c"), "with_env: expected a name of letters, digits and _, got 'A B'"),
        (lambda: Image().with_env("A", "b\nRUN c"), "with_env: expected one line"),
        (lambda: Image().apt_install("git curl"), 'expected packages like "git", or ["git", "curl"], got \'git curl\''),
        (lambda: Image().add("a", "b", chown="a b"), "add: chown: expected one word, got 'a b'"),
        (lambda: Image().set_user("a\nb"), "set_user: expected one line"),
        (lambda: Image().with_entrypoint("python app.py"), 'write with_entrypoint("python", "app.py")'),
    ],
)
def test_what_no_dockerfile_could_say_is_refused_where_it_is_written(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert said in caught.value.message
