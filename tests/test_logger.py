"""Runpod's logger writes through `logging`."""

import logging
from collections.abc import Iterator

import pytest

import streamapp
from streamapp.runpod import RunPodLogger
from streamapp.runpod.logger import MAX_MESSAGE_LENGTH
from streamapp.testing import TestClient


@pytest.fixture
def own() -> Iterator[RunPodLogger]:
    logger = RunPodLogger()
    before, logger.level = logger.level, "DEBUG"
    yield logger
    logger.level = before


class Logs(streamapp.App):
    capture_logs = True

    @streamapp.endpoint("/stream")
    def stream(self, stream: streamapp.Stream) -> None:
        RunPodLogger().info("working", "job-1")


def test_a_line_has_its_level_and_the_jobs_id(own: RunPodLogger, caplog: pytest.LogCaptureFixture) -> None:
    own.debug("a")
    own.info("b", "job-1")
    own.warn("c", request_id="job-2")
    own.error(ValueError("d"))
    own.tip("e")
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    expected = [("DEBUG", "a"), ("INFO", "job-1 | b"), ("WARNING", "job-2 | c"), ("ERROR", "d"), ("INFO", "e")]
    assert said == expected


def test_a_percent_sign_is_one(own: RunPodLogger, caplog: pytest.LogCaptureFixture) -> None:
    own.info("50 %s done")
    assert caplog.messages == ["50 %s done"]


def test_a_lower_level_than_asked_for_is_not_written(own: RunPodLogger, caplog: pytest.LogCaptureFixture) -> None:
    own.trace("a")
    for level in ("warn", 4):
        own.set_level(level)
        own.info("b")
        own.warn("c")
        own.tip("d")
    own.set_level("NOTSET")
    own.error("e")
    assert caplog.messages == ["c", "d", "c", "d"]


@pytest.mark.parametrize("level", ["loud", -1, 6, None])
def test_a_level_that_there_is_not_is_refused(own: RunPodLogger, level: str | int) -> None:
    with pytest.raises(ValueError, match="Expected one of NOTSET, TRACE, DEBUG, INFO, WARN, ERROR"):
        own.set_level(level)


def test_a_long_message_loses_its_middle(own: RunPodLogger, caplog: pytest.LogCaptureFixture) -> None:
    own.info("a" * MAX_MESSAGE_LENGTH + "b" * 10)
    assert "\n...TRUNCATED 10 CHARACTERS...\n" in caplog.messages[0]
    assert caplog.messages[0].endswith("a" + "b" * 10)


@pytest.mark.parametrize(
    ("secret", "shown"), [("rpa_ABCDEFGHIJ", "r************J"), ("abc", "***"), ("", ""), (12345678, "1******8")]
)
def test_of_a_secret_its_ends_are_shown_at_most(
    own: RunPodLogger, caplog: pytest.LogCaptureFixture, secret: object, shown: str
) -> None:
    own.secret("key", secret)
    assert caplog.messages == [f"key: {shown}"]


def test_lines_are_events_of_the_job_whatever_level_logging_is_at(own: RunPodLogger) -> None:
    logging.getLogger("runpod").setLevel(logging.ERROR)
    try:
        with TestClient(Logs) as client, client.stream("/stream") as stream:
            assert [event.data["message"] for event in stream if event.name == "log"] == ["job-1 | working"]
    finally:
        logging.getLogger("runpod").setLevel(logging.NOTSET)


def test_the_environment_says_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunPodLogger, "_only", None)
    monkeypatch.setenv("RUNPOD_LOG_LEVEL", "warn")
    assert RunPodLogger().level == "WARN"
    assert RunPodLogger() is RunPodLogger()
