"""Keys and bodies at rest: nothing can be read without the vault's keys, which rotate while requests wait."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from cryptography.fernet import Fernet

from tasks import accept as accepting
from tasks import vault
from tasks.errors import CredentialGone
from tasks.settings import settings
from tests import running
from tests.integration.accepting import GROUP, accept, make_request
from tests.integration.test_no_key_anywhere import dump
from tests.integration.test_pipeline import batches_of
from tests.ports import free_port
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator, serve

CHAT = "/v1/chat/completions"
OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def post(stack: Stack, content: str, model: str = "m", **headers: str) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    headers = {"Authorization": "Bearer sk-of-the-caller", **headers}
    return requests.post(stack.url + CHAT, json=body, headers=headers, timeout=60)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running.redis_server() as made:
        yield made


@pytest.fixture
def upstream() -> Iterator[Simulator]:
    with serve(validate_delay=0.05, batch_delay=0.2, finalize_delay=0.05) as made:
        yield made


def sealed_stack(server: RedisServer, upstream: Simulator, keys: str) -> Any:
    return running.running_stack(server.url, upstream.url, LLM_PROXY_VAULT_KEYS=keys, LLM_PROXY_SEAL_BODIES="true")


def test_prompts_and_answers_are_sealed_in_redis_and_come_back_byte_for_byte(
    server: RedisServer, upstream: Simulator
) -> None:
    upstream.configure(ends=[{"model": "held", "stuck": "in_progress"}])
    with sealed_stack(server, upstream, OLD) as stack, ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, stack, "the secret prompt \u00e9", "held", **{"Idempotency-Key": "k"})
        until(lambda: batches_of(upstream, "held"), "it is submitted")
        while_waiting = b"\n".join(dump(server.client))
        upstream.finish()
        answer = held.result()
        now = post(stack, "sync prompt", "sync", **{"X-Batch-Mode": "sync"})
        again = post(stack, "the secret prompt \u00e9", "held", **{"Idempotency-Key": "k"})
        conflict = post(stack, "another prompt", "held", **{"Idempotency-Key": "k"})
        afterwards = b"\n".join(dump(server.client))

    assert answer.json()["choices"][0]["message"]["content"] == "echo:the secret prompt \u00e9"
    assert now.json()["choices"][0]["message"]["content"] == "echo:sync prompt"
    assert again.content == answer.content
    assert conflict.status_code == 422  # equality is known although nothing can be read
    for stored in (while_waiting, afterwards):
        assert b"prompt" not in stored
        assert b"echo:" not in stored
        assert b"sk-of-the-caller" not in stored
    assert b"lp:body:" in while_waiting
    assert b"celery-task-meta-" in afterwards


def test_keys_rotate_while_requests_wait(server: RedisServer, upstream: Simulator) -> None:
    """Sealed before, sent and answered after; and the old key is not needed for what is new."""
    upstream.configure(ends=[{"model": "held", "stuck": "in_progress"}])
    key = {"Idempotency-Key": "rotation"}
    with sealed_stack(server, upstream, OLD) as stack:
        with ThreadPoolExecutor(2) as pool:
            waits = pool.submit(post, stack, "before", "held", **key)
            until(lambda: batches_of(upstream, "held"), "one is at the upstream")
            stack.kill("worker-transfer")
            queued = pool.submit(post, stack, "queued", "later", **{"Idempotency-Key": "queued"})
            until(lambda: len(server.client.keys("lp:body:*")) == 2, "one is queued")
            stack.processes["web"].stop()
            assert {waits.result().status_code, queued.result().status_code} == {503}
    with sealed_stack(server, upstream, f"{NEW},{OLD}") as stack, ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(post, stack, "before", "held", **key),
            pool.submit(post, stack, "queued", "later", **{"Idempotency-Key": "queued"}),
        ]
        upstream.finish()
        contents = [answer.result().json()["choices"][0]["message"]["content"] for answer in answers]
        assert contents == ["echo:before", "echo:queued"]
        post(stack, "new", "later")
    with sealed_stack(server, upstream, NEW) as stack:
        assert post(stack, "newer", "later").status_code == 200  # the key's caller is known by a new seal
        assert post(stack, "queued", "later", **{"Idempotency-Key": "queued"}).status_code == 200  # by the new key
    assert upstream.stats()["billed"]["more_than_once"] == []


def test_without_the_key_that_sealed_it_an_answer_is_an_error_and_not_nonsense(
    server: RedisServer, upstream: Simulator
) -> None:
    key = {"Idempotency-Key": "lost"}
    with sealed_stack(server, upstream, OLD) as stack:
        sealed = post(stack, "q", **key)
        assert sealed.status_code == 200
    with sealed_stack(server, upstream, NEW) as stack:
        answer = post(stack, "q", **key)
        logs = stack.logs()
        shown = subprocess.run(
            [sys.executable, "-m", "tasks", "requests", "show", sealed.headers["x-batch-task-id"]],
            env=running.environment(**stack.variables),
            cwd=running.ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

    assert answer.status_code == 500
    assert "LLM_PROXY_VAULT_KEYS lacks the key" in logs
    assert shown.returncode == 1
    assert shown.stderr.startswith("llm-proxy: ")
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("command", [["worker"], ["up"], None], ids=["worker", "up", "web"])
def test_without_keys_nothing_starts_on_a_redis_of_ones_own(server: RedisServer, command: list[str] | None) -> None:
    words = ["-m", "gunicorn", "--config", "web/gunicorn.conf.py", "web.app:create_app()"]
    done = subprocess.run(
        [sys.executable, *(["-m", "tasks", *command] if command else words)],
        env=running.environment(REDIS_URL=server.url, PORT=str(free_port())),
        cwd=running.ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode != 0
    assert "LLM_PROXY_VAULT_KEYS is not set" in done.stderr + done.stdout


def test_a_credential_goes_when_nothing_can_refer_to_it_any_more(redis_client: Any) -> None:
    accept(make_request())
    key = f"lp:credential:{GROUP.credential}"
    lives = accepting.lifetime_seconds(settings())
    assert lives - 5 <= redis_client.ttl(key) <= lives
    assert lives > settings().request_deadline_seconds + settings().result_ttl_seconds

    redis_client.expire(key, 60)
    accept(make_request())
    assert redis_client.ttl(key) > lives - 5  # whoever comes later keeps it

    redis_client.delete(key)
    with pytest.raises(CredentialGone):
        vault.open_sealed(GROUP.credential)


def test_what_is_in_redis_is_no_key(redis_client: Any) -> None:
    accept(make_request())
    stored = redis_client.get(f"lp:credential:{GROUP.credential}")

    assert b"sk-x" not in stored
    assert vault.open_sealed(GROUP.credential) == "Bearer sk-x"
    assert json.dumps(stored.decode())
