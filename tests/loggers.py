"""Undo what a command sets up of logging in this process."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

NAMES = ("streamapp", "uvicorn", "runpod")


@contextmanager
def restored_loggers() -> Iterator[None]:
    """Leave the loggers as they were."""
    loggers = [logging.getLogger(name) for name in NAMES]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate, logger.level = handlers, propagate, level
