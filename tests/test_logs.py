"""The server's own log lines come through whatever users have done to logging, and never raise."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from streamapp.process.logs import logger


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
