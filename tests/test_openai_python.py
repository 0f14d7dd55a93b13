"""OpenAI's own client for Python, `openai`, unmodified, against a server of ours."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests import processes
from tests.waiting import WAIT_S

APP = Path(__file__).parent / "apps" / "openai_text.py"
MODEL, KEY = "tiny/stories", "secret"
MESSAGES: Any = [{"role": "user", "content": "hi"}]
TEXT = "Once upon a time."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    variables = {"STREAMAPP_API_KEY": KEY, "STREAMAPP_MAX_QUEUE": "1", "STREAMAPP_MAX_BODY_BYTES": "100000"}
    with processes.serving(f"{APP}:OpenaiText", env={**os.environ, **variables}) as (url, _):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def asked(url: str, path: str = "/asked") -> Any:
    """Return what the app says of its model."""
    answer = httpx.post(url + path, json={}, headers={"Authorization": f"Bearer {KEY}"}, timeout=WAIT_S)
    return answer.raise_for_status().json()


def test_a_conversation_is_answered(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    [choice] = told.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", TEXT, "stop")
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (1, 4, 5)
    assert (told.model, told.object, told.id) == (MODEL, "chat.completion", f"chatcmpl-{told._request_id}")


def test_a_conversation_is_streamed(client: openai.OpenAI) -> None:
    chunks = [*client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[1:-1]] == ["Once ", "upon ", "a ", "time."]
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)


async def test_an_async_client_is_streamed_to(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT


def test_the_accumulating_helper_of_the_client_reads_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, n=2) as stream:
        final = stream.get_final_completion()
    assert [choice.message.content for choice in final.choices] == [TEXT, TEXT]


def test_usage_is_the_last_chunk_where_it_is_asked_for(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    *_, last = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, stream_options=options)
    assert last.choices == []
    assert last.usage is not None and last.usage.total_tokens == 5


def test_logprobs_come_with_their_bytes(client: openai.OpenAI) -> None:
    told = client.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=True, top_logprobs=2)
    assert told.choices[0].logprobs is not None and told.choices[0].logprobs.content is not None
    first = told.choices[0].logprobs.content[0]
    assert (first.token, first.logprob, first.bytes) == ("Once ", -0.5, [*b"Once "])
    assert [top.logprob for top in first.top_logprobs] == [-0.5, -1.5]


def test_logprobs_of_a_stream_come_with_their_tokens(client: openai.OpenAI) -> None:
    chunks = [*client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True, logprobs=True)]
    told = [entry.token for c in chunks if (said := c.choices[0].logprobs) is not None for entry in said.content or ()]
    assert told == ["Once ", "upon ", "a ", "time."]


def test_prompts_are_gone_on_with(client: openai.OpenAI) -> None:
    told = client.completions.create(model=MODEL, prompt=["a", "bc"], n=2, echo=True)
    assert [choice.text for choice in told.choices] == ["a" + TEXT, "a" + TEXT, "bc" + TEXT, "bc" + TEXT]
    assert [choice.index for choice in told.choices] == [0, 1, 2, 3]
    assert told.usage is not None and (told.usage.prompt_tokens, told.usage.completion_tokens) == (3, 16)


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2, 3]]])
def test_a_prompt_may_be_token_ids(client: openai.OpenAI, url: str, prompt: Any) -> None:
    assert client.completions.create(model=MODEL, prompt=prompt).choices[0].text == TEXT
    assert asked(url)[0] == [1, 2, 3]


def test_a_completion_is_streamed_with_what_it_goes_on_from(client: openai.OpenAI) -> None:
    chunks = [*client.completions.create(model=MODEL, prompt="So ", stream=True, echo=True, max_tokens=2)]
    assert [chunk.choices[0].text for chunk in chunks] == ["So Once ", "upon ", ""]
    assert chunks[-1].choices[0].finish_reason == "length"


def test_logprobs_of_a_completion_have_their_old_shape(client: openai.OpenAI) -> None:
    logprobs = client.completions.create(model=MODEL, prompt="a", logprobs=1, max_tokens=2).choices[0].logprobs
    assert logprobs is not None
    assert (logprobs.tokens, logprobs.text_offset) == (["Once ", "upon "], [0, 5])
    assert logprobs.top_logprobs == [{"Once ": -0.5}, {"upon ": -0.5}]


def test_what_is_said_of_sampling_comes_to_the_model(client: openai.OpenAI, url: str) -> None:
    client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        max_completion_tokens=2,
        temperature=0,
        top_p=0.5,
        presence_penalty=1,
        frequency_penalty=-1,
        logit_bias={"7": -100},
        seed=3,
        stop=["x"],
        user="me",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        extra_body={"top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1, "unknown": 1},
    )
    _, sampling = asked(url)
    assert sampling.pop("logit_bias") == {"7": -100}
    assert sampling == {
        **{"max_tokens": 2, "temperature": 0, "top_p": 0.5, "top_k": 0, "min_p": 0.1, "seed": 3, "stop": ["x"]},
        **{"presence_penalty": 1, "frequency_penalty": -1, "repetition_penalty": 1.1, "tools": []},
    }


def test_messages_of_all_kinds_come_to_the_model(client: openai.OpenAI, url: str) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    messages: Any = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "name": "Ann", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "c"},
    ]
    client.chat.completions.create(model=MODEL, messages=messages)
    system, user, assistant, tool = asked(url)[0]
    assert system == {"role": "system", "content": "be kind"}
    assert user == {"role": "user", "name": "Ann", "content": "ab"}
    assert assistant["tool_calls"] == calls
    assert tool["tool_call_id"] == "1"


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "streamapp"


@pytest.mark.parametrize("base", ["/tiny-app/v1", "/v2/tiny-app/openai/v1"])
def test_an_app_answers_at_addresses_of_its_own(client: openai.OpenAI, url: str, base: str) -> None:
    with client.with_options(base_url=url + base) as own:
        assert own.chat.completions.create(model=MODEL, messages=MESSAGES).choices[0].message.content == TEXT
        assert [model.id for model in own.models.list()] == [MODEL]


def test_another_model_is_not_found_and_the_one_there_is_named(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match=MODEL) as refusal:
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)
    assert (refusal.value.code, refusal.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o-mini")


def test_a_wrong_key_is_an_authentication_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.AuthenticationError) as refusal:
        client.with_options(api_key="wrong").models.list()
    assert refusal.value.code == "invalid_api_key"


REFUSED = [
    ("temperature", {"temperature": "hot"}),
    ("temperature", {"temperature": 2.5}),
    ("n", {"n": 0}),
    ("max_tokens", {"max_tokens": True}),
    ("top_logprobs", {"top_logprobs": 2}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("tool_choice", {"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}),
    ("modalities", {"modalities": ["text", "audio"]}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("logit_bias.7", {"logit_bias": {"7": 101}}),
    ("messages", {"messages": []}),
    ("messages.0.role", {"messages": [{"role": "king", "content": "hi"}]}),
    ("messages.0.content.0", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
]


@pytest.mark.parametrize(("param", "body"), REFUSED)
def test_what_cannot_be_honoured_is_refused_by_its_name(client: openai.OpenAI, param: str, body: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.post("/chat/completions", body={"model": MODEL, "messages": MESSAGES, **body}, cast_to=object)
    assert refusal.value.param == param
    assert refusal.value.type == "invalid_request_error"


def test_what_the_model_refuses_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.completions.create(model=MODEL, prompt="too long")
    assert refusal.value.param == "prompt"
    assert client.completions.create(model=MODEL, prompt="a").choices[0].text == TEXT


def test_a_failure_is_no_reason_to_run_the_job_again(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.InternalServerError):
        client.with_options(max_retries=2).completions.create(model=MODEL, prompt="fail")
    client.completions.create(model=MODEL, prompt="a")
    assert [job["prompt"] for job in asked(url, "/prompts")][-2:] == ["fail", "a"]


def test_a_failure_in_the_midst_of_a_stream_is_raised(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="RuntimeError"):
        [*client.completions.create(model=MODEL, prompt="fail later", stream=True)]


def test_a_body_that_is_too_large_is_told_as_openai_does(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refusal:
        client.completions.create(model=MODEL, prompt="a" * 200_000)
    assert (refusal.value.status_code, refusal.value.code) == (413, "payload_too_large")


def test_a_client_that_leaves_ends_its_job_and_nobody_elses(client: openai.OpenAI, url: str) -> None:
    closed = asked(url, "/counts")["closed"]
    stream = client.completions.create(model=MODEL, prompt="for ever", stream=True)
    next(iter(stream))
    stream.close()
    counts = asked(url, "/counts")  # which stands behind it in the queue
    assert counts["closed"] == closed + 1
    assert asked(url, "/counts") == counts


def test_a_queue_that_is_full_is_a_rate_limit(client: openai.OpenAI) -> None:
    with client.completions.create(model=MODEL, prompt="for ever", stream=True) as running:
        next(iter(running))
        with client.completions.with_streaming_response.create(model=MODEL, prompt="for ever", stream=True) as waiting:
            with pytest.raises(openai.RateLimitError) as refusal:
                client.completions.create(model=MODEL, prompt="a")
            assert refusal.value.code == "rate_limit_exceeded"
            assert "retry-after" in refusal.value.response.headers
            waiting.close()
