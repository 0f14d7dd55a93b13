"""What is skipped in an environment without torch."""

import pytest
from tests import torchless


@pytest.mark.parametrize("name", ["torch", "transformers.generation"])
def test_what_needs_the_models_packages_is_skipped_where_they_are_not(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchless, "IS_TORCHLESS", True)
    with pytest.raises(pytest.skip.Exception, match=f"{name} is not installed"):
        torchless._skip_for_want(ModuleNotFoundError(name=name))


@pytest.mark.parametrize("error", [ModuleNotFoundError(name="torches"), ImportError(), None])
def test_what_lacks_something_else_fails(error: ImportError | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchless, "IS_TORCHLESS", True)
    torchless._skip_for_want(error)


def test_where_torch_has_to_be_here_its_want_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchless, "IS_TORCHLESS", False)
    torchless._skip_for_want(ModuleNotFoundError(name="torch"))
