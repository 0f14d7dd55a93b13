"""Files that were written for Runpod: what is served of them, and what is said where nothing is."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.waiting import until

from streamapp.app import App
from streamapp.errors import DefinitionError
from streamapp.runpod import imports
from streamapp.runpod.handlers import HandlerApp
from streamapp.runpod.loading import load_served, name_of
from streamapp.testing import TestClient

HANDLER = """
from streamapp import runpod

def handler(job):
    return job["input"]
"""
START = 'runpod.serverless.start({"handler": handler})\n'
BELOW = f'if __name__ == "__main__":\n    {START}'


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder; what a test imports is forgotten after it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    monkeypatch.setattr(sys, "meta_path", [finder for finder in sys.meta_path if finder is not imports._FINDER])


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def loaded(text: str, place: str = "mine.py") -> type[HandlerApp]:
    write(place, text)
    app = load_served(place)
    assert issubclass(app, HandlerApp)
    return app


def refused(text: str, place: str = "mine.py") -> str:
    write(place, text)
    with pytest.raises(DefinitionError) as caught:
        load_served(place)
    return caught.value.message


def result(app: type[App], given: Any = None) -> Any:
    with TestClient(app) as client:
        stream = client.stream("/stream", given)
        list(stream)
        return stream.result


@pytest.mark.parametrize(
    "start",
    [
        START,
        BELOW,
        f"def main():\n    {START}\nif '__main__' == __name__:\n    import sys\n    sys.exit(main())",
        f"import argparse\nargparse.ArgumentParser().parse_args()\n{START}",
        f"{BELOW}    print('never ends, elsewhere')",
        f"TESTS = False\nif __name__ == '__main__' and not TESTS:\n    {START}else:\n    served = False",
    ],
)
def test_a_file_is_served_wherever_it_starts_its_handler(start: str) -> None:
    assert result(loaded(HANDLER + start), {"a": 1}) == {"a": 1}


def test_a_module_is_found_as_an_apps_is() -> None:
    write("package/__init__.py", "")
    write("package/handler.py", HANDLER + BELOW)
    assert load_served("package.handler").app_name == "package"


def test_an_import_of_runpod_is_served_without_that_package() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "runpod"]:
        del sys.modules[name]
    sys.path[:] = [folder for folder in sys.path if not (Path(folder) / "runpod" / "version.py").exists()]
    assert result(loaded(HANDLER.replace("from streamapp ", "") + START), [1]) == [1]


def test_annotations_in_the_block_of_a_script_are_as_the_file_has_them() -> None:
    later = "from __future__ import annotations\n" + HANDLER + BELOW + "    def unused(a: NotThere): ...\n"
    assert loaded(later).app_name == "mine"


def test_what_such_a_block_raises_names_the_line_of_the_file() -> None:
    write("mine.py", HANDLER + "if __name__ == '__main__':\n    raise ValueError('serverless')")
    with pytest.raises(ValueError, match="serverless") as caught:
        load_served("mine.py")
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno + 1) == (Path.cwd() / "mine.py", 7)


def test_the_arguments_of_the_server_are_not_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["streamapp", "serve", "mine.py", "--port=1"])
    app = loaded(HANDLER.replace('job["input"]', "argv") + f"import sys\nargv = sys.argv\n{START}")
    assert result(app) == ["mine.py"]
    assert sys.argv[1] == "serve"


def test_an_app_in_the_file_is_what_is_served() -> None:
    app = "import streamapp\nclass Mine(streamapp.App):\n    @streamapp.endpoint('/x')\n    def x(self): ...\n"
    write("mine.py", HANDLER + app + START)
    assert load_served("mine.py").__name__ == load_served("mine.py:Mine").__name__ == "Mine"


def test_a_file_is_imported_once() -> None:
    app = loaded(HANDLER + BELOW)
    assert load_served("mine.py") is app is load_served("./mine.py")


def test_what_starts_nothing_or_twice_is_told_what_to_write() -> None:
    assert "mine.py: there is no app, and no handler is started; write runpod.serverless.start(" in refused(HANDLER)
    twice = refused(HANDLER + START + START, "twice.py")
    assert twice.startswith("twice.py: runpod.serverless.start is called 2 times; a file starts one handler")
    assert "no.py: runpod.serverless.start: expected a function" in refused(
        HANDLER + 'runpod.serverless.start({"handler": None})', "no.py"
    )


def test_what_a_script_asks_beside_being_one_counts_and_an_exit_is_told() -> None:
    unasked = BELOW.replace('"__main__":', '"__main__" and not __file__:')
    assert "no handler is started" in refused(HANDLER + unasked)
    exits = HANDLER + f"if __name__ == '__main__':\n    import sys\n    sys.exit('no GPU')\n    {START}"
    assert refused(exits, "exits.py") == "exits.py: as a script it exits, with 'no GPU', before it starts a handler"


SCRIPT = "if __name__ == '__main__':\n    raise AssertionError"


def test_a_file_that_starts_no_handler_is_not_run_as_a_script() -> None:
    assert refused("# serverless\n" + SCRIPT) == "there is no app in mine.py; write class Name(streamapp.App)"
    client = refused("from streamapp import runpod\nendpoint = 'its client'\n" + SCRIPT, "client.py")
    assert client.startswith("client.py: there is no app, and no handler is started")
    write("package/__init__.py", "")
    with pytest.raises(DefinitionError, match="there is no app in package"):
        load_served("package")


def test_a_name_that_is_no_app_is_refused_as_ever() -> None:
    write("mine.py", HANDLER + START)
    with pytest.raises(DefinitionError, match="mine.py:handler is no app"):
        load_served("mine.py:handler")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/home/ann/upscale.py", "upscale"),
        ("/home/ann/upscale/handler.py", "upscale"),
        ("/home/ann/Upscale It/src/rp_handler.py", "Upscale-It"),
        ("/home/ann/my--worker/main.py", "my-worker"),
        ("/app/handler.py", "handler"),
        ("/handler.py", "handler"),
        ("/a/-/main.py", "handler"),
    ],
)
def test_an_app_is_called_by_what_says_what_it_is(file: str, name: str) -> None:
    assert name_of(Path(file)) == name


def test_a_worker_that_is_refreshed_has_its_module_in_its_first_state() -> None:
    counting = HANDLER.replace("def ", "count = [0]\ndef ").replace(
        'return job["input"]', 'count[0] += 1\n    return {"count": count[0], "refresh_worker": job["input"]}'
    )
    with TestClient(loaded(counting + BELOW)) as client:
        results = []
        for refreshes in (False, True, False):
            stream = client.stream("/stream", refreshes)
            list(stream)
            results.append(stream.result["count"])
    assert results == [1, 2, 1]


def test_so_have_the_modules_of_its_folder() -> None:
    write("state.py", "counted = []\n")
    counting = 'state.counted.append(1)\n    return {"count": len(state.counted), "refresh_worker": True}'
    with TestClient(loaded("import state\n" + HANDLER.replace('return job["input"]', counting) + START)) as client:
        assert [[event.data for event in client.stream("/stream", {})] for _ in range(2)] == [[{"count": 1}]] * 2


def test_a_file_that_sets_signals_is_refreshed_and_they_stay_as_they_are() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    setting = "import signal\nbefore = signal.signal(signal.SIGUSR2, lambda *_: None)\n"
    refreshing = HANDLER.replace('job["input"]', '{"refresh_worker": True, "before": callable(before)}')
    try:
        with TestClient(loaded(setting + refreshing + START)) as client:
            told = [[event.data for event in client.stream("/stream", {})] for _ in range(3)]
        assert told == [[{"before": callable(before)}], [{"before": True}], [{"before": True}]]
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_file_that_has_become_wrong_puts_its_app_out_of_service() -> None:
    with TestClient(loaded(HANDLER.replace('job["input"]', '{"refresh_worker": True}') + START)) as client:
        write("mine.py", HANDLER)
        list(client.stream("/stream", {}))
        until(lambda: client.get("/health").status_code == 503)
