"""Redis goes away, comes back, fills up: nothing is accepted that cannot be kept, nothing that was is lost."""

from __future__ import annotations

import concurrent.futures
import signal
import time
from collections.abc import Iterator

import openai
import pytest
import requests

from tasks import stack as commands
from tests import running
from tests.integration.test_pipeline import ask, batches_of
from tests.ports import free_port
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator

Own = tuple[Stack, RedisServer, Simulator]


@pytest.fixture
def own(own_upstream: Simulator) -> Iterator[Own]:
    """A stack whose Redis the test may harm."""
    with running.redis_server() as server, running.running_stack(server.url, own_upstream.url) as stack:
        yield stack, server, own_upstream


def sdk(stack: Stack, key: str = "sk-trouble") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)


def post(stack: Stack, content: str, timeout: float = 30) -> requests.Response:
    body = {"model": "trouble", "messages": [{"role": "user", "content": content}]}
    headers = {"Authorization": "Bearer sk-trouble"}
    return requests.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=timeout)


def test_while_redis_is_away_new_requests_get_503_at_once_and_waiting_ones_stay(own: Own) -> None:
    stack, server, upstream = own
    upstream.configure(ends=[{"model": "stays", "stuck": "in_progress"}])
    with sdk(stack) as client, concurrent.futures.ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(ask, client, f"q{n}", "stays") for n in range(5)]
        until(lambda: batches_of(upstream, "stays"), "the batch is at the upstream")
        server.kill()

        began = time.monotonic()
        answer = post(stack, "now")
        assert time.monotonic() - began < 1
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "20"
        assert answer.json()["error"]["code"] == "store_unavailable"
        assert requests.get(f"{stack.url}/readyz", timeout=10).status_code == 503
        assert not any(job.done() for job in waiting)

        upstream.finish()
        server.start()
        assert [job.result(timeout=90) for job in waiting] == [f"echo:q{n}" for n in range(5)]
    until(lambda: post(stack, "after").status_code == 200, "requests are accepted again")


def test_what_redis_took_without_saying_so_is_not_paid_twice(own: Own) -> None:
    stack, server, upstream = own
    assert post(stack, "before").status_code == 200
    assert server.process
    server.process.popen.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert post(stack, "in doubt").status_code == 503
    assert time.monotonic() - began < 4  # it is noticed
    until(lambda: all(_is_refused_at_once(stack) for _ in range(6)), "every front knows it", 10)
    server.process.popen.send_signal(signal.SIGCONT)

    until(lambda: post(stack, "in doubt").status_code == 200, "requests are accepted again")

    assert upstream.stats()["billed"]["more_than_once"] == []


def _is_refused_at_once(stack: Stack) -> bool:
    began = time.monotonic()
    assert post(stack, "afterwards").status_code == 503
    return time.monotonic() - began < 1


def refusal(stack: Stack, why: str) -> requests.Response:
    """The first answer that says so; each process of the front sees it at a time of its own, so the next may not."""
    answers: list[requests.Response] = []

    def is_refused() -> bool:
        answers.append(post(stack, "meanwhile"))
        return why in answers[-1].text

    until(is_refused, "nothing is accepted, and it is said why")
    return answers[-1]


def test_a_full_redis_accepts_nothing_and_drains_what_it_has(own: Own) -> None:
    stack, server, upstream = own
    upstream.configure(ends=[{"model": "full", "stuck": "in_progress"}])
    with sdk(stack) as client, concurrent.futures.ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(ask, client, f"q{n}", "full") for n in range(20)]
        until(lambda: sum(int(str(b["lines"])) for b in batches_of(upstream, "full")) == 20, "all are at the upstream")
        server.client.config_set("maxmemory", server.client.info("memory")["used_memory"])
        assert refusal(stack, "store is full").status_code == 503

        server.client.config_set("maxmemory", server.client.info("memory")["used_memory"] // 2)
        upstream.finish()
        assert [job.result(timeout=90) for job in waiting] == [f"echo:q{n}" for n in range(20)]
        server.client.config_set("maxmemory", 0)
    until(lambda: post(stack, "after").status_code == 200, "requests are accepted again")


def test_while_redis_may_evict_nothing_is_accepted(own: Own) -> None:
    stack, server, _ = own
    assert post(stack, "before").status_code == 200
    server.client.config_set("maxmemory-policy", "allkeys-lru")

    refused = refusal(stack, "noeviction")
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "store_unavailable"
    assert "requests are answered 503" in stack.logs()

    server.client.config_set("maxmemory-policy", "noeviction")
    until(lambda: post(stack, "after").status_code == 200, "requests are accepted again")


def test_the_front_refuses_to_start_on_a_redis_that_evicts(own: Own) -> None:
    stack, server, _ = own
    server.client.config_set("maxmemory-policy", "allkeys-lru")
    process = running.start("evicted", commands.web(), {**stack.variables, "PORT": str(free_port())}, stack.directory)

    assert process.popen.wait(30) != 0
    assert "set it to noeviction" in process.text()
