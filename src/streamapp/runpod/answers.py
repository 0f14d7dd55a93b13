"""Tell of a job as Runpod does: its state, its times, and what has come of it."""

import json
from typing import Any

from ..errors import DeadlineExceeded
from ..jobs.job import Job
from ..workers.worker import Worker
from .apps import Streams
from .outcomes import error_text
from .places import Place
from .pool import Pool

_STATES = {"queued": "IN_QUEUE", "running": "IN_PROGRESS", "succeeded": "COMPLETED", "cancelled": "CANCELLED"}


def state_of(job: Job) -> str:
    """Return Runpod's word for a job's state."""
    error = job.error
    if error is not None and job.status == "failed":
        return "TIMED_OUT" if error.code == DeadlineExceeded.code else "FAILED"
    return _STATES[job.status]


def status_of(place: Place, job: Job, job_id: str) -> list[bytes]:
    """Return all that is told of a job, as pieces of JSON: outputs are the log's own bytes, which can be many."""
    ending, began = job.channel.terminal, job.started_at
    told: dict[str, Any] = {"id": job_id, "status": state_of(job)}
    now = (job.finished_at or job.now()) if ending is not None else job.now()
    if began is not None or ending is not None:
        told["delayTime"] = _ms((began or now) - job.created_at)
    if ending is not None:
        told["executionTime"] = _ms(now - (began or now))
    if job.attempt > 1:
        told["retries"] = job.attempt - 1
    if began is not None:
        told["workerId"] = _worker_id(place.worker, job)
    error = error_of(place, job)
    return body_of(told if error is None else {**told, "error": error}, output=_output_of(place, job))


def _worker_id(worker: Worker, job: Job) -> str:
    return (isinstance(worker, Pool) and worker.worker_id(job)) or worker.name


def error_of(place: Place, job: Job) -> str | None:
    """Say why a job has failed, or why what it has brought cannot be told whole."""
    if job.status == "failed":
        return failure_of(job)
    if _streamed(place, job) == "list" and job.channel.trimmed_n > job.attempt_began:
        return "the first outputs are not kept any more: they were too many; read stream/{id} while such a job runs"
    return None


def failure_of(job: Job) -> str | None:
    """Say why a job has failed or was cancelled, a handler's failure as Runpod does; None where it was neither."""
    return None if job.error is None else error_text(job.error)


def body_of(told: dict[str, Any], *, output: list[bytes]) -> list[bytes]:
    """Return an answer as pieces of JSON, with an output that is such already, or nothing."""
    written = json.dumps(told, separators=(",", ":")).encode()
    return [written[:-1], b',"output":', *output, b"}"] if output else [written]


def _output_of(place: Place, job: Job) -> list[bytes]:
    """Return what has come of a job so far: its newest progress while it runs."""
    match job.status:
        case "running":
            return _progress_of(job)
        case "succeeded":
            return _final_output(place, job)
    return []


def _final_output(place: Place, job: Job) -> list[bytes]:
    match _streamed(place, job):
        case "list" if job.channel.trimmed_n > job.attempt_began:
            return []
        case "list":
            outputs = [event.data for event in job.channel.events(after=job.attempt_began) if event.kind == "output"]
            separated = [piece for data in outputs for piece in (b",", data)]
            return [b"[", *separated[1:], b"]"]
        case "empty":
            return [b"[]"]
    result = job.result
    return [] if result is None else [result.data]


def _streamed(place: Place, job: Job) -> str | None:
    worker = place.worker
    return worker.streamed_output(job) if job.status == "succeeded" and isinstance(worker, Streams) else None


def _progress_of(job: Job) -> list[bytes]:
    """Return the newest progress: of what a handler has told, that alone."""
    progress = job.channel.newest_progress
    if progress is None:
        return []
    told = progress.json()
    return [json.dumps(told["output"]).encode() if "output" in told else progress.data]


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
