"""A batch can be followed through the logs, and neither key nor prompt stands in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from tests import running
from tests.running import Stack, until
from tests.simulator.server import Simulator


@pytest.fixture(params=["text", "json"])
def logging_stack(request: pytest.FixtureRequest, upstream: Simulator) -> Iterator[Stack]:
    """A stack that logs in one of the formats, and whose work nobody else does."""
    with (
        running.redis_server() as server,
        running.running_stack(server.url, upstream.url, LLM_PROXY_LOG_FORMAT=request.param) as made,
    ):
        made.variables["format"] = request.param
        yield made


def lines(stack: Stack) -> list[dict[str, Any]]:
    """Every line of ours of every process, read as its format says."""
    found = []
    for text in stack.logs().splitlines():
        if stack.variables["format"] == "json" and text.startswith("{"):
            found.append(json.loads(text))
        elif stack.variables["format"] == "text":
            pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', text)
            found.append({name: json.loads(value) if value.startswith('"') else value for name, value in pairs})
    return found


def answers(stack: Stack, **wanted: str) -> list[dict[str, Any]]:
    """Lines of the access log."""
    ours = [one for one in lines(stack) if one.get("logger") == "web.access"]
    return [one for one in ours if all(str(one.get(name)) == value for name, value in wanted.items())]


def test_from_the_callers_name_for_a_request_to_all_that_became_of_its_batch(
    logging_stack: Stack, api_key: str
) -> None:
    form = logging_stack.variables["format"]
    names = {"x-request-id": f"job-7-{form}", "traceparent": f"00-{'4b' * 16}-{'a' * 16}-01"}
    with openai.OpenAI(base_url=f"{logging_stack.url}/v1", api_key=api_key) as sdk:
        raw = sdk.chat.completions.with_raw_response.create(
            model=f"logged-{form}", messages=[{"role": "user", "content": "a secret prompt"}], extra_headers=names
        )
    until(lambda: answers(logging_stack, request_id=names["x-request-id"]), "its answer is in the access log")
    until(lambda: [one for one in lines(logging_stack) if str(one.get("msg")).startswith("done")], "it is done")

    [answered] = answers(logging_stack, request_id=names["x-request-id"])
    assert answered["id"] == raw.headers["x-batch-task-id"]
    assert answered["batch"] == raw.headers["x-batch-id"]
    assert answered["trace"] == "4b" * 16
    assert (answered["msg"], answered["method"], answered["path"]) == ("answered", "POST", "/v1/chat/completions")
    assert (int(answered["status"]), int(answered["bytes"])) == (200, len(raw.content))
    assert int(answered["ms"]) >= int(raw.headers["x-batch-wait-ms"])
    seen = lines(logging_stack)
    [submitted] = [one for one in seen if answered["batch"] in str(one.get("msg"))]
    changes = [str(one["msg"]) for one in seen if one.get("id") == submitted["id"]]
    for state in ("claimed", "uploading", "creating", "submitted", "ended", "delivering", "cleaning", "done"):
        assert [text for text in changes if re.match(rf"{state}\b", text)], state
    assert "secret" not in logging_stack.logs()
    assert api_key not in logging_stack.logs()


@pytest.fixture
def impatient(own_upstream: Simulator) -> Iterator[Stack]:
    """A stack that keeps its clients alive from the first second on."""
    with (
        running.redis_server() as server,
        running.running_stack(
            server.url,
            own_upstream.url,
            LLM_PROXY_HEARTBEAT_AFTER_SECONDS="0.5",
            LLM_PROXY_HEARTBEAT_SECONDS="0.5",
        ) as made,
    ):
        made.variables["format"] = "text"
        yield made


def test_each_answer_is_one_line_however_it_ends(impatient: Stack, own_upstream: Simulator, api_key: str) -> None:
    own_upstream.configure(ends=[{"model": "late", "stuck": "in_progress"}, {"model": "bad", "stuck": "in_progress"}])
    url, head = f"{impatient.url}/v1/chat/completions", {"Authorization": f"Bearer {api_key}"}

    def post(model: str, name: str) -> requests.Response:
        body = {"model": model, "messages": [{"role": "user", "content": "a secret prompt"}]}
        if name == "failing":
            body["user"] = "fail-400"
        return requests.post(url, json=body, headers={**head, "x-request-id": name}, timeout=60, stream=True)

    late, failing, leaving = (post(model, name) for model, name in (
        ("late", "late"), ("bad", "failing"), ("late", "leaving")
    ))  # fmt: skip
    leaving.close()
    until(lambda: answers(impatient, request_id="leaving"), "it is seen that the client has gone")
    own_upstream.finish()
    assert late.json()["choices"]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        failing.content  # noqa: B018 - reads it
    relayed = requests.get(f"{impatient.url}/v1/models?hush=hush", headers={**head, "x-request-id": "r"}, timeout=10)
    refused = requests.post(url, headers={"x-request-id": "refused"}, timeout=10)
    requests.get(f"{impatient.url}/healthz", headers={"x-request-id": "check"}, timeout=10)
    requests.get(f"{impatient.url}/stats", headers={"x-request-id": "not a name\n"[:-1]}, timeout=10)

    written = ("/stats", "/v1/models", "/v1/chat/completions")  # by either process, each in its own time
    until(lambda: sum(len(answers(impatient, path=path)) for path in written) == 6, "all are written")
    ends = {
        name: [(one["msg"], int(one["status"])) for one in answers(impatient, request_id=name)]
        for name in ("late", "failing", "leaving", "r", "refused", "check")
    }
    assert ends == {
        "late": [("answered", 200)],
        "failing": [("broken off", 400)],
        "leaving": [("client gone", 200)],
        "r": [("relayed", relayed.status_code)],
        "refused": [("answered", refused.status_code)],
        "check": [],  # no news
    }
    [one] = answers(impatient, request_id="late")
    assert one["batch"].startswith("batch_")  # although no header could say so any more
    assert answers(impatient, request_id="r")[0]["path"] == "/v1/models"
    assert "request_id" not in answers(impatient, path="/stats")[-1]
    until(lambda: requests.get(f"{impatient.url}/stats", timeout=10).json()["heartbeats"] == 3, "three are counted")
    logs = impatient.logs()
    assert not [secret for secret in ("hush", "a secret prompt", api_key) if secret in logs]
