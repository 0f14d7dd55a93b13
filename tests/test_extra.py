"""What of `streamapp.llm` needs an extra is imported when it is asked for."""

import subprocess
import sys

import pytest
from tests.waiting import WAIT_S

from streamapp import llm
from streamapp.llm import engine, extra, tokenstream


def test_what_needs_torch_is_there_when_it_is_asked_for() -> None:
    assert extra.__getattr__("Engine") is llm.Engine is engine.Engine
    assert extra.__getattr__("TokenStream") is llm.TokenStream is tokenstream.TokenStream


@pytest.mark.parametrize("package", ["torch", "transformers", "jinja2"])
def test_what_is_missing_is_named_with_the_extra_that_brings_it(package: str) -> None:
    """Else the values are there: an endpoint that asks another server's model needs no more."""
    code = (
        f"import sys; sys.modules[{package!r}] = None; from streamapp.llm import Sampling, named; print('so far');"
        "from streamapp.llm import Engine"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ran.stdout == "so far\n"
    assert f'needs {package}, which an extra brings; write pip install "streamapp-server[llm]"' in ran.stderr


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "streamapp.llm.tokenstream")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModuleNotFoundError, match="needs torch, which an extra brings"):
        extra.__getattr__("TokenStream")


def test_other_names_are_as_unknown_as_ever() -> None:
    with pytest.raises(AttributeError, match="streamapp.llm has no Motor"):
        extra.__getattr__("Motor")
    assert not hasattr(llm, "Motor")
