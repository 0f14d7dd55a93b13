"""Turn statistics into Prometheus' text format; nothing is counted here except how long jobs ran.

The figures are read when Prometheus asks, from the `statistics()` of workers, jobs, channels and places.
"""

import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from ..jobs.channel import ChannelStatistics
from ..jobs.job import Job
from ..jobs.jobs import JobsStatistics
from ..later import module
from ..places import PlacesStatistics
from ..workers.worker import WorkerStatistics

if TYPE_CHECKING:
    from prometheus_client import core, exposition
    from prometheus_client.core import Metric
else:  # not before somebody asks
    core, exposition = module("prometheus_client.core"), module("prometheus_client.exposition")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_BOUNDS = (*(str(float(seconds)) for seconds in _SECONDS), "+Inf")


class Metrics:
    """Hold one server's figures, as a registry of Prometheus' package is asked for them.

    Args:
        workers: gives (app, kind, statistics) for each worker; kind is "sync" or "async".
        jobs: gives the counts of jobs.
        channels: gives the statistics of the channels of active jobs.
        input_bytes: gives the bytes of the inputs of requests and jobs under way.
        places: gives the counts of sessions.
        peers: gives the count of peer connections.
    """

    def __init__(
        self,
        workers: Callable[[], Iterable[tuple[str, str, WorkerStatistics]]],
        jobs: Callable[[], JobsStatistics],
        channels: Callable[[], Iterable[ChannelStatistics]],
        input_bytes: Callable[[], int],
        places: Callable[[], PlacesStatistics],
        peers: Callable[[], int],
    ) -> None:
        self._workers = workers
        self._jobs = jobs
        self._channels = channels
        self._input_bytes = input_bytes
        self._places = places
        self._peers = peers
        self._seconds: dict[tuple[str, str], _Seconds] = {}
        self._lock = threading.Lock()

    def observe(self, job: Job) -> None:
        """Count a job that is over; may be called from any thread."""
        if job.started_at is not None and job.finished_at is not None:
            seconds = job.finished_at - job.started_at
            with self._lock:
                self._seconds.setdefault((job.request.path, job.status), _Seconds()).add(seconds)

    def load(self) -> None:
        """Import what the text is written by; takes 10 ms once, for which the loop should not wait."""
        _ = core.Metric, exposition.generate_latest

    def render(self) -> bytes:
        """Return all metrics in the text format."""
        return exposition.generate_latest(self)

    def collect(self) -> "Iterator[Metric]":
        """Yield each metric; Prometheus' package asks."""
        yield from self._collect_workers()
        jobs = self._jobs()
        ended = core.CounterMetricFamily("streamapp_jobs", "Jobs that ended, by how.", labels=("status",))
        for status in ("succeeded", "failed", "cancelled"):
            ended.add_metric((status,), getattr(jobs, status))
        yield ended
        yield core.GaugeMetricFamily("streamapp_jobs_kept", "Finished jobs in memory.", jobs.finished)
        channels = list(self._channels())
        yield core.GaugeMetricFamily("streamapp_readers", "Open readers.", sum(c.subscribers for c in channels))
        yield core.GaugeMetricFamily(
            "streamapp_kept_bytes", "Event bytes of active jobs.", sum(c.kept_bytes for c in channels)
        )
        yield core.GaugeMetricFamily("streamapp_input_bytes", "Input bytes of requests and jobs.", self._input_bytes())
        yield from self._collect_sessions()
        yield self._collect_seconds()

    def _collect_sessions(self) -> "Iterator[Metric]":
        places = self._places()
        sessions = core.GaugeMetricFamily("streamapp_sessions", "Open sessions.", labels=("app", "kind"))
        for labels, count in places.taken.items():
            sessions.add_metric(labels, count)
        yield sessions
        yield core.GaugeMetricFamily("streamapp_peers", "Open peer connections, by WebRTC.", self._peers())
        yield core.CounterMetricFamily("streamapp_sessions_refused", "Sessions refused with 503.", places.refused)

    def _collect_workers(self) -> "Iterator[Metric]":
        labels = ("app", "kind")
        ready = core.GaugeMetricFamily("streamapp_ready", "1 while the worker takes jobs.", labels=labels)
        queued = core.GaugeMetricFamily("streamapp_queue_length", "Jobs that wait for their turn.", labels=labels)
        running = core.GaugeMetricFamily("streamapp_jobs_running", "Jobs that run now.", labels=labels)
        refused = core.CounterMetricFamily("streamapp_jobs_refused", "Jobs refused with 429.", labels=labels)
        for app, kind, worker in self._workers():
            ready.add_metric((app, kind), float(worker.state == "ready"))
            queued.add_metric((app, kind), worker.queued)
            running.add_metric((app, kind), worker.running)
            refused.add_metric((app, kind), worker.refused)
        yield from (ready, queued, running, refused)

    def _collect_seconds(self) -> "Metric":
        family = core.HistogramMetricFamily(
            "streamapp_job_seconds", "How long jobs ran.", labels=("endpoint", "status")
        )
        with self._lock:
            for labels, seconds in self._seconds.items():
                family.add_metric(
                    labels, [*zip(_BOUNDS, map(float, accumulate(seconds.counts)), strict=True)], seconds.sum
                )
                named = dict(zip(("endpoint", "status"), labels, strict=True))
                family.add_sample("streamapp_job_seconds_created", named, seconds.created)
        return family


@dataclass(slots=True)
class _Seconds:
    """Count the jobs of one endpoint and status by how long they ran.

    Attributes:
        counts: in each bucket those that are in none before.
        created: when the first of them ended.
    """

    counts: list[int] = field(default_factory=lambda: [0] * len(_BOUNDS))
    sum: float = 0.0
    created: float = field(default_factory=time.time)

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.sum += seconds
