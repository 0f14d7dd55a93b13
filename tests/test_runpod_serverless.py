"""`runpod.serverless`, as `from streamapp import runpod` has it."""

import importlib
import sys

import pytest

from streamapp import runpod
from streamapp.runpod import serverless
from streamapp.runpod.handlers import collecting
from streamapp.runpod.serverless.modules import rp_fitness, rp_logger, rp_progress


def test_what_is_started_is_noted_where_it_is_collected() -> None:
    config = {"handler": str}
    with collecting() as collected:
        runpod.serverless.start(config)
    assert collected.configs == [config]


def test_what_a_script_starts_does_what_its_command_line_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["handler.py", "--test_input", "5"])
    with pytest.raises(SystemExit, match='expected {"input": ...}, got 5'):
        runpod.serverless.start({"handler": str})


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("", ["RunPodLogger", "serverless"]),
        (".serverless", ["start", "register_fitness_check", "VolumeCache"]),
        (".serverless.utils", ["download_files_from_urls", "upload_file_to_bucket", "upload_in_memory_object"]),
        (".serverless.utils.rp_validator", ["validate"]),
        (".serverless.utils.rp_upload", ["upload_image", "files", "bucket_upload"]),
        (".serverless.utils.rp_download", ["file", "download_files_from_urls"]),
        (".serverless.utils.rp_cleanup", ["clean"]),
        (".serverless.utils.rp_cuda", ["is_available"]),
        (".serverless.utils.rp_debugger", ["Checkpoints", "LineTimer", "FunctionTimer"]),
        (".serverless.modules.rp_logger", ["RunPodLogger"]),
        (".serverless.modules.rp_fitness", ["register_fitness_check"]),
        (".serverless.modules.rp_progress", ["progress_update"]),
    ],
)
def test_a_name_is_where_the_real_package_has_it(module: str, names: list[str]) -> None:
    found = importlib.import_module(f"streamapp.runpod{module}")
    assert all(callable(getattr(found, name)) or name == "serverless" for name in names)


def test_the_same_thing_is_at_each_of_its_places() -> None:
    assert runpod.serverless is serverless
    assert runpod.RunPodLogger is rp_logger.RunPodLogger
    assert serverless.register_fitness_check is rp_fitness.register_fitness_check
    assert serverless.progress_update is rp_progress.progress_update


def test_the_release_whose_names_these_are_is_told() -> None:
    assert runpod.__version__ == serverless.runpod_version == "1.12.0"
