"""No wait of ours is for ever: the sources are read for those without a deadline, and each exception has its reason.

A wait is a call of `.wait`, `.result`, `.join`, `.acquire` or `.get` that can block, a call in another thread, and an
`await` of what user code or another thread has to finish. It has a deadline where it is given one, or stands under
`asyncio.timeout`. What `in_pool` runs is the server's own: nobody else fills that pool.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamapp
import streamapp_client

SOURCES = {
    f"{package.__name__}/{path.relative_to(folder)}": path
    for package in (streamapp, streamapp_client)
    for folder in [Path(str(package.__file__)).parent]
    for path in folder.rglob("*.py")
}
BLOCKING = {"wait", "wait_for", "result", "join", "acquire", "get"}
ELSEWHERE = {
    "shield",
    "wrap_future",
    "gather",
    "to_thread",
    "run_sync",
    "run_in_executor",
    "in_own_thread",
    "in_encoder",
    "hook",
}
BY_THE_JOB = "the job's deadline ends it"
BY_THE_SCOPE = "resolve_media's asyncio.timeout"
BY_THE_CALL = "the client's own deadlines end what this waits for"
BY_ITS_READERS = "a producer's, whose run ends when its last reader has left, or with the server"
DONE = "it is done"
# By module, the source of the wait: why it needs no deadline of its own.
WITHOUT = {
    "streamapp/chutes/answers.py": {
        "in_encoder(to_event, item, self._publisher)": BY_THE_JOB,
        "asyncio.shield(asyncio.wrap_future(thread.submit(next, items, _NONE)))": BY_THE_JOB,
        "asyncio.wrap_future(thread.submit(next, items, _NONE))": BY_THE_JOB,
        "asyncio.shield(asyncio.wrap_future(closing))": "until the generator's code has returned",
        "asyncio.wrap_future(closing)": "until the generator's code has returned",
        "thread.submit(next, items, _NONE).result()": "the cord's own code, as where it returns a value",
    },
    "streamapp/chutes/apps.py": {"result": "hooks, for which the app's setup and teardown wait"},
    "streamapp/chutes/cords.py": {
        "coroutine": BY_THE_JOB,
        "rest": "the budget of waiting that its job has",
        "result": BY_THE_JOB,
    },
    "streamapp/chutes/crossed.py": {
        "asyncio.shield(self._coming.came)": "as what an endpoint asks of its `Request`, or its socket",
    },
    "streamapp/chutes/home.py": {
        "asyncio.run_coroutine_threadsafe(_outcome(coroutine), self.loop).result()": "hooks, as for setup and teardown",
        "asyncio.shield(crossing.came)": "the job's deadline cancels it; then it lasts until the code has returned",
        "asyncio.shield(valve.item)": BY_THE_JOB,
        "came": DONE,
        "coroutine": "what waits for its end has a deadline",
        "self._wanted": "its reader closes it, or is let go of",
        "task.result()": DONE,
    },
    "streamapp/fal/over_socket.py": {
        "self._has_changed.wait()": "until the client sends, leaves, or the server is shut down",
        "self._has_left.wait()": "the answer that listens for it ends it",
        "self._has_room.wait()": "the answers that are ahead have their own deadlines",
    },
    "streamapp/http/answer.py": {
        "asyncio.shield(asyncio.wrap_future(self.ended))": BY_THE_JOB,
        "asyncio.wrap_future(self.ended)": BY_THE_JOB,
        "asyncio.shield(sending.task)": BY_THE_JOB,
        "never": "what a Response receives that no request waits for: nobody leaves",
    },
    "streamapp/sockets/raw.py": {
        "asyncio.wait({asyncio.wrap_future(ready)})": "the app's setup takes its time; a drain ends it",
        "asyncio.wrap_future(ready)": "the same",
        "ready.result()": DONE,
    },
    "streamapp/webrtc/datasocket.py": {
        "self._news.wait()": "until the client sends, or has gone, for whose signs of life aioice asks",
        "self._writable.wait()": "who sends has `send_timeout_s`, and the connection's end wakes it",
    },
    "streamapp/webrtc/peer.py": {
        "gather(component, own or [*addresses, *added])": "aioice's, which gives its servers 5 s",
        "self._opened.result()": "it is done",
    },
    "streamapp/sockets/rooms.py": {"self._news": "a member's writer, which ends with its session"},
    "streamapp/testing/fal.py": {"serving.result()": "the server's own end, which is bounded"},
    "streamapp/workers/binding.py": {
        "result": "an endpoint's coroutine, whose task ends at the job's deadline",
        "coroutine": "an endpoint's, or its response's, which ends at the job's deadline",
        "self.over.result()": BY_THE_JOB,
        "self._begin_on_loop(job, coroutine).result()": BY_THE_JOB,
        "in_own_thread(f'items-{job.id}', exhaust, items, stream)": BY_THE_JOB,
        "asyncio.shield(going)": BY_THE_JOB,
        "asyncio.wait({going})": "its next item meets the job's end",
        "in_own_thread(f'beside-{job.id}', self._run_to_the_end, job, stream)": BY_THE_JOB,
    },
    "streamapp/workers/turns.py": {"on_loop.result()": DONE},
    "streamapp/jobs/channel.py": {
        "self._lock.acquire()": "held for a few lines, none of which waits",
    },
    "streamapp/serve/build.py": {"asking.result()": DONE},
    "streamapp/openai/answers.py": {"in_encoder(tell, given)": "pictures and sound, of which each has a size"},
    "streamapp/openai/speech.py": {"in_encoder(self._sound.of, event)": "base64 of one output, or a file that is read"},
    "streamapp/openai/models.py": {
        "asyncio.wrap_future(ready)": "waited for no longer than a job is",
        "waiting.result()": DONE,
    },
    "streamapp/serve/websockets.py": {"sleeper": "an app's wait for its client, whose signs of life have a deadline"},
    "streamapp/http/connection.py": {
        "asyncio.shield(self.listener)": "what an endpoint's own Response receives: it waits for its client to leave",
    },
    "streamapp/jobs/delivery.py": {"waiter": "a timer ends it"},
    "streamapp/process/ending.py": {"self._orders.get()": "a daemon, which waits to be armed"},
    "streamapp/cli/run_once.py": {
        "in_own_thread('display', _show, subscriber.take(), show)": "a terminal stands still as long as its user wants"
    },
    "streamapp/runpod/serverless/utils/rp_download.py": {
        "each.result()": "a download, whose host has a deadline for each piece, and which has a size",
    },
    "streamapp/fetch.py": {
        "loop.run_in_executor(_checking, _verify, media, self.limits.max_pixels)": BY_THE_SCOPE,
    },
    "streamapp/runpod/pool.py": {
        "asyncio.wait({emitting})": "the budget of waiting that its job has, or its request ends"
    },
    "streamapp/runpod/plane.py": {
        "asyncio.wait({emitting, leaving}, return_when=asyncio.FIRST_COMPLETED)": "what `emitting` waits for ends it",
    },
    "streamapp/jobs/pace.py": {"room": "a timer gives it after what is left of the budget"},
    "streamapp/serve/reload.py": {"child.wait()": "it was killed"},
    "streamapp/http/response.py": {
        "outcome.result()": DONE,
        "sending.task.result()": DONE,
        "asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)": BY_THE_JOB,
        "asyncio.wrap_future(answer.outcome)": BY_THE_JOB,
        "asyncio.wrap_future(answer.ended)": BY_THE_JOB,
    },
    "streamapp/http/routes.py": {
        "serving.result()": DONE,
        "ended.wait()": BY_THE_JOB,
        "asyncio.wrap_future(answer.outcome)": BY_THE_JOB,
        "asyncio.Event().wait()": "the receive of a request whose client does not leave",
        "asyncio.wait({serving, answered}, return_when=asyncio.FIRST_COMPLETED)": BY_THE_JOB,
    },
    "streamapp/serving.py": {
        "in_own_thread(f'ready-{self.name}', self.wait_ready)": "a setup takes its time; the server's end ends it",
        "in_own_thread(f'stop-{self.name}', self.stop)": "`stop` has a deadline",
    },
    "streamapp/runtime.py": {
        "waiting.result()": "the app's setup takes its time",
        "awaitable": "the app's setup takes its time; its teardown is waited for by `stop`, which has a deadline",
        "in_own_thread(f'exit-{served.name}', hook)": "`drain` gives it a deadline",
        "hook()": "`drain` gives it a deadline",
        "in_own_thread('files', self.files.close)": "`ends_within`, a line later",
        "in_own_thread(f'join-{worker.name}', worker.join, patience_s)": "`join` has it",
        "asyncio.gather(*map(self._join, self._workers()))": "`join` has it",
        "result": "`handle_exit`'s, see above",
    },
    "streamapp/serve/server.py": {
        "drain.result()": DONE,
        "rest": "the rest of a response, like the app itself",
        "self._writable.wait()": "uvicorn's, until the client has taken enough or left; responses limit it",
    },
    "streamapp/jobs/stream.py": {
        "rest": BY_THE_JOB,
        "in_encoder(to_event, payload, channel.publisher)": BY_THE_JOB,
        "in_own_thread(f'reader-{self.job_id}', channel.emit, event)": "the budget of waiting that its job has",
        "in_encoder(to_event, payload, self._channel.publisher)": BY_THE_JOB,
        "in_encoder(to_packed_event, payload, channel.publisher, channel.film)": BY_THE_JOB,
    },
    "streamapp/llm/tokenstream.py": {
        "self._given.acquire()": "it goes on when it is asked for a token; its reader's end gives it the turn",
        "self._given_back.acquire()": "a model takes its time for a token; the reader's job has a deadline",
        "self._thread.join()": "it ends at the token that it makes",
    },
    "streamapp/workers/sessions.py": {
        "inbox.wait()": "it has one by itself",
        "self._given.acquire()": "a session waits for its client, or for its turn; its end gives it one",
        "self._given_back.acquire()": "the turn has the job's deadline, which the lane looks at",
    },
    "streamapp/jobs/inbox.py": {"waiter": "a session waits for its client; its end ends this"},
    "streamapp/jobs/subscriber.py": {"waiter": "a timer ends it"},
    "streamapp/runpod/runner.py": {
        "waiting.result()": DONE,
        "came": BY_THE_JOB,
        "in_encoder(final_event, job, returned.value)": BY_THE_JOB,
        "rest": BY_THE_JOB,
    },
    "streamapp/workers/tasks.py": {
        "rest": BY_THE_JOB,
        "in_encoder(final_event, job, result)": BY_THE_JOB,
        "asyncio.shield(asyncio.wrap_future(self.ready))": "the app's setup takes its time; the session's end ends it",
        "asyncio.wrap_future(self.ready)": "the same",
    },
    "streamapp/workers/production.py": {
        "result": BY_ITS_READERS,
        "in_own_thread(f'broadcast-{stream.job_id}', _call_to_the_end, call, stream)": BY_ITS_READERS,
        "asyncio.shield(going)": BY_ITS_READERS,
        "asyncio.wait({going})": "its next item meets the run's end; whoever asks meanwhile has an idle time",
    },
    "streamapp/testing/transport.py": {
        "self._is_over.wait()": "what an app receives: it waits for its client to leave"
    },
    "streamapp/process/threads.py": {
        "self._calls.get()": "a daemon, which waits for calls",
        "calls.get()": "likewise, and for who asks to let go of it",
        "asyncio.get_running_loop().run_in_executor(pool, call)": "its callers are listed here themselves",
        "asyncio.get_running_loop().run_in_executor(encoders, call)": "its callers are listed here themselves",
        "asyncio.wrap_future(future)": "its callers are listed here themselves",
    },
    "streamapp_client/_async_wire.py": {"told": BY_THE_CALL},
    "streamapp_client/_line.py": {
        "self._change.wait()": "the session's end wakes whoever waits, and silence, or its patience, ends it",
        "asyncio.wait({self._task})": "it leaves, for which it has seconds",
    },
    "streamapp_client/_session.py": {"future.result()": "what the loop runs, which ends with the session"},
    "streamapp_client/_async_client.py": {
        "asyncio.gather(*(line.leave() for line in [*self._lines] if line.loop is loop))": "each has seconds to leave",
        "submitting": BY_THE_CALL,
        "asyncio.shield(submitting)": BY_THE_CALL,
        "asyncio.shield(self._cancel(job.id))": BY_THE_CALL,
        "asyncio.shield(starting)": BY_THE_CALL,
        "asyncio.shield(performing)": BY_THE_CALL,
        "asyncio.shield(asyncio.ensure_future(_leave(self._client if self._cancels else None, "
        "self._conversation.transcript, self._wire)))": BY_THE_CALL,
        "asyncio.wait({starting})": BY_THE_CALL,
    },
}


def is_bounded(call: ast.Call) -> bool:
    """Say whether a wait is given how long it may take: a positional number, or a keyword that says so."""
    named = {keyword.arg for keyword in call.keywords}
    return bool(named & {"timeout", "timeout_s", "blocking"})


class Waits(ast.NodeVisitor):
    """Collect the waits without a deadline in one module."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.limited = 0

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        is_limit = any("timeout(" in ast.unparse(item.context_expr) for item in node.items)
        self.limited += is_limit
        self.generic_visit(node)
        self.limited -= is_limit

    def visit_Await(self, node: ast.Await) -> None:
        if not isinstance(node.value, ast.Call):
            self.note(node.value)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        match node.func:
            case ast.Attribute(attr="join", value=ast.Constant()):
                pass  # of a text
            case ast.Attribute(attr=name) if name in BLOCKING and not node.args and not is_bounded(node):
                self.note(node)
            case ast.Attribute(attr="wait", value=ast.Name(id="asyncio")) if not is_bounded(node):
                self.note(node)
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in ELSEWHERE:
                self.note(node)
        self.generic_visit(node)

    def note(self, node: ast.AST) -> None:
        if not self.limited:
            self.found.append(ast.unparse(node))


def waits_of(path: Path) -> Iterator[str]:
    module = ast.parse(path.read_text())
    variables = set(context_variables(module))
    waits = Waits()
    waits.visit(module)
    yield from (wait for wait in waits.found if wait.removesuffix(".get()") not in variables)


def context_variables(module: ast.Module) -> Iterator[str]:
    """Yield the names of context variables, whose `get` does not wait."""
    for node in ast.walk(module):
        if isinstance(node, ast.AnnAssign) and "ContextVar[" in ast.unparse(node.annotation):
            yield ast.unparse(node.target)


FOUND = {name: set(waits_of(path)) for name, path in sorted(SOURCES.items()) if "/toolkit/" not in name}


@pytest.mark.whole
@pytest.mark.parametrize(("name", "wait"), [(name, wait) for name, waits in FOUND.items() for wait in sorted(waits)])
def test_a_wait_has_a_deadline_or_a_reason(name: str, wait: str) -> None:
    assert wait in WITHOUT.get(name, {})


@pytest.mark.parametrize("name", WITHOUT)
def test_each_exception_is_still_needed(name: str) -> None:
    assert set(WITHOUT[name]) <= FOUND[name]


@pytest.mark.parametrize(
    "source",
    ["event.wait()", "future.result()", "await future", "await asyncio.wait({a})", "await hook()", "q.get()"],
)
def test_a_wait_without_a_deadline_is_found(source: str, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(f"async def f():\n    {source}\n")
    assert [*waits_of(module)] == [source.removeprefix("await ")]


@pytest.mark.parametrize(
    "source", ["event.wait(1)", "future.result(timeout=1)", "lock.acquire(blocking=False)", "', '.join(a)", "d.get(1)"]
)
def test_a_wait_with_a_deadline_is_none(source: str, tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(f"async def f():\n    {source}\n    async with asyncio.timeout(1):\n        await future\n")
    assert [*waits_of(module)] == []
