"""Settings: where they come from, and what is refused."""

import pytest
from pydantic import SecretStr, ValidationError

from streamapp.settings import Settings, get_settings


def test_an_environment_variable_sets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_MAX_QUEUE", "8")
    monkeypatch.setenv("STREAMAPP_CORS_ORIGINS", '["https://a.example"]')
    settings = Settings()
    assert (settings.max_queue, settings.cors_origins) == (8, ("https://a.example",))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("https://a.example", ("https://a.example",)),
        ("https://a.example, https://b.example,", ("https://a.example", "https://b.example")),
        (' ["https://a.example", "https://b.example"]', ("https://a.example", "https://b.example")),
        ("*", ("*",)),
        ("::1", ("::1",)),
        ("", ()),
    ],
)
@pytest.mark.parametrize("name", ["cors_origins", "trusted_proxies"])
def test_names_are_a_json_list_or_have_commas_between_them(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, names: tuple[str, ...]
) -> None:
    monkeypatch.setenv(f"STREAMAPP_{name.upper()}", text)
    assert getattr(Settings(), name) == names


@pytest.mark.parametrize("text", ['["https://a.example"', "[https://a.example]", "[1]"])
def test_a_list_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("STREAMAPP_CORS_ORIGINS", text)
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings()


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    get_settings.cache_clear()
    first = get_settings()
    monkeypatch.setenv("STREAMAPP_MAX_QUEUE", "9")
    assert get_settings() is first
    get_settings.cache_clear()


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(Settings(), "max_queue", 1)  # noqa: B010 - mypy refuses the assignment


def test_the_api_key_is_not_printed() -> None:
    assert "s3cret" not in repr(Settings(api_key=SecretStr("s3cret")))


def test_an_empty_api_key_is_refused_rather_than_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_API_KEY", "")
    with pytest.raises(ValidationError, match="at least 1 item"):
        Settings()


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan"])
def test_a_deadline_is_a_positive_number_of_seconds(monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    """No thread can wait for infinity: `Condition.wait(inf)` raises."""
    monkeypatch.setenv("STREAMAPP_TIMEOUT_S", seconds)
    with pytest.raises(ValidationError):
        Settings()


def test_a_key_from_a_file_may_end_with_a_line_end_and_a_blank_one_is_refused() -> None:
    key = Settings(api_key=SecretStr("secret")).api_key
    assert key is not None and key.get_secret_value() == "secret"
    stripped = Settings.model_validate({"api_key": " secret\n"}).api_key
    assert stripped is not None and stripped.get_secret_value() == "secret"
    with pytest.raises(ValidationError, match="at least 1"):
        Settings.model_validate({"api_key": " \n"})
