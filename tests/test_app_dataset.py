"""The app that processes datasets: its lists and files, what is wrong with a record, cuts, memory, and its clients."""

import asyncio
import base64
import csv
import gc
import hashlib
import importlib.util
import io
import itertools
import json
import os
import statistics
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cutting_proxy import cutting
from tests.fal_packages import needs
from tests.processes import serving
from tests.waiting import WAIT_S, until

from streamapp import LargeFile
from streamapp.errors import InvalidInput
from streamapp.settings import Settings
from streamapp.testing import TestClient
from streamapp_client import Client

sys.path.insert(0, str(Path(__file__).parent.parent))  # `apps` is no part of the package

from apps.dataset import app, tally
from apps.dataset.app import Dataset, FileInput, ListInput
from apps.dataset.records import MAX_RECORD_BYTES
from apps.dataset.tally import Tally

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "tests" / "apps" / "chutes_guide" / "client.py"
needs_aiohttp = needs(importlib.util.find_spec("aiohttp") is not None, "aiohttp is missing; run `make install`")


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(Dataset) as client:
        yield client


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, int]]:
    """Serve the app in a process of its own: its URL and its id."""
    with serving(f"{ROOT / 'apps/dataset/app.py'}:Dataset", env=os.environ) as (url, process):
        yield url, process.pid


def processed(content: bytes | LargeFile, name: str = "", **options: Any) -> list[dict[str, Any]]:
    file = content if isinstance(content, LargeFile) else LargeFile(content, len(content), "", name)
    return list(Dataset().process_file(FileInput(file=file, **options)))


def texts(events: list[dict[str, Any]]) -> list[str]:
    return [result["original"] for event in events for result in event.get("chunk_results", [])]


def of_type(events: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


def packed(told: bytes) -> str:
    return base64.b64encode(zlib.compress(told)).decode()


def upload(http: httpx.Client, content: Any, name: str = "a.txt") -> str:
    answer = http.post("/rest/files/upload", content=content, headers={"X-Fal-File-Name": name}, timeout=WAIT_S)
    url: str = answer.raise_for_status().json()["access_url"]
    return url


# Lists


def test_a_list_is_told_of_as_in_the_guide() -> None:
    data = ["one", "zwölf", "three"]
    results = [
        {"original": s, "processed": s.upper(), "length": len(s), "hash": hashlib.md5(s.encode()).hexdigest()[:8]}
        for s in data
    ]
    first, second, last = Dataset().process_stream(ListInput(data=data, chunk_size=2))
    progress = {"type": "progress", "processed": 2, "total": 3, "progress": 2 / 3, "chunk_results": results[:2]}
    assert first == progress
    assert second == {**progress, "processed": 3, "progress": 1.0, "chunk_results": results[2:]}
    summary = last.pop("summary")
    assert last == {"type": "complete", "processed": 3, "total": 3, "progress": 1.0, "all_results": results}
    assert summary.items() >= {"total_items": 3, "total_length": 13, "average_length": 13 / 3}.items()


def test_an_empty_list_is_complete_at_once() -> None:
    (last,) = Dataset().process_stream(ListInput(data=[]))
    assert (last["progress"], last["all_results"], last["summary"]["average_length"]) == (1.0, [], 0)


def test_a_list_too_large_for_one_answer_is_sent_to_the_other_endpoint(client: TestClient) -> None:
    refused = client.post("/process_stream", json={"data": ["a" * 1024 * 1024] * 5})
    assert (refused.status_code, "send a file to /process_file" in refused.text) == (422, True)


@needs_aiohttp
async def test_the_guides_client_for_python_follows_a_list(served: tuple[str, int]) -> None:
    names: dict[str, Any] = {}
    exec(compile(GUIDE.read_text(), "client.py", "exec"), names)
    told: list[float] = []
    async with asyncio.timeout(WAIT_S), names["ChutesAsyncClient"](served[0]) as guides:
        reading = guides.stream_http(
            "/process_stream",
            method="POST",
            data={"data": [str(n) for n in range(25)]},
            progress_callback=lambda event: told.append(event["progress"]),
        )
        events = [event async for event in reading]
    assert [event["type"] for event in events] == ["progress", "progress", "progress", "complete"]
    assert told == [10 / 25, 20 / 25, 1.0, 1.0]


# Files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b'one\n\ntwo, "2"\r\nthr\xc3\xa9e'),
        ("a", b'\xef\xbb\xbfone\ntwo, "2"\nthr\xc3\xa9e\n\n'),
        ("a.jsonl", b'"one"\n{"id": 2, "text": "two, \\"2\\""}\n\n{"text": "thr\\u00e9e"}'),
        ("a", b'{"text": "one"}\n{"text": "two, \\"2\\""}\n{"text": "thr\xc3\xa9e"}\n'),
        ("a.csv", b'id,text\n1,one\n\n2,"two, ""2"""\r\n3,thr\xc3\xa9e'),
        ("a.csv", b'\xef\xbb\xbftext,id\none,1\n"two, ""2""",\xff\nthr\xc3\xa9e\n'),
    ],
)
def test_a_file_is_lines_json_lines_or_csv(name: str, content: bytes) -> None:
    *events, last = processed(content, name, results=True)
    assert texts(events) == ["one", 'two, "2"', "thrée"]
    assert (last["status"], last["processed"], last["failed"], last["progress"]) == ("completed", 3, 0, 1.0)


def test_a_record_of_csv_may_have_several_lines() -> None:
    events = processed(b'text\n"a\nb"\nc\n', "a.csv", results=True)
    assert texts(events) == ["a\nb", "c"]


def test_the_field_and_the_format_may_be_named() -> None:
    assert texts(processed(b'{"title": "a"}', field="title", results=True)) == ["a"]
    assert texts(processed(b'["a"]', format="lines", results=True)) == ['["a"]']


def test_results_are_told_only_where_they_are_asked_for() -> None:
    assert texts(processed(b"a\nb\n")) == []


def test_progress_counts_the_bytes_that_were_read() -> None:
    events = of_type(processed(b"ab\n" * 250, chunk_size=100), "progress")
    told = [(event["processed"], event["bytes"], event["total_bytes"], event["progress"]) for event in events]
    assert told == [(100, 300, 750, 0.4), (200, 600, 750, 0.8), (250, 750, 750, 1.0)]


@pytest.mark.parametrize(
    ("name", "content", "line", "problem"),
    [
        ("a.jsonl", b'"a"\n{"text":\n"b"\n', 2, "EOF while parsing a value at column 8"),
        ("a.jsonl", b'"a"\n{"txt": "c"}\n"b"\n', 2, "expected a text in the field 'text', got the fields txt"),
        ("a.jsonl", b'"a"\n{"text": 1}\n"b"\n', 2, "expected a text in the field 'text', got int"),
        ("a.jsonl", b'"a"\n7\n"b"\n', 2, "or an object with the field 'text'; got int"),
        ("a.jsonl", b'"a"\n"\xff"\n"b"\n', 2, "invalid"),
        ("a.txt", b"a\nc\xff\nb\n", 2, "no UTF-8: the byte 0xff at 1"),
        ("a.txt", b"a\n%s\nb" % (b"c" * 5 * MAX_RECORD_BYTES), 2, "longer than 1048576 bytes"),
        ("a.csv", b"id,text\n1,a\n2,\xff\n3,b\n", 3, "no UTF-8: the byte 0xff at 0"),
        ("a.csv", b"id,text\n1,a\n2\n3,b\n", 3, "expected 2 columns, got 1"),
        ("a.csv", b'text\na\n"c"c\nb\n', 3, "expected after"),
        ("a.csv", b"text\na\n%s\nb\n" % (b"c" * 2 * MAX_RECORD_BYTES), 3, "longer than 1048576 bytes"),
    ],
)
def test_what_is_wrong_with_a_record_is_told_and_the_rest_goes_on(
    name: str, content: bytes, line: int, problem: str
) -> None:
    events = processed(content, name, results=True)
    (error,) = of_type(events, "error")
    assert (error["line"], problem in error["error"]) == (line, True), error
    assert texts(events) == ["a", "b"]
    assert (events[-1]["status"], events[-1]["failed"], events[-1]["total"]) == ("completed_with_errors", 1, 3)


def test_a_column_may_be_as_long_as_a_record() -> None:
    text = "line,\n" * 100_000
    assert texts(processed(f'text\n"{text}"\nb\n'.encode(), "a.csv", results=True)) == [text, "b"]


@pytest.mark.parametrize("record", [b'"' + b"c" * 1000 + b"\n", b'"c\n",' * 1000])
def test_a_quote_that_is_not_closed_costs_no_more_than_a_records_bytes(
    record: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.dataset.records.MAX_RECORD_BYTES", 1500)
    events = processed(b"text\na\n" + record + b"\n" + b"b\n" * 5000, "a.csv")
    assert events[-1]["failed"] >= 1
    assert events[-1]["processed"] > 3000


def test_of_many_bad_records_the_first_are_told_and_all_are_counted() -> None:
    events = processed(b'"a"\n' + b"{\n" * 250, "a.jsonl")
    assert len(of_type(events, "error")) == 100
    assert events[-1]["failed"] == 250


def test_a_file_without_a_good_record_fails(client: TestClient) -> None:
    stream = client.stream("/process_file", {"file": "data:,1%0A2%0A", "format": "jsonl"})
    with pytest.raises(Exception, match="none of the 2 records could be read"):
        list(stream)


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        (b"\x1f\x8b\x08", "a.jsonl.gz", "the file is gzip: unpack it before, by gunzip"),
        (b"PK\x03\x04", "a.csv", "a zip archive"),
        ("a".encode("utf-16"), "a.txt", "in UTF-16: write it in UTF-8"),
        (b' [\n {"text": "a"}]', "a.json", "a JSON array, .* by jq -c"),
        (b"id,title\n", "a.csv", "expected a column 'text' in the first line of the CSV, got 'id, title'"),
        (b'"id"x\n', "a.csv", "the first line of the CSV, which has the columns' names, cannot be read: ',' expected"),
        (b"text\rb\r", "a.csv", "a carriage return ends no line; write line feeds"),
        (b"id;text\n", "a.csv", "got 'id;text': its columns are parted by ';'; write commas"),
        (b"id\ttext\n", "a.tsv", "parted by '.t'; write commas"),
        (b"PAR1\x15\x04", "a.parquet", "the file is Parquet: write its rows as CSV"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_what_to_do(content: bytes, name: str, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        processed(content, name)


def test_a_file_without_records_is_complete() -> None:
    (last,) = processed(b"")
    assert (last["processed"], last["summary"]["shortest"], last["summary"]["distinct"]) == (0, None, 0)


# The summary


def test_the_summary_is_that_of_the_lengths() -> None:
    lengths = [n * n % 97 for n in range(1, 500)]
    summary = processed(b"".join(b"x" * n + b"\n" for n in lengths if n))[-1]["summary"]
    kept = [n for n in lengths if n]
    assert (summary["total_items"], summary["total_length"]) == (len(kept), sum(kept))
    assert (summary["shortest"], summary["longest"]) == (min(kept), max(kept))
    assert summary["average_length"] == pytest.approx(statistics.mean(kept))
    assert summary["deviation"] == pytest.approx(statistics.pstdev(kept))


@pytest.mark.parametrize("count", [1, 100, 3000, 30_000])
def test_how_many_differ_is_known_to_a_tenth(count: int) -> None:
    known = Tally()
    for _ in range(2):
        known.add([f"text {n}" for n in range(count)])
    assert known.distinct == pytest.approx(count, rel=0.1)


# Cuts

TEXTS = st.lists(st.text(st.characters(codec="utf-8"), max_size=8), min_size=1, max_size=30)


def written(format: str, given: list[str]) -> bytes:
    if format == "csv":
        table = io.StringIO()
        csv.writer(table).writerows([["id", "text"], *([n, text.replace("\0", "")] for n, text in enumerate(given))])
        return table.getvalue().encode()
    if format == "jsonl":
        return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in given)
    return b"".join("".join(text.splitlines()).encode() + b"\n" for text in given)


@given(TEXTS, st.sampled_from(["lines", "jsonl", "csv"]), st.integers(1, 60), st.data())
@settings(max_examples=40, deadline=None)
def test_two_runs_of_which_one_goes_on_where_the_other_was_cut_are_one(
    given: list[str], format: str, chunk_bytes: int, data: st.DataObject
) -> None:
    content = written(format, ["a", *given]) + (b'{"\n' if format == "jsonl" else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "_RESULT_BYTES", chunk_bytes)
        whole = processed(content, f"a.{format}", format=format, results=True)
        cut = data.draw(st.integers(1, len(whole) - 1))
        progress = of_type(whole[:cut], "progress")
        before = whole[: whole.index(progress[-1]) + 1] if progress else []
        state = progress[-1]["state"] if progress else ""
        rest = processed(content, f"a.{format}", format=format, results=True, state=state)
    assert before + rest == whole


@pytest.mark.parametrize(
    "state",
    [
        *("?", "e30", "e30="),
        packed(b"{"),
        packed(b'{"registers": "AAAA"}'),
        packed(b" " * 1_000_000 + b"{}"),
        Tally(size=3, processed=1, total_length=2).state(),
    ],
)
def test_what_is_no_state_is_refused(state: str) -> None:
    with pytest.raises(InvalidInput, match="state: "):
        processed(b"a\n", state=state)


def test_a_state_is_short_beside_what_it_sums_up() -> None:
    assert len(of_type(processed(b"a\nb\n"), "progress")[-1]["state"]) < 300
    many = b"".join(b"%d\n" % n for n in range(100_000))
    assert len(of_type(processed(many), "progress")[-1]["state"]) < 1500


def test_a_state_is_of_its_file() -> None:
    state = of_type(processed(b"a\nb\n"), "progress")[0]["state"]
    with pytest.raises(InvalidInput, match="of a file of 4 bytes, and this one has 5; send the same file"):
        processed(b"a\nbc\n", state=state)


@pytest.mark.parametrize(
    ("offset", "problem"), [(1, "no record of this file begins at its byte 1"), (5, "behind its file")]
)
def test_a_state_leads_to_where_a_record_begins(offset: int, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        processed(b"a\nb\n", state=Tally(size=4, offset=offset).state())


def test_a_state_is_of_a_run_in_which_the_same_was_asked() -> None:
    begun = Tally(size=4)
    begun.add(["a"], ["POSITIVE"])
    with pytest.raises(InvalidInput, match="expected `sentiment` as in the run that it is of"):
        processed(b"a\nb\n", state=begun.state())
    with pytest.raises(InvalidInput, match="expected `sentiment` as in the run that it is of"):
        Tally.of(Tally(size=4, processed=1).state(), 4, has_feelings=True)


def test_a_client_that_has_missed_events_goes_on_by_a_state() -> None:
    # No further ahead than two: else all may be there before the first is taken, and nothing is let go of.
    limits = Settings(ahead_events=2, behind_events=0, behind_bytes=0, drain_s=0)
    with TestClient(Dataset, settings=limits) as client:
        asked = {"file": upload(client.http, b"a\n" * 1000), "chunk_size": 100}
        resumable = {"Streamapp-Resume": "60"}
        events = list(client.stream("/process_file", asked, headers=resumable, limit=6))
        missed, *_ = client.resume(events[1].id)
        first, *_, last = client.stream("/process_file", {**asked, "state": events[1].data["state"]})
    assert missed.name == "lagged"
    assert first.data == events[2].data
    assert last.data["processed"] == 1000


def test_many_cuts_lose_and_double_nothing(served: tuple[str, int]) -> None:
    url, _ = served
    content = b"".join(b"record %d\n" % n for n in range(2000))
    with httpx.Client(base_url=url) as http:
        asked = {"file": upload(http, content), "results": True, "chunk_size": 100}
    with cutting(httpx.URL(url).port or 0, cut=1, most_bytes=150_000) as proxy, Client(url) as straight:
        (*_, last) = [event.data for event in straight.stream("/process_file", asked)]
        with Client(f"http://127.0.0.1:{proxy.port}") as cut:
            came = [event.data for event in cut.stream("/process_file", asked)]
    assert proxy.cuts
    assert texts(came) == content.decode().splitlines()
    assert came[-1] == last


@pytest.mark.long
def test_a_run_goes_on_in_another_process_after_the_first_was_killed() -> None:
    content = b"".join(b"record %d\n" % n for n in range(300_000))
    app_file = f"{ROOT / 'apps/dataset/app.py'}:Dataset"
    with serving(app_file, env=os.environ) as (url, process), httpx.Client(base_url=url) as http:
        asked = {"file": upload(http, content), "chunk_size": 1000}
        with Client(url) as client, client.stream("/process_file", asked) as stream:
            *_, last = [event.data for event in itertools.islice(stream, 20)]
            process.kill()
    assert last["processed"] == 20_000
    with serving(app_file, env=os.environ) as (url, _), httpx.Client(base_url=url) as http, Client(url) as client:
        asked = {"file": upload(http, content), "chunk_size": 1000}
        first, *_, resumed = [event.data for event in client.stream("/process_file", {**asked, "state": last["state"]})]
        *_, whole = [event.data for event in client.stream("/process_file", asked)]
    assert first["processed"] == 21_000
    assert resumed == whole


# Bounds


def peak_bytes(file: LargeFile) -> int:
    """Return the most memory that was held while a file was read, but for its events."""
    reading = Dataset().process_file(FileInput(file=file))
    tracemalloc.start()
    try:
        for _ in reading:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_file_four_times_as_large_takes_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_CHUNK_BYTES", 20_000)
    peaks = []
    for count in (3000, 12_000):
        (tmp_path / "a").write_bytes(b"".join(b"a record with the number %d\n" % n for n in range(count)))
        peaks.append(peak_bytes(LargeFile.at(tmp_path / "a")))
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("content", [b"a" * 20_000_000, b"\n" * 200_000], ids=["one line", "empty lines"])
def test_neither_one_line_nor_empty_ones_are_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    file = LargeFile.at(tmp_path / "a")
    reading = Dataset().process_file(FileInput(file=file))
    tracemalloc.start()
    with pytest.raises(InvalidInput) if content[:1] == b"a" else pytest.MonkeyPatch.context():
        assert len(list(reading)) > 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_reading_pauses_while_the_client_does_and_others_go_on(client: TestClient) -> None:
    file = upload(client.http, b"a\n" * 1_000_000)
    with client.stream("/process_file", {"file": file, "results": True, "chunk_size": 500}) as stream:
        next(stream)
        channel = client.job(stream.job_id).channel
        until(lambda: channel.statistics().kept_bytes > 3_900_000)
        emitted = channel.statistics().emitted
        *_, last = client.stream("/process_file", {"file": "data:,a%0Ab"})  # which has had its turns beside it
        assert last.data["processed"] == 2
        assert channel.statistics().emitted <= emitted + 20
        assert channel.statistics().kept_bytes < 4_400_000


def test_a_run_that_is_cancelled_ends_within_its_chunk_while_another_goes_on(client: TestClient) -> None:
    file = upload(client.http, b"a\n" * 1_000_000)
    asked = {"file": file, "chunk_size": 100}
    with client.stream("/process_file", asked) as one, client.stream("/process_file", asked) as other:
        next(one)
        next(other)
        client.post(f"/jobs/{one.job_id}/cancel")
        until(lambda: client.job(one.job_id).status == "cancelled")
        job = client.job(one.job_id)
        until(lambda: job.has_returned)
        assert next(other).data["type"] == "progress"
        assert client.job(other.job_id).status == "running"


def test_what_came_with_a_form_is_gone_with_a_client_that_leaves(client: TestClient) -> None:
    before = open_files()
    form = {"file": ("a.txt", b"a\n" * 2_000_000)}
    with client.http.stream("POST", "/process_file", files=form, data={"chunk_size": "100"}) as response:
        next(response.iter_lines())
        assert len(open_files()) > len(before)
    until(lambda: (gc.collect(), len(open_files()) <= len(before))[1])


def open_files() -> list[str]:
    """Return those of this process that have no name any more."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:  # that of the folder itself
            continue
    return [link for link in links if "(deleted)" in link]


def test_a_file_for_which_there_is_no_room_is_refused_in_words() -> None:
    with TestClient(Dataset, settings=Settings(max_files_bytes=1000, drain_s=0)) as client:
        refused = client.post("/rest/files/upload", content=b"a\n" * 1000)
    assert (refused.status_code, "the files' quota of 1000 bytes is used up" in refused.text) == (507, True)


def test_an_uploaded_file_over_all_limits_of_bodies_is_read() -> None:
    limits = Settings(max_body_bytes=10_000, max_media_bytes=10_000, max_input_bytes=100_000, drain_s=0)
    with TestClient(Dataset, settings=limits) as client:
        file = upload(client.http, b"a record\n" * 100_000, "a.txt")
        *_, last = client.stream("/process_file", {"file": file})
    assert last.data["processed"] == 100_000


@pytest.mark.long
def test_a_server_takes_no_more_memory_for_a_file_four_times_as_large(served: tuple[str, int]) -> None:
    """`benchmarks/dataset.py` measures a gigabyte."""
    url, pid = served
    line = json.dumps({"text": "some words of a record, " * 4}).encode() + b"\n"
    grown = []
    with httpx.Client(base_url=url) as http, Client(url) as client:
        for megabytes in (8, 64, 256):  # the first for what grows once
            block = line * (1024 * 1024 // len(line))
            file = upload(http, (block for _ in range(megabytes)), "a.jsonl")
            *_, last = client.stream("/process_file", {"file": file})
            assert last.data["summary"]["distinct"] == 1
            grown.append(most_resident_bytes(pid))
    assert grown[2] - grown[1] < 8 * 1024 * 1024
    assert grown[2] - grown[0] < 32 * 1024 * 1024


def most_resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def test_a_register_is_no_more_than_a_hash_has_zeros() -> None:
    with pytest.raises(InvalidInput, match="state: "):
        Tally.of(Tally(size=1).model_copy(update={"registers": [200] * tally._REGISTERS}).state(), 1)
