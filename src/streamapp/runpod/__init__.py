"""Serve what was written for Runpod's serverless: `from streamapp import runpod` is the whole line to change.

    from streamapp import runpod

    def handler(job):
        yield {"got": job["input"]}

    runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})

`streamapp serve handler.py` serves it. What of Runpod works, and what does not, stands in `apps/README.md`.
"""

from . import serverless
from .absent import __getattr__
from .logger import RunPodLogger
from .outcomes import RUNPOD_VERSION as __version__

__all__ = ["RunPodLogger", "__getattr__", "__version__", "serverless"]
