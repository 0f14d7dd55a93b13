"""Serve what was written for Runpod's serverless: `from streamapp import runpod` is the whole line to change.

    from streamapp import runpod

    def handler(job):
        yield {"got": job["input"]}

    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})

`streamapp serve handler.py` serves it. What of Runpod works, and what does not, stands in `docs/migrate/runpod.md`.
"""

from typing import TYPE_CHECKING

from ..later import names_of
from .absent import __getattr__ as refused
from .outcomes import RUNPOD_VERSION as __version__

if TYPE_CHECKING:
    from . import serverless
    from .logger import RunPodLogger
else:
    __getattr__ = names_of(__name__, {"RunPodLogger": "logger"}, modules=["serverless"], absent=refused)

__all__ = ["RunPodLogger", "__version__", "serverless"]
