"""Metrics: statistics in Prometheus' text format."""

import time
from collections.abc import Iterator

from prometheus_client.parser import text_string_to_metric_families
from tests.at_work import request

from streamapp.errors import Draining
from streamapp.http.metrics import Metrics
from streamapp.jobs.channel import ChannelStatistics
from streamapp.jobs.job import Job
from streamapp.jobs.jobs import JobsStatistics
from streamapp.places import PlacesStatistics
from streamapp.settings import Settings
from streamapp.workers.worker import WorkerStatistics

IDLE = WorkerStatistics(state="ready", queued=0, running=0, refused=0)


def make(
    *workers: tuple[str, str, WorkerStatistics],
    jobs: JobsStatistics | None = None,
    channels: tuple[ChannelStatistics, ...] = (),
    input_bytes: int = 0,
    places: PlacesStatistics | None = None,
    peers: int = 0,
) -> Metrics:
    counts = jobs or JobsStatistics(finished=0, succeeded=0, failed=0, cancelled=0)
    taken = places or PlacesStatistics({}, 0)
    return Metrics(lambda: workers, lambda: counts, lambda: channels, lambda: input_bytes, lambda: taken, lambda: peers)


def samples(metrics: Metrics) -> dict[str, float]:
    """Read the page back as Prometheus does: `name{labels}` -> value."""
    return dict(_samples(metrics.render().decode()))


def _samples(text: str) -> Iterator[tuple[str, float]]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(sample.labels.values())
            yield f"{sample.name}{{{labels}}}", sample.value


def test_every_worker_has_its_figures() -> None:
    busy = IDLE._replace(queued=3, running=1, refused=7)
    loading = IDLE._replace(state="starting")
    page = samples(make(("sdxl", "sync", busy), ("sdxl", "async", loading)))
    assert (page["streamapp_ready{sdxl,sync}"], page["streamapp_ready{sdxl,async}"]) == (1, 0)
    assert page["streamapp_queue_length{sdxl,sync}"] == 3
    assert page["streamapp_jobs_running{sdxl,sync}"] == 1
    assert page["streamapp_jobs_refused_total{sdxl,sync}"] == 7


def test_peer_connections_are_counted() -> None:
    assert samples(make(peers=3))["streamapp_peers{}"] == 3


def test_jobs_are_counted_by_how_they_ended() -> None:
    page = samples(make(jobs=JobsStatistics(finished=4, succeeded=3, failed=2, cancelled=1)))
    assert [page[f"streamapp_jobs_total{{{status}}}"] for status in ("succeeded", "failed", "cancelled")] == [3, 2, 1]
    assert page["streamapp_jobs_kept{}"] == 4


def test_sessions_are_counted_by_app_and_kind() -> None:
    taken = {("chat", "websocket"): 2, ("sdxl", "realtime"): 1}
    page = samples(make(places=PlacesStatistics(taken, refused=3)))
    assert (page["streamapp_sessions{chat,websocket}"], page["streamapp_sessions{sdxl,realtime}"]) == (2, 1)
    assert page["streamapp_sessions_refused_total{}"] == 3


def test_readers_and_bytes_are_summed_over_the_channels() -> None:
    channel = ChannelStatistics(emitted=1, replaced=0, kept_events=1, kept_bytes=100, ahead_events=0, subscribers=2)
    page = samples(make(channels=(channel, channel)))
    assert (page["streamapp_readers{}"], page["streamapp_kept_bytes{}"]) == (4, 200)


def test_the_bytes_of_inputs_are_told() -> None:
    assert samples(make(input_bytes=7))["streamapp_input_bytes{}"] == 7


def test_how_long_a_job_ran_is_counted_by_endpoint_and_status() -> None:
    metrics = make()
    job = Job(request(app="sdxl", endpoint="/stream"), Settings())
    started = time.time()
    job.start()
    job.fail(Draining("later"))
    took_s = time.time() - started
    metrics.observe(job)
    page = samples(metrics)
    assert page["streamapp_job_seconds_count{/sdxl/stream,failed}"] == 1
    assert 0 <= page["streamapp_job_seconds_sum{/sdxl/stream,failed}"] <= took_s


def test_a_job_that_never_ran_has_no_duration() -> None:
    metrics = make()
    job = Job(request(), Settings())
    job.cancel()
    metrics.observe(job)
    assert not any(name.startswith("streamapp_job_seconds") for name in samples(metrics))


def test_two_servers_in_a_process_count_apart() -> None:
    first, second = make(("a", "sync", IDLE)), make(("b", "sync", IDLE))
    assert "streamapp_ready{a,sync}" in samples(first)
    assert "streamapp_ready{a,sync}" not in samples(second)
