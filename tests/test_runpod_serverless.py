"""`runpod.serverless`, as `from streamapp import runpod` has it."""

import pytest

from streamapp import runpod
from streamapp.errors import DefinitionError
from streamapp.runpod.handlers import collecting


def test_what_is_started_is_noted_where_it_is_collected() -> None:
    config = {"handler": str}
    with collecting() as collected:
        runpod.serverless.start(config)
    assert collected.configs == [config]


def test_a_script_hears_how_it_is_served() -> None:
    with pytest.raises(DefinitionError, match="streamapp serve"):
        runpod.serverless.start({"handler": str})


def test_it_has_runpods_names() -> None:
    assert {"start", "progress_update", "register_fitness_check", "runpod_version"} <= {*runpod.serverless.__all__}
