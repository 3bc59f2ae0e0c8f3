"""One command: it starts everything, restarts what dies, stops in order, finds its data again."""

from __future__ import annotations

import concurrent.futures
import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
import requests

from tests import running
from tests.integration.test_pipeline import ask, batches_of
from tests.ports import free_port
from tests.running import Process, until
from tests.simulator.server import Simulator
from tests.system.conftest import Up, is_ready, ups


@pytest.fixture
def data_dir() -> object:
    with running.short_directory() as directory:
        yield directory / "data"


@dataclass(frozen=True)
class Lasting:
    """A stack that several tests use, one after the other."""

    process: Process
    port: int
    data_dir: Path


@pytest.fixture(scope="module")
def lasting(shared_upstream: Simulator) -> Iterator[Lasting]:
    with running.short_directory() as directory, ups(shared_upstream) as start:
        port = free_port()
        yield Lasting(start(port, directory / "data"), port, directory / "data")


def sdk(port: int, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key)


def test_a_killed_supervisor_takes_its_programs_with_it(up: Up, data_dir: Path) -> None:
    process = up(free_port(), data_dir)
    pids = process.children()
    process.popen.kill()
    process.popen.wait()

    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids.values()), "all have ended")


@pytest.mark.parametrize("victim", ["redis-server", "control@", "transfer@", "beat", "gunicorn"])
def test_what_dies_is_started_again_and_requests_go_on(lasting: Lasting, victim: str, api_key: str) -> None:
    process = lasting.process
    before = process.children()[victim]
    subprocess.run(["kill", "-9", str(before)], check=True)

    until(lambda: process.children().get(victim, before) != before, f"{victim} runs again")
    until(lambda: is_ready(lasting.port), "the front is ready again")
    with sdk(lasting.port, api_key) as client:
        assert ask(client, victim, "restarted") == f"echo:{victim}"


def test_a_restart_in_the_middle_of_a_batch_loses_nothing_and_pays_once(
    up: Up, data_dir: Path, own_upstream: Simulator, api_key: str
) -> None:
    upstream = own_upstream
    upstream.configure(ends=[{"model": "restart", "stuck": "in_progress"}])
    port = free_port()
    first = up(port, data_dir, LLM_PROXY_UPSTREAM=upstream.url)

    def call(n: int) -> requests.Response:
        body = {"model": "restart", "messages": [{"role": "user", "content": f"q{n}"}]}
        headers = {"Authorization": f"Bearer {api_key}", "Idempotency-Key": f"key-{n}"}
        return requests.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        cut = [pool.submit(call, n) for n in range(20)]
        until(lambda: batches_of(upstream, "restart"), "the batch is at the upstream")
        first.stop(signal.SIGINT)
        assert {answer.result().status_code for answer in cut} == {503}
        assert {answer.result().json()["error"]["code"] for answer in cut} == {"draining"}

        up(port, data_dir, LLM_PROXY_UPSTREAM=upstream.url)
        retries = [pool.submit(call, n) for n in range(20)]
        upstream.finish()
        answers = [json.loads(answer.result().content) for answer in retries]

    assert [answer["choices"][0]["message"]["content"] for answer in answers] == [f"echo:q{n}" for n in range(20)]
    [batch] = batches_of(upstream, "restart")
    assert batch["lines"] == 20
    assert upstream.stats()["billed"]["more_than_once"] == []


def test_two_stacks_live_side_by_side_and_ctrl_c_ends_the_whole_of_one_in_time(
    lasting: Lasting, up: Up, data_dir: Path, api_key: str
) -> None:
    second = free_port()
    process = up(second, data_dir)
    pids = process.children()
    assert len(pids) == 6
    for port in (lasting.port, second):
        with sdk(port, api_key) as client:
            assert ask(client, str(port), "side") == f"echo:{port}"

    took = process.stop(signal.SIGINT)

    assert process.popen.returncode == 0
    assert took < 25
    assert "Exception ignored" not in process.text()
    assert not [pid for pid in pids.values() if Path(f"/proc/{pid}").exists()]
    assert is_ready(lasting.port)


def refused(process: Process) -> str:
    assert process.popen.wait(30) == 2
    [sentence] = [line for line in process.text().splitlines() if line.startswith("llm-proxy: ")]
    return sentence


def test_a_taken_port_is_an_error_that_names_it(up: Up, data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in refused(up(port, data_dir, ready=False))


def test_a_data_directory_in_use_is_an_error_that_names_it(up: Up, lasting: Lasting) -> None:
    sentence = refused(up(free_port(), lasting.data_dir, ready=False))

    assert f"another llm-proxy uses the data directory {lasting.data_dir}" in sentence


def test_a_misspelt_setting_is_an_error_that_names_it(up: Up, data_dir: Path) -> None:
    sentence = refused(up(free_port(), data_dir, ready=False, LLM_PROXY_MAX_HOLD="4"))

    assert "LLM_PROXY_MAX_HOLD is not a setting" in sentence


def test_an_external_redis_needs_a_vault_key(up: Up, data_dir: Path) -> None:
    sentence = refused(up(free_port(), data_dir, ready=False, REDIS_URL="redis://127.0.0.1:1/0"))

    assert "LLM_PROXY_VAULT_KEYS" in sentence
