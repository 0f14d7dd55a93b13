"""Another server's model: what is asked of it, what comes of its answers, and of those that are none."""

import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient
from tests.at_work import Gate
from tests.scripted_server import END, HOLD, RESET, THEN, Serve, Server, answer, chunk, head
from tests.served import blocks, serving
from tests.waiting import WAIT_S, until

import streamapp
from streamapp.errors import (
    DefinitionError,
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    QueueFull,
    StreamAppError,
    Unavailable,
    UpstreamFailed,
)
from streamapp.openai import upstream
from streamapp.openai.upstream import Decoder, Upstream
from streamapp.testing.fal import AppClient

CHAT, COMPLETIONS = "v1/chat/completions", "v1/completions"
ASKED = [{"role": "user", "content": "Hi"}]
DONE = chunk("data: [DONE]\n\n") + END


def told(**choice: Any) -> bytes:
    return chunk(f"data: {json.dumps({'choices': [{'index': 0, **choice}]})}\n\n")


def said(text: str, **choice: Any) -> bytes:
    return told(delta={"content": text}, **choice)


def counted(**usage: int) -> bytes:
    return chunk(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n")


def body_of(server: Server) -> Any:
    return json.loads(server.requests[-1][1])


def model_of(server: Server, **given: Any) -> Upstream:
    return Upstream(server.url, **{"model": "small", **given})


async def chatted(server: Server, **sampling: Any) -> list[Any]:
    return [token async for token in model_of(server).chat(ASKED, **sampling)]


def streams(serve: Serve, *steps: Any) -> Server:
    return serve(**{CHAT: [head(), *steps]})


def refuses(
    serve: Serve, status: str, body: bytes = b"", content_type: str = "application/json", more: str = ""
) -> Server:
    return serve(**{CHAT: [answer(body, status, content_type, more)]})


async def refusal(server: Server) -> StreamAppError:
    with pytest.raises(StreamAppError) as raised:
        await chatted(server)
    return raised.value


async def test_a_conversation_comes_token_by_token_and_ends_with_all_of_it(serve: Serve) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    server = streams(serve, told(delta={"role": "assistant"}), said("Hel"), said("lo"), told(finish_reason="length"))
    server.answers[f"/{CHAT}"] += [counted(**usage), DONE]
    *tokens, ending = await chatted(server)
    assert tokens == [{"text": "Hel", "index": 0}, {"text": "lo", "index": 0}]
    assert ending == {"text": "Hello", "index": 0, "finish_reason": "length", "usage": usage}


async def test_a_prompt_is_gone_on_behind(serve: Serve) -> None:
    server = serve(**{COMPLETIONS: [head(), told(text=" time", finish_reason="stop"), DONE]})
    assert [made["text"] async for made in model_of(server).stream([1, 2])] == [" time", " time"]
    assert body_of(server)["prompt"] == [1, 2]


async def test_what_is_asked_goes_along_by_its_names(serve: Serve) -> None:
    server = streams(serve, said("", finish_reason="stop"), DONE)
    await chatted(
        server, tools=[{"type": "function"}], top_k=3, seed=None, logprobs=2, response_format={"type": "text"}
    )
    assert body_of(server) == {
        "messages": ASKED,
        "tools": [{"type": "function"}],
        "top_k": 3,
        "response_format": {"type": "text"},
        "logprobs": True,
        "top_logprobs": 2,
        "model": "small",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_text_that_is_no_unicode_is_mended(serve: Serve) -> None:
    server = streams(serve, said("", finish_reason="stop"), DONE)
    async for _ in model_of(server).chat([{"role": "user", "content": "\ud800"}]):
        pass
    assert body_of(server)["messages"][0]["content"] == "\ufffd"


async def test_choices_are_told_apart_and_counted_together(serve: Serve) -> None:
    first, second = said("a", index=1, finish_reason="stop"), said("b", finish_reason="eos")
    *_, ending, last = await chatted(streams(serve, first, second, counted(prompt_tokens=2, completion_tokens=2), DONE))
    assert ending == {"text": "b", "index": 0, "finish_reason": "stop"}
    assert (last["text"], last["usage"]["total_tokens"]) == ("a", 4)


async def test_logprobs_of_a_conversation_are_told_with_their_tokens(serve: Serve) -> None:
    likely = [{"token": "A", "logprob": -0.5, "bytes": [65], "top_logprobs": [{"token": "B", "logprob": -1.0}]}]
    *tokens, _ = await chatted(streams(serve, said("AA", logprobs={"content": likely * 2}, finish_reason="stop"), DONE))
    tops = [{"text": "B", "logprob": -1.0}]
    assert [token.pop("text") for token in tokens] == ["", "AA"]
    assert tokens == [{"index": 0, "logprob": -0.5, "own_text": "A", "top_logprobs": tops}] * 2


async def test_logprobs_of_completions_are_too(serve: Serve) -> None:
    logprobs = {"tokens": ["<s>", "A"], "token_logprobs": [None, -0.5], "top_logprobs": [None, {"B": -1.0}]}
    server = serve(**{COMPLETIONS: [head(), told(text="A", logprobs=logprobs, finish_reason="stop"), DONE]})
    token, _ = [made async for made in model_of(server).stream("x", logprobs=1)]
    tops = [{"text": "B", "logprob": -1.0}]
    assert token == {"text": "A", "index": 0, "logprob": -0.5, "own_text": "A", "top_logprobs": tops}
    assert body_of(server)["logprobs"] == 1


async def test_calls_of_tools_are_put_together(serve: Serve) -> None:
    begin = {"index": 0, "id": "c1", "function": {"name": "add", "arguments": '{"a"'}}
    rest = {"index": 0, "function": {"arguments": ": 1}"}}
    whole = {"index": 0, "id": "c2", "function": {"name": "now", "arguments": "{}"}}
    calls = [told(delta={"tool_calls": [each]}) for each in (begin, rest, whole)]
    (ending,) = await chatted(streams(serve, *calls, told(finish_reason="tool_calls"), DONE))
    assert ending["finish_reason"] == "tool_calls"
    assert ending["tool_calls"] == [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "c2", "type": "function", "function": {"name": "now", "arguments": "{}"}},
    ]


async def test_the_first_of_its_models_is_asked_where_none_is_named_and_remembered(serve: Serve) -> None:
    server = streams(serve, said("x", finish_reason="stop"), DONE)
    server.answers["/v1/models"] = [answer(b'{"data": [{"id": "first"}, {"id": "second"}]}')]
    model = Upstream(f"{server.url}/v1/")
    for _ in range(2):
        assert len([made async for made in model.chat(ASKED)]) == 2
    assert body_of(server)["model"] == "first"
    assert await model.models() == ("first", "second")
    assert server.saw(3) == ["GET /v1/models", f"POST /{CHAT}", f"POST /{CHAT}"]


async def test_models_are_asked_again_after_a_while(serve: Serve, advance: Any) -> None:
    listed = [answer(b'{"data": [{"id": "%s"}]}' % name) for name in (b"old", b"new")]
    model = Upstream(serve(**{"v1/models": [listed[0], THEN, listed[1]]}).url)
    assert await model.models() == ("old",)
    advance(6)
    assert await model.models() == ("new",)


async def test_one_that_is_named_is_not_asked_for() -> None:
    assert await Upstream("http://127.0.0.1:9", model="mine").models() == ("mine",)


async def test_a_server_without_a_model_cannot_answer(serve: Serve) -> None:
    with pytest.raises(UpstreamFailed, match="no model"):
        await anext(Upstream(serve(**{"v1/models": [answer(b'{"data": []}')]}).url).chat(ASKED))


async def test_its_key_goes_along_and_to_no_other_address(serve: Serve) -> None:
    server = refuses(serve, "307 Temporary Redirect", more="Location: http://elsewhere.example/\r\n")
    with pytest.raises(UpstreamFailed, match="HTTP 307"):
        await anext(model_of(server, api_key="secret").chat(ASKED))
    assert server.requests[0][0]["Authorization"] == "Bearer secret"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "error", "is_retryable"),
    [
        ("400 Bad Request", InvalidInput, False),
        ("422 No", InvalidInput, False),
        ("404 Not Found", NotFound, False),
        ("413 Too Large", PayloadTooLarge, False),
        ("429 Busy", QueueFull, True),
        ("503 Loading", Unavailable, True),
        ("401 No", UpstreamFailed, False),
        ("403 No", UpstreamFailed, False),
        ("500 Broken", UpstreamFailed, True),
        ("502 Bad Gateway", UpstreamFailed, True),
        ("204 Nothing", UpstreamFailed, False),
        ("418 Teapot", UpstreamFailed, False),
    ],
)
async def test_a_refusal_is_told_as_one_of_ours(
    serve: Serve, status: str, error: type[Exception], is_retryable: bool
) -> None:
    raised = await refusal(refuses(serve, status, b'{"error": {"message": "so"}}' if status[0] != "2" else b""))
    assert (type(raised), raised.retryable) == (error, is_retryable)


async def test_what_it_says_of_the_input_is_told_as_it_said_it(serve: Serve) -> None:
    error = {"message": "too long", "type": "invalid_request_error", "param": "messages", "code": "context_length"}
    raised = await refusal(refuses(serve, "400 Bad Request", json.dumps({"error": {**error, "secret": 1}}).encode()))
    assert (raised.message, raised.detail) == ("too long", error)


@pytest.mark.parametrize(
    "body", [{"error": "too long"}, {"object": "error", "message": "too long"}, {"error": {"message": "too long"}}]
)
async def test_it_may_say_so_in_an_older_form(serve: Serve, body: Any) -> None:
    assert (await refusal(refuses(serve, "400 Bad Request", json.dumps(body).encode()))).message == "too long"


async def test_it_may_say_so_as_fastapi_does(serve: Serve) -> None:
    body = {"detail": [{"loc": ["body", "top_k"], "msg": "too large"}]}
    raised = await refusal(refuses(serve, "422 Unprocessable", json.dumps(body).encode()))
    assert (type(raised), raised.message) == (InvalidInput, "body.top_k: too large")


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"detail": [1]}', b'{"error": {"message": 1}}', b"{}", b'{"error": []}', b"\xff"]
)
async def test_a_refusal_that_says_nothing_has_words_of_ours(serve: Serve, body: bytes) -> None:
    raised = await refusal(refuses(serve, "400 Bad Request", body, "text/html"))
    assert raised.message == "the upstream refuses this input"


async def test_a_page_in_the_place_of_an_answer_is_a_wrong_url(serve: Serve) -> None:
    raised = await refusal(refuses(serve, "404 Not Found", b"<html>nginx</html>", "text/html"))
    assert (type(raised), raised.message) == (UpstreamFailed, "the upstream answers HTTP 404")


async def test_when_to_come_back_is_passed_on(serve: Serve) -> None:
    assert (await refusal(refuses(serve, "429 Busy", more="Retry-After: 7\r\n"))).retry_after_s == 7
    assert (await refusal(refuses(serve, "503 Busy", more="Retry-After: Fri, 27 Nov 2026\r\n"))).retry_after_s is None


async def test_neither_the_key_nor_the_address_is_told(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = refuses(serve, "400 Bad Request", b'{"error": {"message": "not with sk-1"}}')
    server.answers["/v1/models"] = [answer(b'{"error": "Incorrect key sk-1"}', "401 No")]
    for asked in (model_of(server, api_key="sk-1").chat(ASKED), Upstream(server.url, api_key="sk-1").chat(ASKED)):
        with pytest.raises(StreamAppError) as raised:
            await anext(asked)
        assert "sk-1" not in raised.value.message
        assert "127.0.0.1" not in raised.value.message
    assert "sk-1" not in caplog.text
    assert server.url in caplog.text


async def test_nobody_there_is_a_failure_that_may_pass() -> None:
    for url in ("http://127.0.0.1:1", "http://no.such.host.invalid", f"http://{'a' * 64}.example"):
        with pytest.raises(UpstreamFailed, match="cannot be reached") as raised:
            await anext(Upstream(url, model="x").chat(ASKED))
        assert raised.value.retryable


async def test_silence_ends_where_its_time_is_over(serve: Serve) -> None:
    server = streams(serve, said("x"), HOLD)
    tokens = model_of(server, timeout_s=0.2).chat(ASKED)
    assert await anext(tokens) == {"text": "x", "index": 0}
    with pytest.raises(UpstreamFailed, match="silent for 0.2 s"):
        await anext(tokens)
    server.sees(f"gone /{CHAT}")


@pytest.mark.parametrize("cut", [[END], [], [RESET], [chunk("data: {"), END]])
async def test_a_stream_that_breaks_off_is_no_end(serve: Serve, cut: list[Any]) -> None:
    assert (await refusal(streams(serve, said("x"), *cut))).message == "the upstream's answer broke off"


async def test_a_stream_whose_choices_have_ended_needs_no_word_for_it(serve: Serve) -> None:
    _, ending = await chatted(streams(serve, said("x", finish_reason="stop"), END))
    assert ending["text"] == "x"


async def test_a_choice_that_says_no_reason_has_stopped(serve: Serve) -> None:
    _, ending = await chatted(streams(serve, said("x"), DONE))
    assert ending["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("error", "raises"),
    [
        ({"message": "secret", "code": 500}, UpstreamFailed),
        ({"message": "too long", "code": 400}, InvalidInput),
        ({"message": "secret", "code": "x"}, UpstreamFailed),
        ("secret", UpstreamFailed),
    ],
)
async def test_a_failure_in_the_stream_is_one(serve: Serve, error: Any, raises: type[Exception]) -> None:
    server = streams(serve, said("x"), chunk(f"data: {json.dumps({'error': error})}\n\n"), DONE)
    raised = await refusal(server)
    assert type(raised) is raises
    assert "secret" not in raised.message


@pytest.mark.parametrize("data", ["nothing", "[]", '{"choices": 1}', '{"choices": [{"delta": 1}]}', "[" * 10_000])
async def test_what_is_no_block_of_openais_cannot_be_read(serve: Serve, data: str) -> None:
    assert (await refusal(streams(serve, chunk(f"data: {data}\n\n"), DONE))).message.endswith("cannot be read")


async def test_a_page_is_no_stream(serve: Serve) -> None:
    raised = await refusal(refuses(serve, "200 OK", b"<html>", "text/html"))
    assert (raised.message, raised.retryable) == ("the upstream does not stream", False)


async def test_a_compressed_answer_is_not_read(serve: Serve) -> None:
    raised = await refusal(refuses(serve, "200 OK", b"x", "text/event-stream", "Content-Encoding: gzip\r\n"))
    assert raised.message.endswith("cannot be read")


async def test_what_is_too_large_is_not_kept(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_MAX_BYTES", 1000)
    assert (await refusal(streams(serve, chunk(f"data: {'x' * 2000}"), HOLD))).message.endswith("too large")
    model = model_of(refuses(serve, "200 OK", b"x" * 2000))
    with pytest.raises(UpstreamFailed, match="too large"):
        await anext(model.forward("/chat/completions", {}))


async def test_who_leaves_closes_the_connection(serve: Serve) -> None:
    server = streams(serve, said("x"), said("y"), HOLD)
    tokens = model_of(server).chat(ASKED)
    await anext(tokens)
    await tokens.aclose()
    server.sees(f"gone /{CHAT}")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_blocks_are_read_wherever_they_were_cut(end: bytes) -> None:
    lines = [b": ping", b"event: x", b"id: 1", b"data: a", b"data:b", b"", b": ping", b"", b"data: [DONE]", b"", b"dat"]
    decoder = Decoder()
    read = [data for at in end.join(lines) for data in decoder.feed(bytes([at]))]
    assert read == [b"a\nb", b"[DONE]"]
    assert decoder.size == 3


async def test_a_clients_body_is_passed_on_whole_and_so_is_the_answer(serve: Serve) -> None:
    server = refuses(serve, "200 OK", b'{"id": "x", "reasoning": {"a": [1]}}')
    server.answers["/v1/models"] = [answer(b'{"data": [{"id": "first"}, {"id": "theirs"}]}')]
    body = {"messages": ASKED, "odd": {"x": 1}, "model": "theirs"}
    assert [part async for part in Upstream(server.url).forward("/chat/completions", body)] == [
        {"id": "x", "reasoning": {"a": [1]}}
    ]
    assert body_of(server) == body


@pytest.mark.parametrize("body", [{}, {"model": "the name that our face has told"}, {"model": None}])
async def test_a_body_is_for_the_model_there_is(serve: Serve, body: Any) -> None:
    server = refuses(serve, "200 OK", b"{}")
    await anext(model_of(server).forward("/chat/completions", body))
    assert body_of(server)["model"] == "small"


async def test_a_stream_is_passed_on_block_by_block(serve: Serve) -> None:
    first = {"id": "x", "choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "odd": 1}]}
    server = streams(serve, chunk(f": ping\n\ndata: {json.dumps(first)}\n\n"), told(finish_reason="stop"), DONE)
    passed = [block async for block in model_of(server).forward("/chat/completions", {"stream": True})]
    assert passed == [first, {"choices": [{"index": 0, "finish_reason": "stop"}]}]


async def test_what_is_odd_in_a_stream_is_passed_on_as_long_as_its_ends_are_known(serve: Serve) -> None:
    odd = [
        {"choices": None},
        {"choices": [{"delta": {"tool_calls": [{"function": 1}]}, "logprobs": 1}], "usage": "none"},
    ]
    server = streams(serve, *(chunk(f"data: {json.dumps(each)}\n\n") for each in odd), DONE)
    assert [block async for block in model_of(server).forward("/chat/completions", {"stream": True})] == odd


async def test_nulls_for_what_is_not_there_are_taken(serve: Serve) -> None:
    call = {"index": 0, "id": "c1", "function": None}
    logprobs = {"content": [{"token": "x", "logprob": -1, "top_logprobs": None}]}
    server = streams(
        serve, chunk('data: {"choices": null}\n\n'), told(delta={"tool_calls": [call]}, logprobs=logprobs), DONE
    )
    token, ending = await chatted(server)
    assert (token["top_logprobs"], ending["tool_calls"][0]["function"]["name"]) == ([], "")


async def test_an_error_with_status_200_is_one(serve: Serve) -> None:
    body = {"error": {"message": "too long", "code": 400}}
    with pytest.raises(InvalidInput, match="too long"):
        await anext(model_of(refuses(serve, "200 OK", json.dumps(body).encode())).forward("/chat/completions", {}))


@pytest.mark.parametrize(
    "body",
    [
        {"request_id": "x"},
        {"kv_transfer_params": {"remote_host": "10.0.0.1"}},
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}]}]},
        {"messages": [{"content": [{"type": "audio_url", "audio_url": "file:///etc/passwd"}]}]},
    ],
)
async def test_a_body_that_reaches_into_the_network_is_refused(body: Any) -> None:
    with pytest.raises(InvalidInput):
        await anext(Upstream("http://127.0.0.1:1", model="x").forward("/chat/completions", body))


async def test_pictures_in_the_body_itself_are_passed_on(serve: Serve) -> None:
    part = {"type": "image_url", "image_url": {"url": "DATA:image/png;base64,AAAA"}}
    body = {"messages": [None, {}, {"content": [None, part, {"type": "text", "text": "http://x"}]}, {"content": "x"}]}
    model = model_of(refuses(serve, "200 OK", b"{}"))
    assert [part async for part in model.forward("/chat/completions", body)] == [{}]


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("https://Example.org/app/", "https://example.org/app/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://example.org/v1beta", "https://example.org/v1beta"),
    ],
)
def test_its_url_is_taken_with_the_version_and_without(url: str, base: str) -> None:
    assert Upstream(url).url == base


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8000", "ftp://x", "http://", "http://x?a=1", "http://x#a", "http://x:99999999", None),
        *("http://x/v1/chat/completions", "http://me:secret@x", "http://me:sec/ret@x"),
    ],
)
def test_what_is_no_url_is_refused_and_no_password_shown(url: Any) -> None:
    with pytest.raises(DefinitionError) as raised:
        Upstream(url)
    assert "secret" not in raised.value.message
    assert "sec/ret" not in raised.value.message


@pytest.mark.parametrize(
    "given", [{"api_key": ""}, {"api_key": "a\nb"}, {"timeout_s": 0}, {"connect_timeout_s": float("nan")}]
)
def test_what_is_no_key_or_time_is_refused(given: Any) -> None:
    with pytest.raises(DefinitionError, match=next(iter(given))):
        Upstream("http://x", **given)


class Origin(streamapp.App):
    """Stands for the server in the back: blocks of OpenAI's, without `[DONE]`."""

    gate = Gate()
    ended = threading.Semaphore(0)
    headers: list[Any] = []

    @streamapp.endpoint(f"/{CHAT}")
    def chat(self, messages: list[dict[str, str]]) -> Iterator[Any]:
        try:
            for word in messages[-1]["content"].split():
                yield {"choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
            if messages[-1]["content"] == "wait":
                self.gate()
                while True:
                    yield {"choices": [{"index": 0, "delta": {"content": "on"}}]}
            if messages[-1]["content"] == "break":
                raise ValueError("secret")
            yield {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        finally:
            type(self).ended.release()


class Front(streamapp.App):
    url = ""

    def setup(self) -> None:
        self.llm = streamapp.Upstream(self.url, model="x")

    @streamapp.endpoint("/returned")
    def returned(self, text: str) -> AsyncIterator[Any]:
        return self.llm.chat([{"role": "user", "content": text}])

    @streamapp.endpoint("/stream")
    async def stream(self, text: str) -> AsyncIterator[Any]:
        async for made in self.llm.chat([{"role": "user", "content": text}]):
            yield made["text"]

    @streamapp.endpoint("/followed")
    async def followed(self, text: str) -> list[Any]:
        return [event.json() async for event in streamapp.follow(self.stream, {"text": text})]


@pytest.fixture(scope="module")
def front() -> Iterator[TestClient]:
    with AppClient.connect(Origin) as origin:
        Front.url = origin.url
        with serving(Front) as client:
            yield client
            Origin.gate.opened.set()


@pytest.mark.parametrize("path", ["/returned", "/stream"])
def test_endpoints_of_both_kinds_pass_on_what_another_server_makes(front: TestClient, path: str) -> None:
    events = blocks(front.post(path, json={"text": "a b"}).text)
    assert [json.loads(event["data"]) for event in events][:2] == (
        ["a", "b"] if path == "/stream" else [{"text": "a", "index": 0}, {"text": "b", "index": 0}]
    )
    assert events[-1]["event"] == "output"


def test_own_code_follows_it(front: TestClient) -> None:
    assert front.post("/followed", json={"text": "a b"}).json() == ["a", "b", "ab"]


def test_a_failure_over_there_is_a_failure_here(front: TestClient) -> None:
    answered = blocks(front.post("/stream", json={"text": "break"}).text)[-1]
    assert (answered["event"], json.loads(answered["data"])["error_type"]) == ("error", "upstream_failed")


@pytest.mark.parametrize("path", ["/returned", "/stream"])
def test_a_cancelled_job_ends_the_one_over_there(front: TestClient, path: str) -> None:
    while Origin.ended.acquire(blocking=False):
        pass
    job_id = front.post(path, json={"text": "wait"}, headers={"Prefer": "respond-async"}).json()["job_id"]
    Origin.gate.wait()
    front.post(f"/jobs/{job_id}/cancel")
    Origin.gate.opened.set()
    assert Origin.ended.acquire(timeout=WAIT_S)
    until(lambda: front.get(f"/jobs/{job_id}").json()["status"] == "cancelled")
    Origin.gate.opened.clear()


def test_a_reader_that_comes_back_gets_the_rest(front: TestClient) -> None:
    first, *others = blocks(front.post("/stream", json={"text": "a b c"}).text)
    rest = front.post("/stream", json={"text": "a b c"}, headers={"Last-Event-ID": first["id"]})
    assert blocks(rest.text) == others


class Echo:
    """A language model that says what it hears, in two tokens."""

    def chat(self, messages: Any, **sampling: Any) -> Iterator[Any]:
        return self.stream(messages[-1]["content"])

    def stream(self, prompt: Any, **sampling: Any) -> Iterator[Any]:
        if prompt == "too long":
            raise InvalidInput("messages: too long")
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        yield from ({"text": part, "index": 0} for part in (prompt[:1], prompt[1:]))
        yield {"text": prompt, "index": 0, "finish_reason": "stop", "usage": usage}


class Back(streamapp.App):
    openai = streamapp.OpenAI(text="llm", model="echo")

    def setup(self) -> None:
        self.llm = Echo()


class Before(streamapp.App):
    openai = streamapp.OpenAI(text="llm")
    url = ""

    def setup(self) -> None:
        self.llm = streamapp.Upstream(self.url)


@pytest.fixture(scope="module")
def stock() -> Iterator[openai.OpenAI]:
    with AppClient.connect(Back) as back:
        Before.url = back.url
        with AppClient.connect(Before) as before:
            with openai.OpenAI(base_url=f"{before.url}/v1", api_key="x", max_retries=0) as client:
                yield client


def test_the_stock_client_asks_a_model_behind_another_server(stock: openai.OpenAI) -> None:
    asked: Any = {"model": "before", "messages": [{"role": "user", "content": "Hello"}]}
    whole = stock.chat.completions.create(**asked)
    chunks = [*stock.chat.completions.create(**asked, stream=True)]
    assert (whole.choices[0].message.content, whole.usage and whole.usage.total_tokens) == ("Hello", 3)
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "H", "ello", None]
    assert {chunk.model for chunk in chunks} == {whole.model} == {"before"}
    assert stock.completions.create(model="before", prompt="Hi").choices[0].text == "Hi"


@pytest.mark.parametrize("streams", [False, True])
def test_what_the_server_behind_says_of_an_input_the_stock_client_raises(stock: openai.OpenAI, streams: bool) -> None:
    with pytest.raises(openai.BadRequestError, match="too long") as raised:
        stock.chat.completions.create(
            model="before", messages=[{"role": "user", "content": "too long"}], stream=streams
        )
    assert (raised.value.param, raised.value.code) == ("messages", "invalid_input")
