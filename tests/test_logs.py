"""The server's own log lines come through whatever users have done to logging, and never raise."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from streamapp.process.logs import Redacting, logger


@pytest.fixture
def raising() -> Iterator[None]:
    def tenant(record: logging.LogRecord) -> bool:
        return bool(record.tenant)  # type: ignore[attr-defined]  # the sin

    logger.logger.addFilter(tenant)
    yield
    logger.logger.removeFilter(tenant)


def test_lines_go_to_the_loggers_handlers(caplog: pytest.LogCaptureFixture) -> None:
    logger.warning("%d of %s", 1, "two")
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("it failed")
    assert caplog.messages == ["1 of two", "it failed"]
    assert caplog.records[1].exc_info is not None


def test_what_a_filter_raises_is_told_on_the_original_stderr(raising: None, monkeypatch: pytest.MonkeyPatch) -> None:
    told = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", told)
    logger.warning("one line")
    assert "has no attribute 'tenant'" in told.getvalue()


def test_a_stderr_that_is_closed_as_well_costs_the_line_only(raising: None, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "__stderr__", closed)
    logger.warning("one line")
    assert closed.closed


# Keys


def written(message: object, *args: object, **environment: str) -> str:
    record = logging.LogRecord("streamapp", logging.INFO, "", 0, message, args, None)
    return Redacting("%(message)s", "", environment).format(record)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("the key is s3cret/key!", "the key is s3c..."),
        ("GET /stream?_token=s3cret%2Fkey%21 200", "GET /stream?_token=s3c... 200"),
        ("{'A_KEY': 's3cret/key!', 'B_SECRET': 'another', 'C_TOKEN': 'short', 'D': 'plain-text'}",) * 2,
    ],
)
def test_of_a_secret_in_the_environment_the_first_characters_are_logged(line: str, told: str) -> None:
    told = told.replace("s3cret/key!", "s3c...").replace("another", "ano...")
    assert written(line, a_key="s3cret/key!", B_SECRET="another", C_TOKEN="short", D="plain-text") == told


def test_a_secret_that_begins_as_another_is_redacted_whole() -> None:
    assert written("abcdef-longer abcdef", A_KEY="abcdef", B_KEY="abcdef-longer") == "abc... abc..."


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Authorization: Bearer rpa_12345", "Authorization: Bearer rpa..."),
        ("AUTHORIZATION=rpa_12345", "AUTHORIZATION=rpa..."),
        ("authorization: rpa_12345, host: x", "authorization: rpa... host: x"),
        ("{'Authorization': 'Key rpa_12345', 'Host': 'x'}", "{'Authorization': 'Key rpa...', 'Host': 'x'}"),
        ("[(b'authorization', b'Bearer rpa_12345')]", "[(b'authorization', b'Bearer rpa...')]"),
        ('{"Proxy-Authorization":"Basic dXNlcjpw"}', '{"Proxy-Authorization":"Basic dXN..."}'),
        ("send the header Authorization: Key <key>", "send the header Authorization: Key <key>"),
        ("no key at all: Bearer of news", "no key at all: Bearer of news"),
    ],
)
def test_of_what_is_sent_as_a_key_the_first_characters_are_logged(line: str, told: str) -> None:
    assert written(line) == told


def test_a_traceback_is_redacted_as_well() -> None:
    record = logging.LogRecord("streamapp", logging.ERROR, "", 0, "it failed", (), None)
    try:
        raise ValueError("wrong key: s3cret-key")
    except ValueError:
        record.exc_info = sys.exc_info()
    told = Redacting("%(message)s", "", {"A_KEY": "s3cret-key"}).format(record)
    assert told.endswith("ValueError: wrong key: s3c...")
