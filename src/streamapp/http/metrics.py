"""Turn statistics into Prometheus' text format; nothing is counted here except how long jobs ran.

The figures are read when Prometheus asks, from the `statistics()` of workers, jobs, channels and places.
"""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..jobs.channel import ChannelStatistics
from ..jobs.job import Job
from ..jobs.jobs import JobsStatistics
from ..places import PlacesStatistics
from ..workers.worker import WorkerStatistics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """Hold one server's registry.

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
        self._registry = CollectorRegistry()
        self._registry.register(_Statistics(workers, jobs, channels, input_bytes, places, peers))
        self._job_seconds = Histogram(
            "streamapp_job_seconds",
            "How long jobs ran.",
            ("endpoint", "status"),
            buckets=_SECONDS,
            registry=self._registry,
        )

        self._by_labels: dict[tuple[str, str], Histogram] = {}

    def observe(self, job: Job) -> None:
        """Count a job that is over; may be called from any thread."""
        if job.started_at is not None and job.finished_at is not None:
            labels = (job.request.path, job.status)
            seconds = self._by_labels.get(labels)
            if seconds is None:
                seconds = self._by_labels[labels] = self._job_seconds.labels(*labels)
            seconds.observe(job.finished_at - job.started_at)

    def render(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)


class _Statistics(Collector):
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

    def collect(self) -> Iterator[Metric]:
        yield from self._collect_workers()
        jobs = self._jobs()
        ended = CounterMetricFamily("streamapp_jobs", "Jobs that ended, by how.", labels=("status",))
        for status in ("succeeded", "failed", "cancelled"):
            ended.add_metric((status,), getattr(jobs, status))
        yield ended
        yield GaugeMetricFamily("streamapp_jobs_kept", "Finished jobs in memory.", jobs.finished)
        channels = list(self._channels())
        yield GaugeMetricFamily("streamapp_readers", "Open readers.", sum(c.subscribers for c in channels))
        yield GaugeMetricFamily(
            "streamapp_kept_bytes", "Event bytes of active jobs.", sum(c.kept_bytes for c in channels)
        )
        yield GaugeMetricFamily("streamapp_input_bytes", "Input bytes of requests and jobs.", self._input_bytes())
        yield from self._collect_sessions()

    def _collect_sessions(self) -> Iterator[Metric]:
        places = self._places()
        sessions = GaugeMetricFamily("streamapp_sessions", "Open sessions.", labels=("app", "kind"))
        for labels, count in places.taken.items():
            sessions.add_metric(labels, count)
        yield sessions
        yield GaugeMetricFamily("streamapp_peers", "Open peer connections, by WebRTC.", self._peers())
        yield CounterMetricFamily("streamapp_sessions_refused", "Sessions refused with 503.", places.refused)

    def _collect_workers(self) -> Iterator[Metric]:
        labels = ("app", "kind")
        ready = GaugeMetricFamily("streamapp_ready", "1 while the worker takes jobs.", labels=labels)
        queued = GaugeMetricFamily("streamapp_queue_length", "Jobs that wait for their turn.", labels=labels)
        running = GaugeMetricFamily("streamapp_jobs_running", "Jobs that run now.", labels=labels)
        refused = CounterMetricFamily("streamapp_jobs_refused", "Jobs refused with 429.", labels=labels)
        for app, kind, worker in self._workers():
            ready.add_metric((app, kind), float(worker.state == "ready"))
            queued.add_metric((app, kind), worker.queued)
            running.add_metric((app, kind), worker.running)
            refused.add_metric((app, kind), worker.refused)
        yield from (ready, queued, running, refused)
