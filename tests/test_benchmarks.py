"""The benchmarks' arithmetic, the load client's decoding, where Ray may start, and one small case."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from benchmarks.client import Connection, Decoder, NotOffered, read, reading
from benchmarks.cores import beside, pinned
from benchmarks.figures import Figure, markdown, percentile, spread
from benchmarks.network import is_private, private
from benchmarks.plot import draw
from benchmarks.servers import PEERS, Served, serving
from benchmarks.workload import Steps

# An interpreter that lives until its input is closed, with a thread beside its first one.
_TWO_THREADS = "import sys, threading; threading.Thread(target=sys.stdin.read).start(); print(); sys.stdin.read()"
ROOT = Path(__file__).parent.parent
_SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_LINES = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


def decode(answer: bytes, size: int) -> list[tuple[str, bytes]]:
    decoder = Decoder()
    pieces = [answer[start : start + size] for start in range(0, len(answer), size)]
    return [event for piece in pieces for event in decoder.feed(piece)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_wherever_the_answer_is_cut(size: int) -> None:
    answer = _SSE + chunked(b": open\n\nid: 1\nevent: output\ndata: {", b'"i":0}\n\ndata: 1\r\n\r\n', b"data: 2")
    assert decode(answer, size) == [("output", b'{"i":0}'), ("", b"1")]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_answer_that_is_no_event_stream_is_read_line_by_line(size: int) -> None:
    assert decode(_LINES + chunked(b'{"i": 0}\n{"i"', b": 1}\n"), size) == [("", b'{"i": 0}'), ("", b'{"i": 1}')]


def test_the_end_of_a_body_without_its_final_chunk_is_told_apart() -> None:
    cut, whole = Decoder(), Decoder()
    cut.feed(_SSE + chunked(b"data: 1\n\n")[:-5])
    whole.feed(_SSE + chunked(b"data: 1\n\n"))
    assert (cut.is_complete, whole.is_complete) == (False, True)


def test_a_refusal_is_not_taken_for_a_stream() -> None:
    with pytest.raises(NotOffered, match="answered 429"):
        Decoder().feed(b"HTTP/1.1 429 Too Many Requests\r\n\r\n")


@pytest.mark.parametrize(("percent", "expected"), [(50, 2), (75, 3), (99, 4), (100, 4), (1, 1)])
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(percent: float, expected: float) -> None:
    assert percentile([4, 1, 3, 2], percent) == expected


def test_a_table_shows_medians_with_their_spread_and_why_a_figure_is_missing() -> None:
    table = markdown({"rate": Figure("events/s")}, {"a": {"rate": spread([3, 1000, 2])}, "b": {"note": "refused"}})
    assert table.splitlines()[2:] == ["| a | 3 (2–1,000) |", "| b | - |", "- b: refused"]


def test_every_piece_and_the_end_have_the_turn_in_which_they_were_read() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b"one")
    theirs.close()
    with ours, reading([connection := Connection(ours)]) as selector:
        turns_s = read(selector, until=time.monotonic() + 15)
    assert [piece for _, piece in connection.pieces] == [b"one"]
    assert len(turns_s) == 2


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Stand for a server: a process with two threads that runs until the test is over."""
    counter = tmp_path / "steps"
    counter.write_bytes(bytes(8))
    command = [sys.executable, "-c", _TWO_THREADS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield Served(PEERS["raw"], process, 0, Steps(counter))


def test_a_pinned_server_has_the_same_one_core_in_every_thread(served: Served) -> None:
    with pinned(served):
        threads = psutil.Process(served.process.pid).threads()
        cores = [os.sched_getaffinity(thread.id) for thread in threads]
    assert len(cores) == 2
    assert cores[0] == cores[1]
    assert len(cores[0]) == 1


def test_a_process_holds_a_core_while_a_stream_is_measured_and_no_longer(served: Served) -> None:
    before = set(psutil.Process().children())
    with beside(served):
        [holder] = set(psutil.Process().children()) - before
        assert len(holder.cpu_affinity()) == 1
    assert not holder.is_running()


@pytest.mark.skipif(is_private(), reason="needs an interface beside the loopback")
def test_a_peer_that_listens_on_every_interface_is_not_started_beside_one() -> None:
    everywhere = replace(PEERS["raw"], listens_everywhere=True)
    with pytest.raises(NotOffered, match="listens on every interface"), serving(everywhere):
        raise AssertionError("it was started")


def test_a_private_network_has_the_loopback_and_nothing_else() -> None:
    try:
        command = private()
    except NotOffered as reason:
        pytest.skip(str(reason))
    bind = "import socket; socket.create_server(('127.0.0.1', 0))"
    look = f"from benchmarks.network import is_private; {bind}; print(is_private())"
    ran = subprocess.run([*command, sys.executable, "-c", look], cwd=ROOT, capture_output=True, text=True, timeout=18)
    assert ran.stdout == "True\n"


def test_a_small_run_against_streamapp_measures_and_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--peer", "streamapp", "--case", "one_stream"]
    subprocess.run([*command, "--out", out], cwd=ROOT, check=True, capture_output=True, timeout=18)
    report = json.loads(out.read_text())
    assert report["cases"]["one_stream"]["peers"]["streamapp"]["events_per_s"]["median"] > 0
    assert report["machine"]["cores"]
    assert "streamapp" in draw(report)
