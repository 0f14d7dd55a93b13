"""The benchmarks' arithmetic, the load client's decoding, where Ray may start, one small case, and `make gpu`."""

import json
import os
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest
import torch
from benchmarks import gpu, wheels
from benchmarks.cases import CASES, peers_of
from benchmarks.client import Connection, Decoder, NotOffered, read, reading
from benchmarks.cores import beside, pinned
from benchmarks.figures import Figure, markdown, percentile, spread
from benchmarks.network import is_private, private
from benchmarks.plot import draw
from benchmarks.previews import EVERY_STEP, NONE
from benchmarks.servers import PEERS, Served, serving
from benchmarks.sockets import Socket
from benchmarks.workload import Steps
from packaging.requirements import Requirement
from tests.waiting import WAIT_S

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


def run_small(case: str, out: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks", "--quick", "--peer", "streamapp", "--case", case]
    subprocess.run([*command, "--out", out], cwd=ROOT, check=True, capture_output=True, timeout=WAIT_S)
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def test_a_small_run_against_streamapp_measures_and_is_drawn(tmp_path: Path) -> None:
    report = run_small("one_stream", tmp_path / "results.json")
    assert report["cases"]["one_stream"]["peers"]["streamapp"]["events_per_s"]["median"] > 0
    assert report["machine"]["cores"]
    assert "streamapp" in draw(report)


def test_a_handler_for_runpod_is_measured_by_polls_and_by_events(tmp_path: Path) -> None:
    figures = run_small("runpod", tmp_path / "results.json")["cases"]["runpod"]["peers"]
    assert figures.keys() == {"streamapp"}
    assert figures["streamapp"].keys() == CASES["runpod"].FIGURES.keys()


@pytest.mark.parametrize("case", ["broadcast", "realtime", "startup"])
def test_a_case_of_one_server_is_measured(case: str, tmp_path: Path) -> None:
    figures = run_small(case, tmp_path / "results.json")["cases"][case]["peers"]["streamapp"]
    assert figures.keys() == CASES[case].FIGURES.keys()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_are_the_same_wherever_they_are_cut(size: int) -> None:
    short, long = b'{"i": 0}', json.dumps({"i": "x" * 200}).encode()
    ping = b"\x89\x02hi"
    sent = (
        b"HTTP/1.1 101 \r\n\r\n\x81" + bytes([len(short)]) + short + ping + b"\x81\x7e\x00" + bytes([len(long)]) + long
    )
    with socket.socket() as unused:
        read = Socket(unused, pieces=[(float(at), sent[at : at + size]) for at in range(0, len(sent), size)])
        assert [message.data for message in read.messages()] == [short, long]


@pytest.mark.parametrize(("case", "has_both"), [("runpod", True), ("one_stream", False)])
def test_a_case_measures_the_peers_that_serve_what_it_asks_for(case: str, has_both: bool) -> None:
    assert ("runpod" in peers_of(case)) is has_both
    assert "streamapp" in peers_of(case)


# A GPU machine


def wheel(folder: Path, name: str, version: str, *requires: str) -> Path:
    """Make a wheel that holds nothing but what it asks for."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    lines = [
        "Metadata-Version: 2.4",
        f"Name: {name}",
        f"Version: {version}",
        *(f"Requires-Dist: {r}" for r in requires),
    ]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}-{version}.dist-info/METADATA", "\n".join(lines))
    return path


def choose(held: list[Path], *roots: str, **there: str) -> wheels.Choice:
    """Choose for a machine that has these versions."""
    return wheels.choose(
        held, map(Requirement, roots), lambda name: wheels.Package(name, there[name], []) if name in there else None
    )


def test_a_machine_takes_the_wheels_of_what_it_lacks_and_of_what_these_need(tmp_path: Path) -> None:
    held = [wheel(tmp_path, "web", "2.0", "core==1.5", "fast; extra == 'speed'"), wheel(tmp_path, "core", "1.5")]
    held += [wheel(tmp_path, "fast", "1.0"), wheel(tmp_path, "unasked", "1.0")]
    assert choose(held, "web").wheels == [held[1], held[0]]
    assert choose(held, "web[speed]").wheels == [held[1], held[2], held[0]]


def test_a_wheel_takes_the_place_only_of_a_version_that_will_not_do(tmp_path: Path) -> None:
    held = [wheel(tmp_path, "web", "2.0")]
    assert choose(held, "web>=2", web="2.3") == wheels.Choice([], [], [])
    assert choose(held, "web>=2", web="1.9").wheels == held


def test_what_no_wheel_can_give_is_named() -> None:
    choice = choose([], "model>=5", "web", model="4.0")
    assert choice == wheels.Choice([], ["model>=5 (4.0 is there)"], ["web"])


def test_what_is_taken_along_has_no_torch_and_all_that_the_gpu_tests_need() -> None:
    names = {package.name for package in wheels.carried("3.12", "x86_64")}
    assert names >= {
        "fastapi",
        "starlette",
        "uvicorn",
        "pydantic-core",
        "diffusers",
        "pytest-asyncio",
        "forbiddenfruit",
    }
    assert not names & {"torch", "transformers", "numpy", "triton", "streamapp-server", "streamapp-client"}


def test_the_files_that_hold_gpu_tests_are_found_by_their_marks() -> None:
    assert ROOT / "tests" / "test_diffusion.py" in gpu.gpu_tests(ROOT / "tests")
    assert Path(__file__) not in gpu.gpu_tests(ROOT / "tests")


def test_gpu_tests_are_counted(tmp_path: Path) -> None:
    tests = tmp_path / "test_marked.py"
    mark = f"@{gpu.MARK}"
    tests.write_text(f"import pytest\n{mark}\ndef test_a(): pass\n{mark}\ndef test_b(): assert 0\ndef test_c(): pass\n")
    assert gpu.run_tests([tests], marked_only=True) == {"passed": 1, "failed": 1, "skipped": 0}


@pytest.mark.parametrize(
    ("passed", "failed", "is_good"), [(9, 0, True), (9, 1, False), (0, 0, False)], ids=["all", "one fails", "none runs"]
)
def test_a_run_is_good_when_gpu_tests_ran_and_all_passed(
    monkeypatch: pytest.MonkeyPatch, passed: int, failed: int, is_good: bool
) -> None:
    counts = {"passed": passed, "failed": failed, "skipped": 3}
    monkeypatch.setattr(gpu, "run_tests", lambda files, marked_only: counts)
    run = gpu.Run(1, is_tiny=True)
    run.do("tests")
    assert run.is_good is is_good


def test_a_run_is_good_with_a_missed_target_but_not_with_a_part_that_broke_off() -> None:
    run = gpu.Run(1, is_tiny=True)
    run.found["previews"] = {"met": False}
    assert run.is_good
    run.found["cancel"] = {"error": "TimeoutError()", "met": False}
    assert not run.is_good


@pytest.mark.parametrize(
    ("with_previews", "made", "is_met"), [(10.1, 20.0, True), (10.3, 20.0, False), (10.1, 15.0, False)]
)
def test_previews_are_within_the_target_when_all_are_made_and_cost_little(
    with_previews: float, made: float, is_met: bool
) -> None:
    times = {NONE: spread([10.0, 20.0, 30.0]), EVERY_STEP: spread([with_previews * n for n in (1, 2, 3)])}
    found = gpu.cost(times, made)
    assert found["extra_percent"]["median"] == pytest.approx(10 * (with_previews - 10))
    assert found["met"] is is_met


def test_a_part_that_fails_leaves_the_others_their_turn(capsys: pytest.CaptureFixture[str]) -> None:
    def part() -> dict[str, float]:
        raise MemoryError("full")

    assert gpu.attempt(part).keys() == {"error", "met", "took_s"}
    assert "MemoryError: full" in capsys.readouterr().err


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert gpu.main() == 0
    assert "no CUDA device" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_a_gpu_measures_can_be_tried_without_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--rounds", "1", "--part", "previews", "cancel"]
    run = subprocess.run([*command, "--out", tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "gpu-tiny.json").read_text())
    assert report["previews"]["previews_per_run"] > 0
    assert report["cancel"]["ways"]["the reader leaves"]["steps"]["high"] < 100
    assert {"device", "torch", "diffusers", "took_s"} <= report.keys()
    assert gpu.row(report).startswith("| 20 steps of a UNet of SDXL's full size")


@pytest.mark.long
def test_a_strokes_way_to_its_picture_is_measured_by_webrtc_and_by_a_websocket() -> None:
    command = [sys.executable, "-m", "benchmarks.webrtc", "--rounds", "1", "--pictures", "2"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=WAIT_S).stdout
    assert [line.partition("  ")[0] for line in lines.splitlines()] == [
        f"{way}, {size} px" for way in ("WebRTC, VP8", "WebSocket, JPEG") for size in (128, 512)
    ]


@pytest.mark.long
def test_the_memory_that_a_dataset_takes_is_measured() -> None:
    command = [sys.executable, "-m", "benchmarks.dataset", "--megabytes", "2"]
    told = json.loads(subprocess.run(command, capture_output=True, check=True, cwd=ROOT, timeout=WAIT_S).stdout)
    assert told["records"] == pytest.approx(told["distinct"], rel=0.1)
