"""The real `@microsoft/fetch-event-source`, unmodified, in node: a page that POSTs, and whose tab is hidden."""

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.fal_packages import JS, environment, needs, serving
from tests.waiting import WAIT_S

pytestmark = needs((JS / "node_modules" / "@microsoft").is_dir(), "the npm packages are missing; run `make test`")

# What it asks of a browser: fetch, timers, and a document that says when it is hidden.
PAGE = """
import { createRequire } from "node:module";
const { fetchEventSource } = createRequire(import.meta.url)("@microsoft/fetch-event-source");
const document = Object.assign(new EventTarget(), { hidden: false });
Object.assign(globalThis, { document, window: globalThis });
const turn = (hidden) => { document.hidden = hidden; document.dispatchEvent(new Event("visibilitychange")); };
const url = process.env.TEST_URL;
const seen = [], jobs = [];
const read = (path, on = () => {}) => fetchEventSource(url + path, {
  method: "POST", headers: { "Content-Type": "application/json" }, body: "{}",
  fetch: async (...asked) => {
    const answer = await fetch(...asked);
    jobs.push(answer.headers.get("x-streamapp-job-id"));
    return answer;
  },
  onmessage: ({ event, data }) => { seen.push([event, JSON.parse(data)]); on(event); },
  onerror: () => 1,
});
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as (url, _):
        yield url


def on_page(url: str, code: str) -> Any:
    """Run a page's code; return what it has seen, and the jobs that answered."""
    command = ["node", "--input-type=module", "-e", f"{PAGE}{code}\nconsole.log(JSON.stringify([seen, jobs]));"]
    env = environment() | {"TEST_URL": url, "PATH": os.environ["PATH"]}
    ended = subprocess.run(command, cwd=JS, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_stream_is_read_to_its_end_by_one_request(url: str) -> None:
    seen, jobs = on_page(url, 'await read("/stream");')
    assert [data for _, data in seen] == [*({"step": step} for step in range(1, 6)), {"steps": 5}]
    assert len(jobs) == 1


def test_a_tab_that_is_shown_again_goes_on_with_the_same_job_where_it_was(url: str) -> None:
    """The job stands at its gate while nobody reads."""
    code = """
        await read("/slow", async (event) => {
          if (seen.length > 1) return;
          turn(true);
          await fetch(url + "/open", { method: "POST" });
          turn(false);
        });
    """
    seen, jobs = on_page(url, code)
    assert [data.get("message", data) for _, data in seen] == ["before the gate", "behind the gate", {"status": "done"}]
    assert len(jobs) == 2
    assert len({*jobs}) == 1


def test_a_stream_that_fails_tells_it_once_and_starts_nothing_again(url: str) -> None:
    seen, jobs = on_page(url, 'await read("/stream_fails");')
    assert [event for event, _ in seen] == ["output", "error"]
    assert len({*filter(None, jobs)}) == 1
