"""What only a GPU shows, in eight minutes and without a network: `make gpu`.

    python -m benchmarks.gpu [--out FOLDER] [--tiny] [--part tests previews cancel]

- tests: all that are marked gpu; one that fails, or none that runs, fails the whole.
- previews (case 9): 20 steps of a UNet of SDXL's full size at 1024x1024, with a preview at every step against none.
- cancel: the steps that a served pipeline begins after its reader has left.

Writes `gpu.json` with the card's name, after every part. `--tiny` tries it all with small networks, without a GPU too:
`gpu-tiny.json`.
"""

import argparse
import faulthandler
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import diffusers
import torch
import transformers

from . import leaving
from .figures import machine, spread
from .networks import FULL, TINY, build, call
from .previews import EVERY_STEP, NONE, STEPS, Ways, measure_times, print_times, seconds

ROOT = Path(__file__).parent.parent
TARGET_PERCENT = 2.0
TARGET_STEPS = 1
PARTS = ("tests", "previews", "cancel")
_LIMIT_S = 450.0  # with the installation before it: eight minutes
_TESTS_S = 150.0
_CANCEL_S = 60.0  # what the last part takes at most
MARK = "pytest.mark" + ".gpu"


class Run:
    """One run: the pipeline that its parts share, the time that is left to them, and what they found."""

    def __init__(self, rounds: int, *, is_tiny: bool) -> None:
        self.rounds = rounds
        self.is_tiny = is_tiny
        self.ends_at = time.monotonic() + _LIMIT_S
        self.has_card = torch.cuda.is_available()
        self.device, self.dtype = ("cuda", torch.float16) if self.has_card else ("cpu", torch.float32)
        self.found: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name() if self.has_card else "cpu"

    @property
    def report(self) -> dict[str, Any]:
        took_s = round(time.monotonic() - self.ends_at + _LIMIT_S, 1)
        told = {"device": self.name, "is_tiny": self.is_tiny, "machine": machine(), **_versions()}
        return {**told, **self.found, "took_s": took_s}

    def do(self, part: str) -> None:
        """Do a part and tell what came of it."""
        self.found[part] = attempt(getattr(self, part))
        print(f"\n{part}: {json.dumps(self.found[part])}\n", flush=True)

    @property
    def is_good(self) -> bool:
        """Tell whether all that was begun came to its end, and no test failed; a missed target is a figure too."""
        is_whole = not any("error" in found for found in self.found.values())
        return is_whole and self.found.get("tests", {"met": True})["met"]

    def tests(self) -> dict[str, Any]:
        """Run every test marked gpu; without a card, all tests of the same files, which then run on the CPU."""
        found = run_tests(gpu_tests(ROOT / "tests"), marked_only=self.has_card)
        return {**found, "met": found["failed"] == 0 and found["passed"] > 0}

    def previews(self) -> dict[str, Any]:
        """Measure what a preview at every step costs."""
        pipe, tiny_vae = self.networks
        arguments = call(self.device, self.dtype)
        ways = Ways(pipe, tiny_vae, **arguments)
        named = ways.named()
        is_finite = bool(pipe(**arguments).images.isfinite().all())  # without numbers, times may be others
        until = self.ends_at - _CANCEL_S
        if 4 * len(named) * seconds(ways.none) > until - time.monotonic():  # a slow card: what matters
            named = {name: named[name] for name in (NONE, EVERY_STEP)}
        times = measure_times(named, self.rounds, until)
        print_times(times)
        made = ways.previews.statistics().decoded / (len(times[NONE]["rounds"]) + 1)
        network = {"unet_parameters": pipe.unet.num_parameters(), "latents_are_finite": is_finite}
        return {**network, "seconds": times, "previews_per_run": made, **cost(times, made)}

    def cancel(self) -> dict[str, Any]:
        """Count the steps after a cancel."""
        found = leaving.measure(*self.networks, call(self.device, self.dtype), rounds=4 if self.is_tiny else 10)
        most = max(way["steps"]["high"] for way in found.values())
        return {"ways": found, "most_steps": most, "met": most <= TARGET_STEPS}

    @functools.cached_property
    def networks(self) -> tuple[Any, Any]:
        return build(TINY if self.is_tiny else FULL, self.device, self.dtype)


def _versions() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }


def gpu_tests(folder: Path) -> list[Path]:
    """Return the test files in which a test is marked gpu; the others may need what a GPU machine lacks."""
    return [path for path in sorted(folder.glob("test_*.py")) if MARK in path.read_text()]


def run_tests(files: list[Path], *, marked_only: bool) -> dict[str, Any]:
    """Run them in a process of their own and count.

    Plugins that happen to be there stay out of it, and warnings are no errors: its packages are of other versions.
    """
    options = ["-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "-p", "no:cacheprovider", "-W", "default"]
    marked = ["-m", "gpu"] if marked_only else []
    with tempfile.TemporaryDirectory() as place:
        result = Path(place) / "result.xml"
        command = [sys.executable, "-m", "pytest", *options, "-o", "timeout=100", f"--junitxml={result}", *marked]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        subprocess.run([*command, *map(str, files)], cwd=ROOT, env=environment, timeout=_TESTS_S, check=False)
        return _count(result)


def _count(result: Path) -> dict[str, Any]:
    suite = next(ElementTree.parse(result).iter("testsuite"))
    number = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
    failed = number["failures"] + number["errors"]
    return {"passed": number["tests"] - failed - number["skipped"], "failed": failed, "skipped": number["skipped"]}


def cost(times: dict[str, dict[str, Any]], previews_per_run: float) -> dict[str, Any]:
    """Return what a preview at every step adds to a run, round by round, and whether that is within the target."""
    pairs = zip(times[EVERY_STEP]["rounds"], times[NONE]["rounds"], strict=True)
    extra = spread([100 * (with_previews / without - 1) for with_previews, without in pairs])
    return {"extra_percent": extra, "met": extra["median"] <= TARGET_PERCENT and previews_per_run > STEPS - 1}


def row(report: dict[str, Any]) -> str:
    """Return the README's row."""
    previews, cancel = report["previews"], report["cancel"]
    without, extra = previews["seconds"][NONE]["median"], previews["extra_percent"]
    steps = cancel["most_steps"]
    return (
        f"| {STEPS} steps of a UNet of SDXL's full size at 1024x1024 on an {report['device']} "
        f"| {without:.2f} s without previews, {extra['median']:+.1f} % with one at every step "
        f"({extra['low']:+.1f} to {extra['high']:+.1f} %); "
        f"at most {steps} step{'' if steps == 1 else 's'} begun after its reader left |"
    )


def attempt(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run a part, and go on after one that fails."""
    started = time.monotonic()
    try:
        found = part()
    except Exception as error:  # whatever it met, the other parts have figures to bring home
        traceback.print_exc()
        found = {"error": repr(error), "met": False}
    return {**found, "took_s": round(time.monotonic() - started, 1)}


def main() -> int:
    """Run the parts; returns 1 when a test failed, none ran, or a part broke off."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="What only a GPU shows.")
    parser.add_argument("--out", type=Path, help="the folder that gets gpu.json")
    parser.add_argument("--tiny", action="store_true", help="small networks, without a GPU too")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=10, help="at most; fewer when the time is up")
    arguments = parser.parse_args()
    if not (torch.cuda.is_available() or arguments.tiny):
        print("no CUDA device here, nothing was measured; --tiny tries it all without one")
        return 0
    diffusers.utils.logging.set_verbosity_error()
    faulthandler.dump_traceback_later(_LIMIT_S, exit=True)
    run = Run(arguments.rounds, is_tiny=arguments.tiny)
    if not run.has_card:
        torch.set_num_threads(1)  # the small networks are too small to share out
    print(f"{run.name}; {json.dumps(_versions())}\n", flush=True)
    for part in arguments.part:
        run.do(part)
        if arguments.out:
            write(arguments.out, run.report)
    tell(run.report)
    return 0 if run.is_good else 1


def write(folder: Path, report: dict[str, Any]) -> None:
    """Write the report; one of small networks under another name, since it is no figure to keep."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ("gpu-tiny.json" if report["is_tiny"] else "gpu.json")).write_text(json.dumps(report, indent=2) + "\n")


def tell(report: dict[str, Any]) -> None:
    """Print which targets were met, and the README's row."""
    for part in PARTS:
        if part in report:
            print(f"{part}: {'met' if report[part]['met'] else 'MISSED'}, {report[part]['took_s']} s")
    print(f"in all {report['took_s']} s")
    if not report["is_tiny"] and all(
        "error" not in report.get(part, {"error": "left out"}) for part in ("previews", "cancel")
    ):
        print("for the README:", row(report), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
