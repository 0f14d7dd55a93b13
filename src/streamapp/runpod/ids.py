"""Tell a job's id as Runpod does: a UUID, after `sync-` where it was begun by /runsync, with `-u1` behind it.

It is read in any of the forms in which it may come, and told as it was asked for; to a handler as to who began the job,
since both may keep files by it.
"""

import re

from ..errors import JobNotFound
from ..jobs.job import Job

_ID = re.compile(r"(sync-)?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})(-[a-z]+[0-9]+)?")
_MAX_SHOWN = 64


def shown_id(job_id: str, *, is_sync: bool = False) -> str:
    """Return a job's id in Runpod's form."""
    parts = job_id[:8], job_id[8:12], job_id[12:16], job_id[16:20], job_id[20:]
    return f"{'sync-' if is_sync else ''}{'-'.join(parts)}-u1"


def read_id(shown: str) -> tuple[str, bool]:
    """Return the job's id, and whether it is one of /runsync.

    Raises:
        JobNotFound: no job has such an id.
    """
    match = _ID.fullmatch(shown.lower())
    if match is None:
        raise JobNotFound(f"job {shown[:_MAX_SHOWN]!r} is not here: expected an id as /run and /runsync answer it")
    sync, *parts, _ = match.groups()
    return "".join(parts), sync is not None


def told_id(job: Job) -> str:
    """Return the id that a job's caller knows it by: Runpod's form where it came by /run or /runsync."""
    operation = job.request.operation
    return shown_id(job.id, is_sync=operation == "runsync") if operation else job.id
