"""Carry a `Response` that an endpoint made itself from where it runs to the request that waits for it.

Such an answer is no event of the job's log: it is sent once, to the one who asked, and the job lasts until it is sent.
An `Answer` is given to a job by `routes`, offered what the endpoint returned by `binding`, and sent by `response`.
"""

import asyncio
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from starlette.responses import Response

from ..errors import NotEncodable
from ..jobs.job import Job

_LONGEST_S = 1e6  # that a wait can be given on every system
_ENDED: Future[Response | None] = Future()
_ENDED.set_result(None)


class Answer:
    """Hold what a job answers beside its log: an `OwnAnswer` of HTTP's.

    Args:
        own: what the endpoint takes as `Response`, to set headers and the status on.
    Attributes:
        outcome: done with a Response that the endpoint returned, or with None when the job ended without one.
        ended: done when the job is over.
        is_sending: the Response is being sent.
    """

    __slots__ = ("ended", "is_sending", "outcome", "own")

    def __init__(self, own: Response | None = None) -> None:
        self.own = own
        self.outcome: Future[Response | None] = Future()
        self.ended: Future[Response | None] = Future()
        self.is_sending = False

    def takes(self, result: Any) -> bool:
        """Say whether an endpoint answers with this itself."""
        return isinstance(result, Response)

    def hand_over(self, job: Job, result: Response) -> None:
        """Give the loop a Response, and block until it was sent: the job ends with it.

        Raises:
            Cancelled: the job ended meanwhile.
            NotEncodable: nobody waits for it.
        """
        self._offer(job, result)
        try:
            self.ended.result(min(job.request.timeout_s, _LONGEST_S))
        except TimeoutError:  # the deadline, which nobody else has watched
            job.expire()
        job.channel.check()

    async def hand_over_on_loop(self, job: Job, result: Response) -> None:
        """Do the same from the loop; a thread for each would soon use up the pool."""
        self._offer(job, result)
        await asyncio.shield(asyncio.wrap_future(self.ended))

    def end(self) -> None:
        """Let whoever waits go on: the job is over."""
        for future in (self.outcome, self.ended):
            if not future.done():  # what refuses a second result would first write out what it holds
                with suppress(InvalidStateError):
                    future.set_result(None)
        # Jobs are kept for long: let go of a Response whose iterator may hold tensors.
        self.outcome = self.ended

    def _offer(self, job: Job, response: Response) -> None:
        if job.request.is_detached:
            raise NotEncodable(
                "the endpoint answers with a response of its own, which no job can keep; call it directly"
            )
        job.has_own_answer = True
        with suppress(InvalidStateError):  # the job has just ended
            self.outcome.set_result(response)


class StreamAnswer(Answer):
    """Refuse a Response that a stream's endpoint returns; its headers can be set all the same."""

    __slots__ = ()

    def __init__(self, own: Response | None = None) -> None:
        self.own = own
        self.outcome = self.ended = _ENDED  # futures of each job's own take a kilobyte each
        self.is_sending = False

    def end(self) -> None:
        """Do nothing: nobody waits."""

    def _offer(self, job: Job, response: Response) -> None:
        raise NotEncodable("the endpoint is declared as a stream and returned a Response; declare -> Response instead")


#: of streams whose endpoint takes no `Response`
NO_ANSWER = StreamAnswer()


def answer_of(job: Job) -> Answer | None:
    """Return what a request gave its job; None for one that was started otherwise."""
    return job.answer if isinstance(job.answer, Answer) else None


def own_headers(job: Job) -> list[tuple[bytes, bytes]]:
    """Return the headers that the endpoint has set so far, without those that the body decides."""
    answer = answer_of(job)
    if answer is None or answer.own is None:
        return []
    return [pair for pair in answer.own.raw_headers if pair[0] not in (b"content-length", b"content-type")]
