"""The whole road: real SDK, real front, real Redis, real workers, an upstream over HTTP."""

from __future__ import annotations

import concurrent.futures
import time

import openai
import pytest
import requests

from tests.running import Stack, until
from tests.simulator.server import Simulator


def ask(client: openai.OpenAI, content: str, model: str = "gpt-6-luna") -> str | None:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": content}])
    return answer.choices[0].message.content


def batches_of(upstream: Simulator, model: str) -> list[dict[str, object]]:
    return [batch for batch in upstream.stats()["batches"] if batch["model"] == model]


def test_many_callers_get_their_own_answers_from_few_batches(client: openai.OpenAI, upstream: Simulator) -> None:
    questions = [f"question {n}" for n in range(100)]

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda q: ask(client, q, "many"), questions))

    assert answers == [f"echo:{q}" for q in questions]
    made = batches_of(upstream, "many")
    assert sum(int(str(batch["lines"])) for batch in made) == 100
    assert len(made) <= 3


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_request_that_the_upstream_refuses_comes_back_with_its_status_and_body(
    client: openai.OpenAI, status: int
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client.with_options(max_retries=0), "no", f"fail-{status}")

    assert caught.value.status_code == status
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]
    assert caught.value.response.headers["x-batch-lane"] == "batch"


def test_models_keys_and_endpoints_travel_in_batches_of_their_own(
    stack: Stack, upstream: Simulator, api_key: str
) -> None:
    keys = [f"{api_key}-1", f"{api_key}-2"]

    def call(case: tuple[str, str, str]) -> str:
        key, model, endpoint = case
        with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key) as sdk:
            if endpoint == "chat":
                return str(ask(sdk, "hello", model))
            return str(len(sdk.embeddings.create(model=model, input=["a", "b"]).data))

    cases = [(key, model, endpoint) for key in keys for model in ("alone-1", "alone-2") for endpoint in ("chat", "emb")]
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        answers = list(pool.map(call, cases))

    assert answers == ["echo:hello" if endpoint == "chat" else "2" for _, _, endpoint in cases]
    made = [*batches_of(upstream, "alone-1"), *batches_of(upstream, "alone-2")]
    assert [batch["lines"] for batch in made] == [1] * len(cases)


def test_a_wrong_key_gets_the_upstreams_401(stack: Stack) -> None:
    began = time.monotonic()
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="bad-key") as sdk, pytest.raises(openai.AuthenticationError):
        ask(sdk, "hello")

    assert time.monotonic() - began < float(stack.variables["LLM_PROXY_MAX_HOLD_SECONDS"]) + 2


def test_the_reply_says_how_it_travelled(client: openai.OpenAI, upstream: Simulator) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="headers", messages=[{"role": "user", "content": "hello"}]
    )

    [batch] = batches_of(upstream, "headers")
    assert raw.headers["x-batch-id"] == batch["id"]
    assert raw.headers["x-batch-lane"] == "batch"
    assert int(raw.headers["x-batch-wait-ms"]) > 0
    assert len(raw.headers["x-batch-task-id"]) == 32
    assert raw.headers["x-request-id"] == raw.parse()._request_id


ODD_BODY = (
    b'{"model": "odd",  "messages":[{"role":"user","content":"\xc3\xa9 \\u2028 a  b"}], '
    b'"big":9007199254740993, "one":1.0, "huge":1e400, "unknown_field": [ 1, 2 ]}'
)


def test_the_bodys_bytes_reach_the_upstreams_line_unchanged(stack: Stack, upstream: Simulator, api_key: str) -> None:
    answer = requests.post(
        f"{stack.url}/v1/chat/completions",
        data=ODD_BODY,
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
        timeout=60,
    )

    assert answer.status_code == 200
    [batch] = batches_of(upstream, "odd")
    [line] = upstream.lines(str(batch["id"]))
    assert ODD_BODY in line


def test_a_body_of_several_lines_becomes_one_line_with_the_same_values(
    stack: Stack, upstream: Simulator, api_key: str
) -> None:
    body = (
        b'{\n "model": "lines",\r\n "messages": [{"role": "user", "content": "a  b"}],\n "big": 9007199254740993\n}\n'
    )
    answer = requests.post(
        f"{stack.url}/v1/chat/completions", data=body, headers={"Authorization": f"Bearer {api_key}"}, timeout=60
    )

    assert answer.json()["choices"][0]["message"]["content"] == "echo:a  b"
    [batch] = batches_of(upstream, "lines")
    [line] = upstream.lines(str(batch["id"]))
    assert b'{"model":"lines","messages":[{"role":"user","content":"a  b"}],"big":9007199254740993}' in line


def test_the_upstreams_files_are_deleted_after_delivery(client: openai.OpenAI, upstream: Simulator) -> None:
    of_others = set(upstream.stats()["files"])

    ask(client, "hello", "tidy")

    until(lambda: set(upstream.stats()["files"]) <= of_others, "no file is left")


@pytest.mark.parametrize("endpoint", ["chat", "responses", "completions", "moderations", "embeddings"])
def test_every_batched_endpoint_answers(client: openai.OpenAI, endpoint: str, upstream: Simulator) -> None:
    if endpoint == "chat":
        assert ask(client, "hi", "every-chat") == "echo:hi"
    elif endpoint == "responses":
        assert client.responses.create(model="every-responses", input="hi").output_text == "echo:hi"
    elif endpoint == "completions":
        assert client.completions.create(model="every-completions", prompt="hi").choices[0].text == "echo:hi"
    elif endpoint == "moderations":
        assert client.moderations.create(model="every-moderations", input="hi").results
    else:
        assert len(client.embeddings.create(model="every-embeddings", input=["a", "b", "c"]).data) == 3
    assert len(batches_of(upstream, f"every-{endpoint}")) == 1
