"""The calls of curl."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import told  # type: ignore[import-not-found]  # beside this program


class RefusedError(Exception):
    """An answer that is not 200."""

    def __init__(self, status_code: int, body: str) -> None:
        super().__init__(body)
        self.status_code = status_code


def post(path: str, body: dict[str, Any]) -> str:
    limit = ["--max-time", str(told.TIMEOUT)] if told.TIMEOUT else []
    key = f"Authorization: Bearer {os.environ['OPENAI_API_KEY']}"
    command = ["curl", "--silent", "--show-error", "--write-out", "\n%{http_code}", *limit, told.BASE_URL + path]
    done = subprocess.run([*command, "--header", key, "--json", json.dumps(body)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer, _, status = done.stdout.rpartition("\n")
    if status != "200":
        raise RefusedError(int(status), answer)
    return answer


def ask(text: str, **more: Any) -> str:
    return post("/chat/completions", {"model": told.MODEL, "messages": told.asked(text), **more})


def message(text: str, **more: Any) -> str:
    return str(json.loads(ask(text, **more))["choices"][0]["message"]["content"])


def stream() -> str:
    events = [line.removeprefix("data: ") for line in ask("stream", stream=True).splitlines() if line[:6] == "data: "]
    chunks = [json.loads(event) for event in events if event != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def embedding() -> int:
    answer = post("/embeddings", {"model": told.EMBEDDING_MODEL, "input": "embedding"})
    return len(json.loads(answer)["data"][0]["embedding"])


told.tell(
    {
        "chat": lambda: message("chat"),
        "stream": stream,
        "embedding": embedding,
        "error": lambda: message("error", **told.FAIL),
        "slow": lambda: message("slow"),
    }
)
