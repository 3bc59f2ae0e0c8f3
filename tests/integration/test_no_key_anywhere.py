"""After a run full of failures no key, no token and, but for Redis, no prompt is found anywhere people look."""

from __future__ import annotations

import base64
import contextlib
import secrets
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import running
from tests.integration.house import line_of
from tests.integration.test_pipeline import batches_of
from tests.ports import free_port
from tests.providers.conftest import own_file
from tests.running import Process, RedisServer, Stack, until
from tests.simulator.server import Simulator, serve
from tests.simulators import server as simulators

CHAT = "/v1/chat/completions"
#: Of the front, what shows how it goes. Whoever adds such a page adds it here.
PATHS = ("/stats", "/stats?by=credential", "/metrics", "/dashboard", "/dashboard/figures", "/healthz", "/readyz")
FLOWER = (
    "/api/tasks?limit=10000", "/api/workers?refresh=1", "/api/queues/length", "/tasks", "/workers", "/broker"
)  # fmt: skip


@dataclass
class Scene:
    """A stack that says all it can say, with Flower beside it."""

    stack: Stack
    upstream: Simulator
    redis: Any
    flower: Process
    flower_url: str
    key: str  # what callers bring
    bad: str  # the same, refused by the upstream or by us
    elsewhere: str  # what they bring to other providers
    abroad: set[int]  # the statuses of that
    secrets: list[str] = field(repr=False)

    def post_elsewhere(self, path: str, prompt: str, header: str = "") -> requests.Response:
        """To another provider, the key in a header or, without one, in the query."""
        body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}
        if path.startswith("/gemini/"):
            body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}
        headers = {header: self.elsewhere} if header else {}
        url = self.stack.url + path + ("" if header else f"?key={self.elsewhere}")
        return requests.post(url, json=body, headers=headers, timeout=60)

    def post(self, key: str, prompt: str, model: str, **headers: str) -> requests.Response:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        return requests.post(
            self.stack.url + CHAT, json=body, headers={"Authorization": f"Bearer {key}", **headers}, timeout=60
        )


def secret(prefix: str = "sk-") -> str:
    return prefix + secrets.token_hex(24)


@pytest.fixture(params=["a key of one's own", "an access token"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    variables: dict[str, Any] = {"LLM_PROXY_LOG_LEVEL": "DEBUG", "LLM_PROXY_REQUEST_DEADLINE_SECONDS": "40"}
    key, bad, of_house, elsewhere = secret(), secret("sk-bad-"), secret(), secret()
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(running.redis_server())
        upstream = opened.enter_context(serve(validate_delay=0.1, batch_delay=0.2, finalize_delay=0.1))
        directory = opened.enter_context(running.short_directory())
        vendors = opened.enter_context(simulators.serve())
        (directory / "providers.toml").write_text(own_file(vendors, "openai"))
        variables["LLM_PROXY_PROVIDERS_FILE"] = str(directory / "providers.toml")
        if request.param == "an access token":
            (directory / "tokens").write_text(line_of(key, "caller", "requests_per_minute=100") + "\n")
            variables |= {
                "LLM_PROXY_ACCESS_TOKENS_FILE": str(directory / "tokens"),
                "LLM_PROXY_UPSTREAM_KEY": of_house,
            }
        stack = opened.enter_context(running.running_stack(server.url, upstream.url, **variables))
        flower, url = _flower(stack, directory)
        opened.callback(flower.kill)
        hidden = [key, bad, of_house, elsewhere, running.VAULT_KEY]
        abroad = {401} if request.param == "an access token" else {200, 400, 404}
        yield Scene(stack, upstream, server.client, flower, url, key, bad, elsewhere, abroad, hidden)


def _flower(stack: Stack, directory: Path) -> tuple[Process, str]:
    port = free_port()
    command = [sys.executable, "-m", "celery", "--app", "tasks", "flower", "--address=127.0.0.1", f"--port={port}"]
    variables = {**stack.variables, "FLOWER_UNAUTHENTICATED_API": "true", "PYTHONWARNINGS": "ignore"}
    process = running.start("flower", command, variables, directory)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"{url}/api/workers?refresh=1", timeout=20).status_code == 200
        return False

    until(answers, "Flower answers", 60)
    return process, url


def dump(client: Any) -> Iterator[bytes]:
    """Everything that Redis holds, names included."""
    for key in client.keys("*"):
        yield key
        match client.type(key):
            case b"string":
                yield client.get(key) or b""
            case b"hash":
                for pair in client.hgetall(key).items():
                    yield from pair
            case b"list":
                yield from client.lrange(key, 0, -1)
            case b"set":
                yield from client.smembers(key)
            case b"zset":
                yield from client.zrange(key, 0, -1)
            case b"stream":
                for entry_id, fields in client.xrange(key):
                    yield entry_id
                    for pair in fields.items():
                        yield from pair
            case other:
                assert other == b"none", other  # it has expired meanwhile


def found(secret_: str, where: bytes) -> bool:
    """A secret, the greater part of it, or either in base64, at any place in it."""
    part = secret_[len(secret_) // 4 : -4].encode()
    encoded = [base64.b64encode(b"x" * shift + part)[4:-4] for shift in range(3)]
    return any(needle in where for needle in (part, *encoded))


def look(scene: Scene, prompt: str) -> None:
    """Look everywhere."""
    shown = {path: requests.get(scene.stack.url + path, timeout=20) for path in PATHS}
    shown |= {path: requests.get(scene.flower_url + path, timeout=30) for path in FLOWER}
    for path, answer in shown.items():
        assert answer.status_code == 200, path
        assert not any(found(each, answer.content) for each in (*scene.secrets, prompt)), path
    stored = b"\n".join(dump(scene.redis))
    assert b"lp:credential:" in stored
    assert not any(found(each, stored) for each in scene.secrets)
    logs = (scene.stack.logs() + scene.flower.text()).encode()
    assert b"DEBUG" in logs
    assert not any(found(each, logs) for each in (*scene.secrets, prompt))


def elsewhere(prompt: str) -> list[tuple[str, ...]]:
    """Calls to other providers: answered, refused, and relayed to where nothing is."""
    generate = "/gemini/v1beta/models/m:generateContent"
    return [
        *(("/anthropic/v1/messages", text, "x-api-key") for text in (prompt, f"{prompt} fail-400")),
        *((generate, text, header) for text in (prompt, f"{prompt} fail-400") for header in ("", "x-goog-api-key")),
        ("/azure/openai/v1/chat/completions", prompt, "api-key"),
        ("/gemini/v1beta/nothing", prompt),
        ("/anthropic/v1/nothing", prompt, "x-api-key"),
        ("/azure/nothing", prompt, "api-key"),
    ]


def malformed(scene: Scene) -> bytes:
    """The answer to a head whose broken line is the key."""
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nAuthorization Bearer {scene.key}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", scene.stack.port), timeout=10) as connection:
        connection.sendall(head)
        return connection.recv(10_000)


def test_no_key_no_token_and_no_prompt_is_found_anywhere_after_a_run_with_failures(scene: Scene) -> None:
    prompt = f"prompt {secrets.token_hex(24)}"
    scene.upstream.configure(
        ends=[
            {"model": "failing", "fail": [{"code": "invalid_request", "message": "No."}]},
            {"model": "page", "count": 1, "html": True},
            {"model": "held", "stuck": "in_progress"},
        ],
        faults=[
            {"path": "POST /v1/files", "kind": "500", "count": 1},
            {"path": "POST /v1/batches", "kind": "reset_after", "count": 1},
            {"path": f"POST {CHAT}", "kind": "reset_before", "count": 1},
            {"path": "GET /v1/models", "kind": "reset_before", "count": 9},
        ],
    )
    answers: list[requests.Response] = []
    with ThreadPoolExecutor(8) as pool:
        held = pool.submit(scene.post, scene.key, prompt, "held")
        cases = [(scene.key, model) for model in ("good", "failing", "fail-400", "fail-500")]
        answers += pool.map(lambda case: scene.post(case[0], prompt, case[1]), [*cases, (scene.bad, "good")])
        answers.append(scene.post(scene.key, prompt, "sync", **{"X-Batch-Mode": "sync"}))
        answers.append(scene.post(scene.bad, prompt, "sync", **{"X-Batch-Mode": "sync"}))
        answers.append(scene.post(scene.key, "{" * 500, "x" * 100))
        bearer = {"Authorization": f"Bearer {scene.key}"}
        answers.append(requests.get(scene.stack.url + "/v1/models", headers=bearer, timeout=20))
        abroad = list(pool.map(lambda case: scene.post_elsewhere(case[0], *case[1:]), elsewhere(prompt)))
        assert {answer.status_code for answer in abroad} == scene.abroad
        answers += abroad
        until(lambda: batches_of(scene.upstream, "held"), "it is at the upstream")
        look(scene, prompt)  # while something waits
        scene.upstream.finish()
        answers.append(held.result())
    scene.stack.kill("worker-transfer")
    scene.stack.start("worker-transfer")
    statuses = {answer.status_code for answer in answers}
    assert {200, 400, 401, 500, 502} <= statuses
    for answer in answers:
        said = answer.content + str(answer.headers).encode()
        assert not any(found(each, said) for each in scene.secrets)
    assert b"400" in (refusal := malformed(scene))
    assert not found(scene.key, refusal)

    look(scene, prompt)


def test_an_upstream_that_cannot_be_reached_makes_nobody_tell(own_redis_server: RedisServer) -> None:
    key, prompt = secret(), f"prompt {secrets.token_hex(24)}"
    nowhere = f"http://127.0.0.1:{free_port()}"
    with running.running_stack(
        own_redis_server.url, nowhere, LLM_PROXY_LOG_LEVEL="DEBUG", LLM_PROXY_REQUEST_DEADLINE_SECONDS="4"
    ) as stack:
        body = {"model": "nowhere", "messages": [{"role": "user", "content": prompt}]}
        headers = {"Authorization": f"Bearer {key}"}
        answers = [requests.post(stack.url + CHAT, json=body, headers=headers, timeout=60)]
        answers.append(requests.get(stack.url + "/v1/models", headers=headers, timeout=60))
        logs = stack.logs().encode()

    assert [answer.status_code for answer in answers] == [504, 502]
    assert not any(found(each, logs) for each in (key, prompt))
    assert not found(key, b"\n".join([*dump(own_redis_server.client), *(answer.content for answer in answers)]))


def test_what_is_looked_for_would_be_found() -> None:
    key = secret()

    assert found(key, b"x" + key.encode())
    assert found(key, key[8:].encode())
    for before in (b"", b"a", b"ab"):
        assert found(key, base64.b64encode(before + key.encode() + b"after"))
    assert not found(key, secret().encode())
