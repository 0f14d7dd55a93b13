"""Settings: where they come from, and what is refused."""

import contextvars
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

import streamapp
from streamapp.errors import DefinitionError
from streamapp.settings import Settings, current_settings, enter_settings, get_settings


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    get_settings.cache_clear()
    yield
    monkeypatch.undo()
    get_settings.cache_clear()


def test_an_environment_variable_sets_what_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_MAX_QUEUE", "8")
    monkeypatch.setenv("STREAMAPP_CORS_ORIGINS", '["https://a.example"]')
    settings = Settings()
    assert (settings.max_queue, settings.cors_origins) == (8, ("https://a.example",))


def test_a_variable_is_one_in_small_letters_too_and_what_is_given_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("streamapp_max_queue", "8")
    assert (Settings().max_queue, Settings(max_queue=9).max_queue) == (8, 9)


def test_what_is_not_set_is_of_its_type_as_well() -> None:
    named = {name: field.annotation for name, field in Settings.model_fields.items() if field.annotation is float}
    assert {name: type(getattr(Settings(), name)) for name in named} == named


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


def test_hosts_are_names_alone_with_all_that_is_below_one_or_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_ALLOWED_HOSTS", "a.example, *.b.example,my_box,*")
    assert Settings().allowed_hosts == ("a.example", "*.b.example", "my_box", "*")


@pytest.mark.parametrize("text", ['["https://a.example"', "[https://a.example]", "[1]"])
def test_a_list_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("STREAMAPP_CORS_ORIGINS", text)
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings()


def test_the_environment_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = get_settings()
    monkeypatch.setenv("STREAMAPP_MAX_QUEUE", "9")
    assert get_settings() is first


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


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("MAX_QUEUE", "abc", "expected an integer, 1 or more, got 'abc'"),
        ("MAX_QUEUE", "0", "expected an integer, 1 or more, got '0'"),
        ("MAX_QUEUE", "", "expected an integer, 1 or more, got ''"),
        ("MAX_QUEUE", "2.5", "expected an integer, 1 or more, got '2.5'"),
        ("TIMEOUT_S", "10s", "expected a number, more than 0, got '10s'"),
        ("TIMEOUT_S", "inf", "expected a number, more than 0, got 'inf'"),
        ("QUEUE_TIMEOUT_S", "nan", "expected a number, more than 0, got 'nan'"),
        ("HEARTBEAT_S", "-1", "expected a number, more than 0, got '-1'"),
        ("DEBUG", "maybe", "expected true or false, got 'maybe'"),
        ("FILES_DIR", " ", "expected a folder, got ''"),
        ("FILES_DIR", "~no-such-user/files", "expected a folder, got '~no-such-user/files'"),
        ("API_KEY", " ", "expected a key, got a blank one"),
        ("WORKER_SECRET", " ", "expected a key, got a blank one"),
        ("CORS_ORIGINS", "[1]", "input should be a valid string, got 1"),
        *(("ALLOWED_HOSTS", name, "expected names like") for name in ("http://a.example", "a:80", "*a", "a.*", "a b")),
        ("CORS_ORIGINS", "[a]", "expected a JSON list, or names with commas between them: "),
        ("MAX_QUEUE", "x" * 1000, f"got '{'x' * 99}"),
    ],
)
def test_a_bad_value_is_told_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    monkeypatch.setenv(f"STREAMAPP_{name}", text)
    with pytest.raises(DefinitionError) as caught:
        get_settings()
    assert caught.value.message.startswith(f"STREAMAPP_{name}: ")
    assert said in caught.value.message and len(caught.value.message) < 300


def test_a_folder_may_be_below_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("STREAMAPP_FILES_DIR", "~/files\n")
    assert get_settings().files_dir == Path("/home/ann/files")
    assert Settings(files_dir=Path("~")).files_dir == Path("~")  # what an app writes is taken as it is


def test_all_bad_values_are_told_at_once_where_an_app_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_MAX_QUEUE", "abc")
    monkeypatch.setenv("STREAMAPP_DEBUG", "abc")
    with pytest.raises(DefinitionError, match=r"^STREAMAPP_DEBUG: .*; STREAMAPP_MAX_QUEUE: .*"):
        streamapp.compile_app()


@pytest.mark.parametrize("text", ["yes", "on", "1", "True", " true\n"])
def test_true_is_written_in_several_ways(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("STREAMAPP_DEBUG", text)
    assert get_settings().debug is True


def test_the_form_of_media_may_end_with_the_line_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_MEDIA", "url\r")
    assert get_settings().media == "url"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STREAMAPP_MAX_QUEU", "STREAMAPP_MAX_QUEUE"),
        ("STREAMAPP_MAXQUEUE", "STREAMAPP_MAX_QUEUE"),
        ("STREAMAPP_MAX_QEUUE", "STREAMAPP_MAX_QUEUE"),
        ("streamapp_max_queu", "STREAMAPP_MAX_QUEUE"),
        ("STREAMAPP_TIMEOUT", "STREAMAPP_TIMEOUT_S"),
        ("STREAMAPP_DRAIN", "STREAMAPP_DRAIN_S"),
        ("STREAMAPP_APIKEY", "STREAMAPP_API_KEY"),
        ("STREAMAPP_CORS_ORIGIN", "STREAMAPP_CORS_ORIGINS"),
        ("STREAMAPP__DEBUG", "STREAMAPP_DEBUG"),
    ],
)
def test_a_name_that_is_almost_a_setting_is_warned_about_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "1")
    get_settings()
    get_settings()
    assert [record.message for record in caplog.records] == [f"{name} is no setting; did you mean {meant}?"]


@pytest.mark.parametrize(
    "name",
    [
        *("STREAMAPP_PORT", "STREAMAPP_SERVICE_HOST", "STREAMAPP_SERVICE_PORT", "STREAMAPP_SERVICE_PORT_HTTP"),
        *("STREAMAPP_PORT_8000_TCP", "STREAMAPP_PORT_8000_TCP_ADDR", "STREAMAPP_PORT_8000_TCP_PROTO"),
        *(
            "STREAMAPP_URL",
            "STREAMAPP_PERSISTENT_DIR",
            "STREAMAPP_MODEL_DIR",
            "STREAMAPP_HOST",
            "STREAMAPP_",
            "MAX_QUEU",
        ),
        *("STREAMAPP_MAX_QUEUE", "streamapp_max_queue"),
    ],
)
def test_other_names_are_the_apps_or_the_platforms(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setenv(name, "8")
    get_settings()
    assert caplog.records == []


def test_the_current_settings_are_those_of_the_context_else_the_process_s() -> None:
    assert current_settings() is get_settings()
    served = Settings(heartbeat_s=1)
    context = contextvars.copy_context()
    context.run(enter_settings, served)
    assert (context.run(current_settings), current_settings()) == (served, get_settings())


@pytest.mark.parametrize(
    ("said", "urls"),
    [
        ("stun:a.example", [("stun:a.example",)]),
        (
            "stun:a.example:3478, turn:b.example?transport=tcp",
            [("stun:a.example:3478",), ("turn:b.example?transport=tcp",)],
        ),
        ('["stun:a.example"]', [("stun:a.example",)]),
        ('[{"urls": "turns:a.example", "username": "u", "credential": "c"}]', [("turns:a.example",)]),
        ('[{"urls": ["stun:a.example", "stun:b.example"]}]', [("stun:a.example", "stun:b.example")]),
    ],
)
def test_servers_for_webrtc_are_urls_or_as_browsers_have_them(
    monkeypatch: pytest.MonkeyPatch, said: str, urls: list[tuple[str, ...]]
) -> None:
    monkeypatch.setenv("STREAMAPP_WEBRTC_ICE_SERVERS", said)
    assert [server.urls for server in Settings().webrtc_ice_servers] == urls


@pytest.mark.parametrize("said", ["a.example", "http://a.example", "stun:a b", '[{"urls": []}]', '[{"url": "stun:a"}]'])
def test_a_server_for_webrtc_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("STREAMAPP_WEBRTC_ICE_SERVERS", said)
    with pytest.raises(DefinitionError, match="STREAMAPP_WEBRTC_ICE_SERVERS: "):
        get_settings()


def test_the_credential_of_a_server_for_webrtc_is_not_shown() -> None:
    server = {"urls": "turn:a.example", "username": "u", "credential": "hidden"}
    assert "hidden" not in repr(Settings.model_validate({"webrtc_ice_servers": [server]}))


def test_the_credential_of_a_server_for_webrtc_is_not_told_with_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_WEBRTC_ICE_SERVERS", '[{"url": "turn:a.example", "credential": "hidden"}]')
    with pytest.raises(DefinitionError, match="got url, credential") as caught:
        get_settings()
    assert "hidden" not in str(caught.value)


def test_addresses_for_webrtc_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_WEBRTC_ADDRESSES", "10.0.0.1,fd00::1")
    assert [str(address) for address in Settings().webrtc_addresses] == ["10.0.0.1", "fd00::1"]


def test_an_interface_is_no_address_for_webrtc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_WEBRTC_ADDRESSES", "eth0")
    with pytest.raises(DefinitionError, match="STREAMAPP_WEBRTC_ADDRESSES: .*'eth0'"):
        get_settings()
