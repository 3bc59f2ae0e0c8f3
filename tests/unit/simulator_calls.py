"""Calls of one caller to a simulator, as the simulator's own tests make them."""

from __future__ import annotations

import json
from typing import Any

import requests

from tests.simulator.server import Simulator

CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer sk-alice"}


def call(upstream: Simulator, call: str, headers: dict[str, Any] = KEY, **more: Any) -> requests.Response:
    """Send one request, given as "METHOD /path"."""
    method, path = call.split(" ", 1)
    timeout = more.pop("timeout", 30)
    return requests.request(method, upstream.url + path, headers=headers, timeout=timeout, **more)


def line(custom_id: str, text: str = "hi", *, url: str = CHAT, **body: Any) -> str:
    """An input line; keywords go into its body."""
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": text}]} | body
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def ten(**body: Any) -> list[str]:
    """Ten lines."""
    return [line(f"r{index}", f"{index}", **body) for index in range(10)]


def upload(upstream: Simulator, content: str | bytes) -> str:
    """Upload a batch's input file and return its id."""
    files = {"file": ("in.jsonl", content)}
    return str(call(upstream, "POST /v1/files", files=files, data={"purpose": "batch"}).json()["id"])


def create(upstream: Simulator, *lines: str | bytes, **more: Any) -> dict[str, Any]:
    """Upload lines and create a batch of them."""
    content = b"\n".join(text.encode() if isinstance(text, str) else text for text in lines)
    body = {"input_file_id": upload(upstream, content), "endpoint": CHAT, "completion_window": "24h", **more}
    answer = call(upstream, "POST /v1/batches", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def look(upstream: Simulator, batch: dict[str, Any]) -> dict[str, Any]:
    """The batch as it is now."""
    return dict(call(upstream, f"GET /v1/batches/{batch['id']}").json())


def finished(upstream: Simulator, *lines: str | bytes) -> dict[str, Any]:
    """A batch of these lines after its usual time."""
    batch = create(upstream, *lines)
    upstream.advance(10)
    return look(upstream, batch)


def download(upstream: Simulator, file_id: str) -> list[dict[str, Any]]:
    """The lines of an output or error file."""
    return [json.loads(text) for text in call(upstream, f"GET /v1/files/{file_id}/content").content.splitlines()]
