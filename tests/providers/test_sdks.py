"""The real SDKs with nothing changed but their base URL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest
import requests
from pydantic import BaseModel

from tests import slow_sdks as sdks
from tests.running import Stack
from tests.simulators.server import Vendors
from tests.simulators.vendor import End

if TYPE_CHECKING:
    import anthropic
    from google import genai

MESSAGES: Any = [{"role": "user", "content": "hello"}]


class Said(BaseModel):
    """A structured answer."""

    text: str


@pytest.fixture
def key(request: pytest.FixtureRequest, vendors: Vendors) -> str:
    for name in vendors.names():
        vendors[name].reset()
    return f"key-{request.node.name}"


@pytest.fixture
def claude(vendor_stack: Stack, key: str) -> Iterator[anthropic.Anthropic]:
    with sdks.anthropic.Anthropic(base_url=f"{vendor_stack.url}/anthropic", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
def gemini(vendor_stack: Stack, key: str) -> Iterator[genai.Client]:
    client = sdks.genai.Client(
        api_key=key, http_options=sdks.genai.types.HttpOptions(base_url=f"{vendor_stack.url}/gemini")
    )
    yield client
    client.close()


def test_anthropic_answers_and_mixes_models_in_one_batch(claude: anthropic.Anthropic, vendors: Vendors) -> None:
    async def ask() -> list[Any]:
        async with sdks.anthropic.AsyncAnthropic(base_url=str(claude.base_url), api_key=claude.api_key) as client:
            calls = (client.messages.create(model=f"m{n}", max_tokens=9, messages=MESSAGES) for n in range(4))
            return await asyncio.gather(*calls)

    found = asyncio.run(ask())

    assert [answer.content[0].text for answer in found] == ["echo:hello"] * 4
    assert [answer.model for answer in found] == ["m0", "m1", "m2", "m3"]
    assert found[0].usage.output_tokens == 4
    assert len(vendors["anthropic"].jobs) <= 2


def test_anthropic_streams_tools_and_thinking_as_its_events(claude: anthropic.Anthropic) -> None:
    tool: Any = {"name": "note", "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}}}
    thinking: Any = {"type": "enabled", "budget_tokens": 1024}

    with claude.messages.stream(
        model="m", max_tokens=2048, messages=MESSAGES, tools=[tool], thinking=thinking
    ) as stream:
        events = [event.type for event in stream]
        final = stream.get_final_message()

    assert events[0] == "message_start"
    assert events[-1] == "message_stop"
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use"]
    assert final.content[2].input == {"text": "hello"}  # type: ignore[union-attr]  # it is a tool's
    assert final.stop_reason == "tool_use"
    assert final.usage.input_tokens == 3


def test_anthropic_structured_output(claude: anthropic.Anthropic) -> None:
    parsed = claude.messages.parse(model="m", max_tokens=99, messages=MESSAGES, output_format=Said)

    assert parsed.parsed_output == Said(text="hello")


def test_anthropics_beta_headers_travel_with_the_batch_and_part_groups(
    claude: anthropic.Anthropic, vendors: Vendors
) -> None:
    claude.beta.messages.create(model="m", max_tokens=9, messages=MESSAGES, betas=["one-2026"])
    claude.messages.create(model="m", max_tokens=9, messages=MESSAGES)

    created = [
        headers.get("anthropic-beta")
        for method, path, _, headers in vendors["anthropic"].seen
        if (method, path[-8:]) == ("POST", "/batches")
    ]
    assert created == ["one-2026", None]


@pytest.mark.parametrize(
    ("text", "status", "kind"),
    [("fail-400", 400, "BadRequestError"), ("fail-404", 404, "NotFoundError")],
)
def test_anthropic_errors_are_raised_as_its_own(claude: anthropic.Anthropic, text: str, status: int, kind: str) -> None:
    with pytest.raises(getattr(sdks.anthropic, kind)) as caught:
        claude.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": text}])

    assert caught.value.status_code == status
    assert f"asked for {status}" in str(caught.value)


def test_what_anthropics_batches_do_not_take_is_refused_by_name(claude: anthropic.Anthropic) -> None:
    with pytest.raises(sdks.anthropic.BadRequestError, match="'speed'"):
        claude.messages.create(model="m", max_tokens=9, messages=MESSAGES, extra_body={"speed": "fast"})


def test_anthropics_other_calls_are_relayed(claude: anthropic.Anthropic, vendors: Vendors) -> None:
    listed = claude.messages.batches.list()

    assert listed.data == []
    assert vendors["anthropic"].seen[-1][:2] == ("GET", "/anthropic/v1/messages/batches")


def test_gemini_answers_streams_and_calls_tools(gemini: genai.Client, vendors: Vendors) -> None:
    tool = sdks.genai.types.Tool(
        function_declarations=[sdks.genai.types.FunctionDeclaration(name="note", description="notes")]
    )

    plain = gemini.models.generate_content(model="gemini-x", contents="hello")
    streamed = list(gemini.models.generate_content_stream(model="gemini-x", contents="streamed"))
    called = gemini.models.generate_content(
        model="gemini-x", contents="tool", config=sdks.genai.types.GenerateContentConfig(tools=[tool])
    )

    assert plain.text == "echo:hello"
    assert plain.usage_metadata
    assert plain.usage_metadata.total_token_count == 7
    assert "".join(str(chunk.text) for chunk in streamed) == "echo:streamed"
    assert called.function_calls
    assert called.function_calls[0].args == {"text": "tool"}
    assert len(vendors["gemini"].jobs) == 3


def test_gemini_async_with_structured_output(gemini: genai.Client) -> None:
    config = sdks.genai.types.GenerateContentConfig(response_mime_type="application/json", response_schema=Said)

    async def ask() -> genai.types.GenerateContentResponse:
        try:
            return await gemini.aio.models.generate_content(model="gemini-x", contents="hello", config=config)
        finally:
            await gemini.aio.aclose()

    assert asyncio.run(ask()).parsed == Said(text="hello")


def test_gemini_embeds_many_contents_in_one_call(gemini: genai.Client, vendors: Vendors) -> None:
    contents: Any = [sdks.genai.types.Content(parts=[sdks.genai.types.Part(text=text)]) for text in ("a", "bb", "ccc")]

    found = gemini.models.embed_content(model="gemini-embedding", contents=contents)

    assert found.embeddings
    assert [one.values and one.values[0] for one in found.embeddings] == [1.0, 2.0, 3.0]
    [job] = vendors["gemini"].jobs.values()
    assert len(job.lines) == 3


def test_gemini_errors_are_raised_as_its_own(gemini: genai.Client) -> None:
    with pytest.raises(sdks.genai.errors.ClientError) as caught:
        gemini.models.generate_content(model="gemini-x", contents="fail-400")

    assert caught.value.code == 400
    assert caught.value.status == "INVALID_ARGUMENT"


def test_a_model_that_gemini_does_not_batch_is_sent_at_full_price(gemini: genai.Client, vendors: Vendors) -> None:
    answer = gemini.models.generate_content(model="no-batch", contents="hello")

    assert answer.text == "echo:hello"
    assert not vendors["gemini"].jobs


def test_geminis_other_calls_are_relayed(gemini: genai.Client, vendors: Vendors) -> None:
    assert list(gemini.files.list()) == []
    assert vendors["gemini"].seen[-1][:2] == ("GET", "/gemini/v1/files")


@pytest.mark.parametrize("path", ["gemini/v1beta/openai", "groq/openai/v1", "mistral/v1"])
def test_the_openai_sdk_speaks_to_its_kin(vendor_stack: Stack, key: str, path: str) -> None:
    tool: Any = {"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}}
    with openai.OpenAI(base_url=f"{vendor_stack.url}/{path}", api_key=key, max_retries=0) as client:
        plain = client.chat.completions.create(model="m", messages=MESSAGES)
        called = client.chat.completions.create(model="m", messages=MESSAGES, tools=[tool])
        parsed = client.chat.completions.parse(model="m", messages=MESSAGES, response_format=Said)
        streamed = list(client.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        with pytest.raises(openai.BadRequestError, match="asked for 400"):
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "fail-400"}])

    assert plain.choices[0].message.content == "echo:hello"
    assert called.choices[0].message.tool_calls
    assert parsed.choices[0].message.parsed == Said(text="hello")
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == "echo:hello"


@pytest.mark.parametrize("path", ["gemini/v1beta/openai", "mistral/v1"])
def test_the_openai_sdk_embeds_through_its_kin(vendor_stack: Stack, key: str, path: str) -> None:
    async def embed() -> Any:
        async with openai.AsyncOpenAI(base_url=f"{vendor_stack.url}/{path}", api_key=key) as client:
            return await client.embeddings.create(model="m", input=["a", "bb"], encoding_format="float")

    assert [one.embedding[0] for one in asyncio.run(embed()).data] == [1.0, 2.0]


def test_azures_sdk_speaks_to_a_deployment(vendor_stack: Stack, key: str, vendors: Vendors) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=f"{vendor_stack.url}/azure-classic", api_key=key, api_version="2024-10-21", max_retries=0
    ) as client:
        answer = client.chat.completions.create(model="deployed", messages=MESSAGES)

    assert answer.choices[0].message.content == "echo:hello"
    [job] = vendors["azure-classic"].jobs.values()
    assert job.lines[0].body["model"] == "deployed"
    assert {query for _, _, query, _ in vendors["azure-classic"].seen} == {"api-version=2024-10-21"}


def test_a_deployment_in_the_path_is_the_model_and_part_of_what_is_asked(
    vendor_stack: Stack, vendors: Vendors, key: str
) -> None:
    def client(deployment: str) -> openai.AzureOpenAI:
        return openai.AzureOpenAI(
            azure_endpoint=f"{vendor_stack.url}/azure-classic", azure_deployment=deployment, api_key=key,
            api_version="2024-10-21", max_retries=0,
        )  # fmt: skip

    headers = {"Idempotency-Key": "once"}
    with client("dep-a") as one, client("dep-b") as other:
        said = one.chat.completions.create(model="gpt-4o", messages=MESSAGES, extra_headers=headers)
        with pytest.raises(openai.UnprocessableEntityError):
            other.chat.completions.create(model="gpt-4o", messages=MESSAGES, extra_headers=headers)

    assert said.choices[0].message.content == "echo:hello"
    assert [line.body["model"] for job in vendors["azure-classic"].jobs.values() for line in job.lines] == ["dep-a"]


def test_a_late_error_is_an_event_on_which_anthropics_sdk_raises(claude: anthropic.Anthropic, vendors: Vendors) -> None:
    vendors["anthropic"].ends.append(End(hold=3))
    asked: Any = [{"role": "user", "content": "fail-400"}]

    with pytest.raises(sdks.anthropic.APIStatusError, match="asked for 400") as caught:  # it hears from us after 0.8 s
        list(claude.with_options(timeout=1).messages.create(model="m", max_tokens=9, stream=True, messages=asked))

    assert caught.value.response.status_code == 200


def test_geminis_sdk_bears_signs_of_life_and_raises_on_a_late_error(gemini: genai.Client, vendors: Vendors) -> None:
    vendors["gemini"].ends += [End(hold=3), End(hold=3)]
    soon = sdks.genai.types.GenerateContentConfig(
        http_options=sdks.genai.types.HttpOptions(headers={"x-stainless-read-timeout": "1"})
    )

    streamed = gemini.models.generate_content_stream(model="gemini-x", contents="slow", config=soon)
    assert [chunk.text for chunk in streamed] == ["echo:slow"]
    with pytest.raises(sdks.genai.errors.ClientError, match="asked for 400"):
        list(gemini.models.generate_content_stream(model="gemini-x", contents="fail-400", config=soon))


def test_googles_key_may_stand_in_the_query(vendor_stack: Stack, key: str, vendors: Vendors) -> None:
    answer = requests.post(
        f"{vendor_stack.url}/gemini/v1beta/models/m:generateContent",
        params={"key": key},
        json={"contents": [{"parts": [{"text": "hello"}]}]},
        timeout=60,
    )

    assert answer.json()["candidates"][0]["content"]["parts"] == [{"text": "echo:hello"}]
    [created] = [headers for _, path, _, headers in vendors["gemini"].seen if path.endswith(":batchGenerateContent")]
    assert created["x-goog-api-key"] == key


@pytest.mark.parametrize("wrong", ["a\nb", "schlüssel"])
def test_a_key_that_no_header_holds_is_refused(vendor_stack: Stack, wrong: str) -> None:
    answer = requests.post(
        f"{vendor_stack.url}/gemini/v1beta/models/m:generateContent", params={"key": wrong}, json={}, timeout=10
    )

    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_a_provider_without_an_address_is_closed(vendor_stack: Stack, key: str) -> None:
    """Its path leads nowhere, and not to somebody else's upstream."""
    answer = requests.post(f"{vendor_stack.url}/closed/v1/chat/completions", json={}, timeout=10)

    assert answer.status_code == 404
    assert "base_url" in answer.json()["error"]["message"]
