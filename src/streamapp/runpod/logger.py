"""Write a handler's lines as Runpod's logger does: by level, with the job's id.

They go through the logger `runpod`: to the terminal where `streamapp` runs, and into the job's events where its logs
are captured. `RUNPOD_LOG_LEVEL` says from which level on, DEBUG where it is not set.
"""

import logging
import os

MAX_MESSAGE_LENGTH = 4096
LOG_LEVELS = ["NOTSET", "TRACE", "DEBUG", "INFO", "WARN", "ERROR"]
_NUMBERS = {"TRACE": 5, "DEBUG": logging.DEBUG, "INFO": logging.INFO, "TIP": logging.INFO, "WARN": logging.WARNING}
_SHOWN_LENGTH = 8  # of a secret: below, its first and last character are too much of it

_logger = logging.getLogger("runpod")


class RunPodLogger:
    """Log lines; there is one.

    Attributes:
        level: the name of the lowest level that is written; NOTSET writes nothing.
    """

    level: str
    _only: "RunPodLogger | None" = None

    def __new__(cls) -> "RunPodLogger":
        """Return the only one."""
        if RunPodLogger._only is None:
            RunPodLogger._only = super().__new__(cls)
            asked = os.environ.get("RUNPOD_LOG_LEVEL") or os.environ.get("RUNPOD_DEBUG_LEVEL") or "DEBUG"
            RunPodLogger._only.level = level_name(asked)
        return RunPodLogger._only

    def set_level(self, new_level: str | int) -> None:
        """Write from this level on, by name or by its place in `LOG_LEVELS`."""
        self.level = level_name(new_level)

    def log(self, message: object, message_level: str = "INFO", job_id: str | None = None) -> None:
        """Write a line; what is longer than 4096 characters loses its middle."""
        if self.level == "NOTSET" or (message_level != "TIP" and self._is_below(message_level)):
            return
        line = _shortened(str(message))
        line = f"{job_id} | {line}" if job_id else line
        number = _NUMBERS.get(message_level, logging.ERROR)
        # Its own level counts, not that of `logging`, where nobody has set one: that lets through warnings alone.
        _logger.handle(_logger.makeRecord(_logger.name, number, "", 0, line, (), None))

    def debug(self, message: object, request_id: str | None = None) -> None:
        """Write a line for whoever looks for a mistake."""
        self.log(message, "DEBUG", request_id)

    def info(self, message: object, request_id: str | None = None) -> None:
        """Write what happens."""
        self.log(message, "INFO", request_id)

    def warn(self, message: object, request_id: str | None = None) -> None:
        """Write what was not expected."""
        self.log(message, "WARN", request_id)

    def error(self, message: object, request_id: str | None = None) -> None:
        """Write what went wrong."""
        self.log(message, "ERROR", request_id)

    def trace(self, message: object, request_id: str | None = None) -> None:
        """Write what is not even for DEBUG."""
        self.log(message, "TRACE", request_id)

    def tip(self, message: object) -> None:
        """Write advice, whatever the level is."""
        self.log(message, "TIP")

    def secret(self, secret_name: str, secret: object) -> None:
        """Write a secret's first and last character; of a short one, none."""
        text = str(secret)
        is_long = len(text) >= _SHOWN_LENGTH
        self.info(f"{secret_name}: " + (f"{text[0]}{'*' * (len(text) - 2)}{text[-1]}" if is_long else "*" * len(text)))

    def _is_below(self, level: str) -> bool:
        return LOG_LEVELS.index(level) < LOG_LEVELS.index(self.level)


def level_name(level: str | int) -> str:
    """Return a level's name.

    Raises:
        ValueError: there is no such level.
    """
    if isinstance(level, str) and level.upper() in LOG_LEVELS:
        return level.upper()
    if isinstance(level, int) and 0 <= level < len(LOG_LEVELS):
        return LOG_LEVELS[level]
    raise ValueError(f"Expected one of {', '.join(LOG_LEVELS)}, or its place among them; got {level!r}")


def _shortened(message: str) -> str:
    more = len(message) - MAX_MESSAGE_LENGTH
    half = MAX_MESSAGE_LENGTH // 2
    return message if more <= 0 else f"{message[:half]}\n...TRUNCATED {more} CHARACTERS...\n{message[-half:]}"
