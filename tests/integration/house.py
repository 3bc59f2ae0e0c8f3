"""A stack with access tokens over one upstream key, for the tests of who gets in and how much each may have."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests import running
from tests.running import Stack, until
from tests.simulator.server import Simulator, serve

CHAT = "/v1/chat/completions"
WEB_PROCESSES = 2
READ = "access tokens were read"
UPSTREAM_KEY = "sk-of-the-organisation"
#: Providers that would be served by the same upstream, if anything came through.
ELSEWHERE = ("anthropic", "azure", "gemini", "gemini-openai", "groq")


@dataclass
class House:
    """A stack with a token file."""

    stack: Stack
    upstream: Simulator
    redis: Any
    file: Path

    def write(self, *lines: str) -> None:
        """Put the file's lines, and wait until every web process has read them; each looks when it is asked."""
        before = self.stack.processes["web"].text().count(READ)
        draft = self.file.with_suffix(".draft")
        draft.write_text("\n".join([line_of(f"probe-{time.monotonic_ns()}", "probe"), *lines]) + "\n")
        draft.rename(self.file)
        with ThreadPoolExecutor(8) as pool:
            until(
                lambda: (
                    list(pool.map(self.get, ["nobody"] * 8))
                    and self.stack.processes["web"].text().count(READ) - before == WEB_PROCESSES
                ),
                "each process has read the new file",
            )

    def get(self, token: str, path: str = "/v1/models") -> requests.Response:
        return requests.get(self.stack.url + path, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def post(self, token: str, content: str = "hi", model: str = "m", **headers: str) -> requests.Response:
        body = {"model": model, "messages": [{"role": "user", "content": content}]}
        return requests.post(
            self.stack.url + CHAT, json=body, headers={"Authorization": f"Bearer {token}", **headers}, timeout=60
        )


def line_of(token: str, label: str, limits: str = "") -> str:
    return f"{label} {hashlib.sha256(token.encode()).hexdigest()} {limits}"


@contextlib.contextmanager
def opened() -> Iterator[House]:
    """One for a `with`."""
    with (
        running.redis_server() as server,
        serve(validate_delay=0.1, batch_delay=0.3, finalize_delay=0.1) as upstream,
        running.short_directory() as directory,
    ):
        file = directory / "tokens"
        file.write_text(line_of("first", "first") + "\n")
        providers = directory / "providers.toml"
        providers.write_text("".join(f'[{name}]\nbase_url = "{upstream.url}"\n' for name in ELSEWHERE))
        with running.running_stack(
            server.url,
            upstream.url,
            LLM_PROXY_ACCESS_TOKENS_FILE=str(file),
            LLM_PROXY_UPSTREAM_KEY=UPSTREAM_KEY,
            LLM_PROXY_WEB_PROCESSES=str(WEB_PROCESSES),
            LLM_PROXY_PROVIDERS_FILE=str(providers),
        ) as stack:
            until(lambda: stack.processes["web"].text().count(READ) == WEB_PROCESSES, "each process has read the file")
            yield House(stack, upstream, server.client, file)
