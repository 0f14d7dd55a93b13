"""Say what an endpoint of Runpod's kind is here: an app with one streaming endpoint, which takes any JSON.

Who runs its jobs is another matter: a handler in this process (`handlers`), or workers that fetch them (`pool`).
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from fastapi import Body

from ..app import App
from ..endpoint import endpoint
from ..jobs.stream import Stream


class QueueApp(App):
    """Take any JSON, and stream what comes of it.

    Attributes:
        aggregates: the `output` that Runpod's clients get is the list of all that was yielded.
    """

    aggregates: ClassVar[bool] = False

    @endpoint("/stream")
    def stream(self, input: Annotated[Any, Body()], stream: Stream) -> Iterator[Any]:
        """Run one job."""
        result: Iterator[Any] = self.run_job({"id": stream.job_id, "input": input})
        return result

    def run_job(self, job: dict[str, Any]) -> Any:
        """Return what comes of a job, as Runpod has it: `{"id", "input"}`."""
        raise NotImplementedError
