"""A request can be followed through the logs by the caller's own id, and neither key nor prompt stands in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from tests import running
from tests.integration.test_pipeline import ask
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLERS = {"x-request-id": "job-17/item 4".replace(" ", "-"), "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


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


def test_one_request_from_the_callers_id_to_its_batch(logging_stack: Stack, api_key: str) -> None:
    model = f"logged-{logging_stack.variables['format']}"
    with openai.OpenAI(base_url=f"{logging_stack.url}/v1", api_key=api_key, default_headers=CALLERS) as sdk:
        assert ask(sdk, "a secret prompt", model) == "echo:a secret prompt"
    requests.get(f"{logging_stack.url}/healthz", timeout=10)

    until(lambda: [one for one in lines(logging_stack) if one.get("msg") == "answered"], "it is logged")
    seen = lines(logging_stack)
    [came] = [one for one in seen if one.get("msg") == "comes"]
    [answered] = [one for one in seen if one.get("msg") == "answered" and "lane" in one]
    assert came["id"] == answered["id"]
    assert (came["request_id"], came["trace"]) == (CALLERS["x-request-id"], TRACE)
    assert (answered["request_id"], answered["trace"]) == (CALLERS["x-request-id"], TRACE)
    assert (str(answered["status"]), answered["path"]) == ("200", "/v1/chat/completions")
    upstream_id = answered["batch"]
    [submitted] = [one for one in seen if upstream_id in str(one.get("msg"))]
    changes = [str(one["msg"]) for one in seen if one.get("id") == submitted["id"]]
    for state in ("claimed", "uploading", "creating", "submitted", "ended", "delivering", "cleaning", "done"):
        assert [text for text in changes if re.match(rf"{state}\b", text)], state
    assert not [one for one in seen if one.get("path") == "/healthz"]
    assert "secret" not in logging_stack.logs()
    assert api_key not in logging_stack.logs()
