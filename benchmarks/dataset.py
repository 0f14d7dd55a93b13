"""Send a gigabyte of records through `apps/dataset`, and measure the memory that the server takes for it.

    python -m benchmarks.dataset --megabytes 1000

The records are made as they are sent; the server alone has the file, in its file store. Beside it runs nothing but this
client, on the same machine. The server has had a file of 8 MB before, for what grows once.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from streamapp_client import Client

APP = Path(__file__).parent.parent / "apps" / "dataset" / "app.py"
_MB = 1_000_000
_WORDS = ["a", "the", "large", "small", "stream", "of", "records", "goes", "through", "one", "server", "in", "pieces"]


def blocks(megabytes: int) -> Iterator[bytes]:
    """Make JSON Lines of about a hundred bytes, a megabyte at a time; all records differ."""
    drawn = random.Random(0)
    texts = [" ".join(drawn.choices(_WORDS, k=13)) for _ in range(1000)]
    n = left = 0
    while left < megabytes * _MB:
        lines = [
            b'{"id":%d,"text":%s}\n' % (n + i, json.dumps(f"{n + i} {text}").encode()) for i, text in enumerate(texts)
        ]
        n += len(lines)
        block = b"".join(lines)
        left += len(block)
        yield block


def run(url: str, http: httpx.Client, client: Client, megabytes: int) -> dict[str, Any]:
    """Upload a file, and process it; return what that has taken."""
    began = time.monotonic()
    named = {"X-Fal-File-Name": "records.jsonl", "Content-Type": "application/jsonl"}
    answer = http.post("/rest/files/upload", content=blocks(megabytes), headers=named, timeout=None)
    uploaded = time.monotonic()
    stream = client.stream("/process_file", {"file": answer.raise_for_status().json()["access_url"]})
    events, last = 0, {}
    for event in stream:
        events, last = events + 1, event.data
    ended = time.monotonic()
    return {
        "megabytes": megabytes,
        "upload_mb_per_s": round(megabytes / (uploaded - began), 1),
        "process_mb_per_s": round(megabytes / (ended - uploaded), 1),
        "events": events,
        "records": last["total"],
        "distinct": last["summary"]["distinct"],
    }


def most_resident_mb(pid: int) -> float:
    """Return the most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / _MB


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has had."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Serve the app, send it a small file and a large one, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    megabytes = parser.parse_args().megabytes
    command = [sys.executable, "-u", "-m", "streamapp", "serve", "--port", "0", f"{APP}:Dataset"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            url = next(line for line in server.stdout if "docs:" in line).split()[1].removesuffix("/docs")
            with httpx.Client(base_url=url) as http, Client(url) as client:
                run(url, http, client, 8)
                before, cpu = most_resident_mb(server.pid), cpu_s(server.pid)
                told = run(url, http, client, megabytes)
            told["server_mb"] = round(most_resident_mb(server.pid), 1)
            told["server_grew_mb"] = round(most_resident_mb(server.pid) - before, 1)
            told["server_cpu_s"] = round(cpu_s(server.pid) - cpu, 1)
            told["client_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / _MB, 1)
            sys.stdout.write(json.dumps(told, indent=2) + "\n")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
