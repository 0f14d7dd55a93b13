"""The budget of inputs: what is taken of it, by whom, and when it comes back."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from typing import Annotated, Any

import pytest
from fastapi import Depends, HTTPException, UploadFile
from starlette.testclient import TestClient
from tests.at_work import Gate
from tests.served import ASYNC, drain, runtime_of, serving, shape, submit
from tests.waiting import until

import streamapp
import streamapp.testing
from streamapp.budget import Budget
from streamapp.errors import PayloadTooLarge, Unavailable


def test_a_part_of_what_was_taken_comes_back_before_the_rest() -> None:
    budget = Budget(100)
    share = budget.share("ann", "session")
    share.take(30)
    share.give_back(10)
    assert budget.used == 20
    share.let_go("session")
    assert budget.used == 0
    share.give_back(10)
    assert budget.used == 0


def test_what_is_taken_comes_back_with_the_last_holder() -> None:
    budget = Budget(100)
    share = budget.share("ann", "request")
    share.take(10)
    share.holders.add("job")
    share.take(5)
    share.let_go("request")
    assert budget.used == 15
    share.let_go("job")
    assert budget.used == 0


def test_to_let_go_again_gives_nothing_back_twice() -> None:
    budget = Budget(100)
    shares = [budget.share("ann", "request") for _ in range(2)]
    for share in shares:
        share.take(10)
    shares[0].let_go("request")
    shares[0].let_go("request")
    assert budget.used == 10


@pytest.mark.parametrize("has_taken", [True, False])
def test_nothing_is_taken_for_nobody(has_taken: bool) -> None:
    """What is left of a body that was not read comes after the answer."""
    budget = Budget(100)
    share = budget.share("ann", "request")
    share.take(10 if has_taken else 0)
    share.let_go("request")
    share.take(50)
    assert budget.used == 0


def test_one_caller_gets_half_and_hears_so() -> None:
    budget = Budget(100)
    budget.share("ann", "request").take(40)
    with pytest.raises(Unavailable, match="hold 40 bytes .* may hold 50: half of STREAMAPP_MAX_INPUT_BYTES") as refused:
        budget.share("ann", "request").take(11)
    assert refused.value.retry_after_s == 5
    budget.share("bob", "request").take(50)


def test_all_callers_together_get_no_more_than_there_is() -> None:
    budget = Budget(100)
    for caller in ("ann", "bob"):
        budget.share(caller, "request").take(50)
    with pytest.raises(Unavailable, match="hold 100 of 100 bytes .STREAMAPP_MAX_INPUT_BYTES.; send it again later"):
        budget.share("eve", "request").take(1)
    assert budget.used == 100


def test_what_never_fits_is_not_to_be_sent_again() -> None:
    share = Budget(100).share("ann", "request")
    share.take(50)
    with pytest.raises(PayloadTooLarge, match="more than 50 bytes"):
        share.take(1)


def test_a_refusal_takes_nothing() -> None:
    budget = Budget(100)
    share = budget.share("ann", "request")
    share.take(10)
    with pytest.raises(PayloadTooLarge):
        share.take(41)
    assert (budget.used, share.size) == (10, 10)


def test_a_thread_may_let_go() -> None:
    budget = Budget(100)
    share = budget.share("ann", "request")
    share.take(10)
    thread = threading.Thread(target=share.let_go, args=["request"])
    thread.start()
    thread.join()
    assert budget.used == 0


def test_callers_that_have_nothing_are_forgotten() -> None:
    budget = Budget(100)
    for n in range(100):
        share = budget.share(f"caller {n}", "request")
        share.take(10)
        share.let_go("request")
    assert (budget.used, budget._by_payer) == (0, {})


# Over HTTP: nothing is left behind, however a request ends


LARGE = "a" * 100_000


class Inputs(streamapp.App):
    """Endpoints that end in several ways."""

    @cached_property
    def gate(self) -> Gate:
        return Gate()

    @streamapp.endpoint("/value")
    def value(self, text: str, refuses: bool = False) -> int:
        if refuses:
            raise HTTPException(418)
        return len(text)

    @streamapp.endpoint("/dependent")
    def dependent(self, text: str, given: Annotated[int, Depends(lambda: 1)]) -> int:
        return len(text)

    @streamapp.endpoint("/form")
    def form(self, file: UploadFile) -> int | None:
        return file.size

    @streamapp.endpoint("/media")
    def media(self, file: streamapp.File) -> int:
        return len(file.data)

    @streamapp.endpoint("/wait")
    def wait(self, text: str) -> str:
        return self.gate()

    @streamapp.endpoint("/ticks")
    async def ticks(self, text: str) -> AsyncIterator[int]:
        while True:
            yield 1
            await asyncio.sleep(0)


@pytest.fixture
def served() -> Iterator[tuple[Inputs, TestClient]]:
    app = Inputs()
    with serving(app, max_input_bytes=600_000, max_queue=3) as client:
        yield app, client
        app.gate.opened.set()


def used(client: TestClient) -> int:
    """Ask where the budget is counted: on the loop."""
    assert client.portal is not None
    return client.portal.call(lambda: runtime_of(client).inputs.used)


def is_empty(client: TestClient) -> bool:
    return used(client) == 0


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/value", {"json": {"text": LARGE}}, 200),
        ("/value", {"json": {"text": LARGE, "refuses": True}}, 418),
        ("/value", {"json": {"txt": LARGE}}, 422),
        ("/value", {"content": b'"' + LARGE.encode()}, 422),
        ("/value", {"content": LARGE.encode(), "headers": {"Content-Type": "a/b"}}, 415),
        ("/value", {"json": {"text": LARGE}, "headers": {"Streamapp-Media": "paper"}}, 400),
        ("/value", {"json": {"text": LARGE * 4}}, 413),
        ("/dependent", {"json": {"text": LARGE}}, 200),
        ("/dependent", {"json": {"text": LARGE * 4}}, 413),
        ("/form", {"files": {"file": LARGE.encode()}}, 200),
        ("/form", {"files": {"other": LARGE.encode()}}, 422),
        ("/media", {"json": {"file": f"data:,{LARGE}"}}, 200),
        ("/media", {"files": {"file": LARGE[:50_000].encode()}}, 200),
        ("/media", {"json": {"file": f"data:,{LARGE}{LARGE}"}}, 413),  # which is there twice
        ("/nowhere", {"json": {"text": LARGE}}, 404),
        ("/jobs/0/cancel", {"json": {"text": LARGE}}, 404),
        ("/rest/storage/upload/initiate", {"json": [LARGE]}, 400),
    ],
)
def test_an_answer_leaves_nothing_in_the_budget(
    served: tuple[Inputs, TestClient], path: str, asked: Any, status: int
) -> None:
    _, client = served
    assert client.post(path, **asked).status_code == status
    until(lambda: is_empty(client))


def test_a_queued_job_holds_its_input_until_it_is_cancelled(served: tuple[Inputs, TestClient]) -> None:
    app, client = served
    running, queued = (submit(client, "/wait", text=LARGE) for _ in range(2))
    app.gate.wait()
    assert used(client) > 200_000
    client.post(f"/jobs/{queued}/cancel")
    assert 100_000 < used(client) < 200_000
    client.post(f"/jobs/{running}/cancel")
    assert used(client) > 100_000  # its code still has it
    app.gate.opened.set()
    until(lambda: is_empty(client))


def test_what_the_queue_refuses_holds_nothing(served: tuple[Inputs, TestClient]) -> None:
    app, client = served
    answers = [client.post("/wait", json={"text": LARGE[:20_000]}, headers=ASYNC) for _ in range(5)]
    assert answers[-1].status_code == 429
    app.gate.opened.set()
    until(lambda: is_empty(client))


def test_a_drain_gives_all_back(served: tuple[Inputs, TestClient]) -> None:
    app, client = served
    for _ in range(2):
        submit(client, "/wait", text=LARGE)
    drain(client)
    app.gate.opened.set()
    until(lambda: is_empty(client))


def test_a_job_that_is_joined_does_not_hold_the_second_input(served: tuple[Inputs, TestClient]) -> None:
    app, client = served
    for _ in range(2):
        client.post("/wait", json={"text": LARGE}, headers={**ASYNC, "Idempotency-Key": "a"})
    assert used(client) < 200_000
    app.gate.opened.set()
    until(lambda: is_empty(client))


def test_who_leaves_a_stream_gives_its_input_back() -> None:
    with streamapp.testing.TestClient(Inputs) as client:
        with client.stream("/ticks", {"text": LARGE}) as stream:
            next(iter(stream))
        until(lambda: b"\nstreamapp_input_bytes 0.0\n" in client.http.get("/metrics").content)


def test_who_has_used_the_share_of_a_caller_is_told_to_come_again(served: tuple[Inputs, TestClient]) -> None:
    _, client = served
    for _ in range(2):
        submit(client, "/wait", text=LARGE)
    answer = client.post("/wait", json={"text": LARGE})
    assert (shape(answer), answer.headers["retry-after"]) == ((503, "unavailable"), "5")
    assert "one caller may hold 300000" in answer.json()["detail"]
    assert answer.json()["error"]["retryable"] is True


def test_a_newcomer_with_a_full_queue_of_a_megabyte_each_notices_nothing(gate: Gate) -> None:
    class Queue(streamapp.App):
        @streamapp.endpoint("/wait")
        def wait(self, image: streamapp.File) -> str:
            return gate()

    with serving(Queue) as client:
        body = {"image": f"data:,{'a' * 1_000_000}"}
        answers = [client.post("/wait", json=body, headers=ASYNC).status_code for _ in range(64)]
        gate.opened.set()
    assert set(answers) == {202}
