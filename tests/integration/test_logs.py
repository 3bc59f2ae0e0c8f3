"""A batch can be followed through the logs, and neither key nor prompt stands in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests import running
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator


@pytest.fixture(params=["text", "json"])
def logging_stack(request: pytest.FixtureRequest, redis_server: RedisServer, upstream: Simulator) -> Iterator[Stack]:
    """A stack that logs in one of the formats."""
    with running.running_stack(redis_server.url, upstream.url, LLM_PROXY_LOG_FORMAT=request.param) as made:
        made.variables["format"] = request.param
        yield made


def lines(stack: Stack) -> list[dict[str, Any]]:
    """Every line of every process, read as its format says."""
    found = []
    for text in stack.logs().splitlines():
        if stack.variables["format"] == "json" and text.startswith("{"):
            found.append(json.loads(text))
        elif stack.variables["format"] == "text":
            pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', text)
            found.append({name: json.loads(value) if value.startswith('"') else value for name, value in pairs})
    return found


def test_from_a_reply_to_all_that_became_of_its_batch(logging_stack: Stack, api_key: str) -> None:
    model = f"logged-{logging_stack.variables['format']}"
    with openai.OpenAI(base_url=f"{logging_stack.url}/v1", api_key=api_key) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": "a secret prompt"}]
        )
    upstream_id = raw.headers["x-batch-id"]

    until(lambda: [one for one in lines(logging_stack) if str(one.get("msg")).startswith("done")], "it is done")
    seen = lines(logging_stack)
    [submitted] = [one for one in seen if upstream_id in str(one.get("msg"))]
    changes = [str(one["msg"]) for one in seen if one.get("id") == submitted["id"]]
    for state in ("claimed", "uploading", "creating", "submitted", "ended", "delivering", "cleaning", "done"):
        assert [text for text in changes if re.match(rf"{state}\b", text)], state
    assert "secret" not in logging_stack.logs()
    assert api_key not in logging_stack.logs()
