"""What is read of a handler's config, and what comes of what it returns and raises."""

import functools
import inspect
import sys
from typing import Any

import pytest
from tests.handled import serving

from streamapp.errors import DefinitionError
from streamapp.runpod import handlers
from streamapp.runpod.handlers import (
    Handler,
    HandlerApp,
    collecting,
    handler_app,
    note_start,
    register_fitness_check,
)
from streamapp.testing import TestClient


def handler(job: dict[str, Any]) -> Any:
    """Do the work."""
    return job["input"]


def refused(config: Any) -> str:
    with pytest.raises(DefinitionError) as caught:
        handler_app(config, name="wrong")
    return caught.value.message


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (handler, "takes a dict, got <function handler"),
        (None, "takes a dict, got None"),
        ({}, 'expected a function as "handler", got None'),
        ({"handler": "handler"}, "got 'handler'; write runpod.serverless.start("),
        (
            {"handler": lambda: 1},
            "<lambda>() cannot take a job (too many positional arguments); write def handler(job)",
        ),
        ({"handler": lambda job, model: 1}, "(missing a required argument: 'model')"),
        ({"handler": functools.partial(handler, {})}, "cannot take a job"),
        ({"handler": handler, "concurrency_modifier": 4}, 'expected a function as "concurrency_modifier", got 4'),
        ({"handler": handler, "concurrency_modifier": lambda: 4}, "cannot take the current concurrency"),
    ],
)
def test_a_config_without_a_handler_that_takes_a_job_is_refused(config: Any, said: str) -> None:
    assert said in refused(config)


@pytest.mark.parametrize("call", [handler, dict, functools.partial(handler), lambda job, more=1: 1, lambda *jobs: 1])
def test_whatever_can_be_called_with_a_job_is_a_handler(call: Any) -> None:
    assert handler_app({"handler": call}, name="right").handler.call is call


def test_a_config_says_how_the_handler_is_called() -> None:
    config = {"handler": handler, "return_aggregate_stream": True, "refresh_worker": True, "unknown": 1}
    app = handler_app(config, name="my-app")
    assert (app.app_name, app.aggregates, app.handler.refreshes) == ("my-app", True, True)
    assert handler_app({"handler": handler}, name="my-app").aggregates is False


def test_the_description_is_the_handlers_own() -> None:
    assert handler_app({"handler": handler}, name="a").__doc__ == "Do the work."
    assert handler_app({"handler": functools.partial(handler)}, name="a").__doc__ == "Do the work."
    assert inspect.getdoc(handler_app({"handler": Called()}, name="a")) == ""


class Called:
    def __call__(self, job: dict[str, Any]) -> None: ...


def test_the_input_is_described_where_the_module_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = {"type": "object", "properties": {"prompt": {"type": "string"}}}
    here = sys.modules[__name__]
    monkeypatch.setattr(handlers, "schema_of", lambda module: schema if module is here else None)
    assert handler_app({"handler": dict}, name="a").input_schema is None
    assert handler_app({"handler": dict}, name="a", module=here).input_schema == schema
    with TestClient(handler_app({"handler": handler}, name="a")) as client:
        assert schema == described(client.get("/openapi.json").json())
        assert [event.data for event in client.stream("/stream", ["any JSON"])] == [["any JSON"]]
    with serving(dict) as served:
        assert "properties" not in described(served.client.get("/openapi.json").json())


def described(document: dict[str, Any]) -> Any:
    schema = document["paths"]["/stream"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return {key: value for key, value in schema.items() if key != "title"}


def test_a_handler_gets_a_dict_of_its_own_that_it_may_change() -> None:
    def changing(job: dict[str, Any]) -> Any:
        assert set(job) == {"id", "input"}
        assert len(job["id"]) == 32
        job["input"]["n"] += 1
        return job.pop("input")

    with serving(changing) as served:
        assert [served.run({"n": 1}), served.run({"n": 1})] == [{"n": 2}, {"n": 2}]


# Collecting


def test_a_start_is_noted_while_it_is_collected_and_a_script_runs() -> None:
    config = {"handler": handler}
    with collecting() as collected:
        assert note_start(config)
        assert note_start(None)
    assert collected.configs == [config, None]
    assert config["rp_args"]["test_input"] is None  # type: ignore[index]
    assert not note_start(config)


def test_the_flags_of_a_script_are_left() -> None:
    config = {"handler": handler, "rp_args": {"rp_debugger": True}}
    with collecting():
        note_start(config)
    assert config["rp_args"] == {"rp_debugger": True}


def test_checks_belong_to_the_handler_that_is_collected_with_them() -> None:
    def check() -> None: ...

    with collecting():
        assert register_fitness_check(check) is check
        assert Handler.of({"handler": handler}).checks == (check,)
    assert Handler.of({"handler": handler}).checks == ()


def test_a_handlers_app_runs_no_job_without_its_worker() -> None:
    assert HandlerApp().run_job({"id": "1", "input": 2}) == {"id": "1", "input": 2}


def test_an_app_that_is_refreshed_has_let_go_of_its_first_handler_before() -> None:
    app = handler_app({"handler": handler}, name="a")
    seen: list[Any] = []

    def read_again() -> Handler:
        seen.append(app.handler.call)
        return Handler(handler)

    app.read_again = staticmethod(read_again)
    app.refresh()
    assert handler not in seen
    assert seen[0]({}) is None
    assert app.handler.call is handler
