"""What `import runpod` gives a served file: the package that is installed, patched, or ours."""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path

import pytest
from tests.waiting import WAIT_S

from streamapp import runpod
from streamapp.runpod import imports
from streamapp.runpod.handlers import collecting, register_fitness_check
from streamapp.runpod.imports import leaving_signals, offer_runpod
from streamapp.runpod.progress import progress_update

REAL = {
    "__init__.py": "from . import serverless\n__version__ = '1.12.0'",
    "serverless/__init__.py": "from .modules.rp_progress import progress_update\n"
    "from .modules.rp_fitness import register_fitness_check\ndef start(config): return f'real {config}'",
    "serverless/modules/__init__.py": "",
    "serverless/modules/rp_progress.py": "def progress_update(job, progress): raise AssertionError",
    "serverless/modules/rp_fitness.py": "def register_fitness_check(check): raise AssertionError",
    "serverless/utils/__init__.py": "",
    "serverless/utils/rp_debugger.py": "class Checkpoints:\n    name_lookup = {}\n"
    "    def add(self, name):\n        assert name not in self.name_lookup\n        self.name_lookup[name] = 1",
    "other.py": "value = 1",
}


@pytest.fixture(autouse=True)
def imports_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work beside whatever this process has imported, in a folder where modules are sought first."""
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if finder is not imports._FINDER])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    for name in [name for name in sys.modules if name.partition(".")[0] == "runpod"]:
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)


def install(folder: Path) -> None:
    """Put something that looks like the real package where it is found; the real one is in `tests/test_runpod_*`."""
    for name, text in REAL.items():
        path = folder / "runpod" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_of_the_real_package_start_notes_what_is_collected_and_starts_the_rest(tmp_path: Path) -> None:
    install(tmp_path)
    offer_runpod()
    offer_runpod()
    real, start = import_module("runpod"), import_module("runpod.serverless").start
    assert real.__version__ == "1.12.0"
    with collecting() as collected:
        assert (start("noted"), real.serverless.start("twice")) == (None, None)
    assert collected.configs == ["noted", "twice"]
    assert start("script") == "real script"


def test_of_the_real_package_what_a_handler_calls_is_ours_by_all_its_names(tmp_path: Path) -> None:
    install(tmp_path)
    offer_runpod()
    real, rp_progress = import_module("runpod"), import_module("runpod.serverless.modules.rp_progress")
    assert real.serverless.progress_update is rp_progress.progress_update is progress_update
    assert real.serverless.register_fitness_check is register_fitness_check


def test_of_the_real_package_what_was_timed_in_one_job_is_timed_in_the_next(tmp_path: Path) -> None:
    install(tmp_path)
    offer_runpod()
    checkpoints = import_module("runpod.serverless.utils.rp_debugger").Checkpoints()
    for _ in range(2):
        checkpoints.add("validation_step")
    assert list(checkpoints.name_lookup) == ["validation_step"]


def test_a_package_that_was_imported_before_is_patched_as_well(tmp_path: Path) -> None:
    install(tmp_path)
    real = import_module("runpod")
    offer_runpod()
    with collecting() as collected:
        real.serverless.start("noted")
    assert collected.configs == ["noted"]


def test_other_modules_of_the_package_are_as_they_are(tmp_path: Path) -> None:
    install(tmp_path)
    offer_runpod()
    assert import_module("runpod.other").value == 1


def test_where_none_is_installed_ours_is_found_and_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "runpod").mkdir()  # a folder of the user's, and no package
    offer_runpod()
    assert import_module("runpod") is runpod
    assert import_module("runpod.serverless") is runpod.serverless


def test_what_ours_has_not_is_not_found() -> None:
    offer_runpod()
    with pytest.raises(ModuleNotFoundError, match="No module named 'runpod.endpoint'"):
        import_module("runpod.endpoint")


def test_other_packages_are_found_as_ever() -> None:
    offer_runpod()
    with pytest.raises(ModuleNotFoundError, match="No module named 'runpods'"):
        import_module("runpods")


def test_beside_the_main_thread_signals_stay_as_they_are() -> None:
    before, real = signal.getsignal(signal.SIGUSR2), signal.signal
    try:
        with leaving_signals(), ThreadPoolExecutor(1) as beside:
            assert signal.signal(signal.SIGUSR2, signal.SIG_IGN) == before
            assert beside.submit(signal.signal, signal.SIGUSR2, before).result(WAIT_S) is signal.SIG_IGN
        assert signal.signal is real
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR2, before)
