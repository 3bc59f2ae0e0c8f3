"""Clients that go away, fronts that are told to, and clients that never get to the point."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import running
from tests.clients.asking import Front
from tests.running import Stack, until
from tests.simulator.server import Simulator

PATIENT = {"x-stainless-read-timeout": "600"}


@pytest.fixture(scope="module")
def leaving(slow_upstream: Simulator) -> Iterator[Stack]:
    """A stack whose groups stay open for 2 s, so that a request can be left while it is queued."""
    with (
        running.redis_server() as server,
        running.running_stack(
            server.url,
            slow_upstream.url,
            launch=running.start,  # the whole of gunicorn, its arbiter too, as in life
            LLM_PROXY_HEARTBEAT_AFTER_SECONDS="1.5",
            LLM_PROXY_MAX_HOLD_SECONDS="2",
            LLM_PROXY_CANCEL_ON_DISCONNECT="true",
            LLM_PROXY_WEB_PROCESSES="1",
        ) as stack,
    ):
        yield stack


@pytest.fixture
def front(leaving: Stack, slow_upstream: Simulator, api_key: str) -> Iterator[Front]:
    """That stack as one test's clients see it."""
    before = slow_upstream.configure()
    yield Front(leaving.url, api_key, slow_upstream)
    slow_upstream.configure(**before)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Leave to open as many sockets as the system allows."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def worker_of(stack: Stack) -> int:
    [pid] = stack.workers_of_web()
    return pid


def test_a_queued_request_is_taken_out_with_its_client_when_that_is_wanted(front: Front) -> None:
    front.upstream.configure(batch_delay=0.2)
    before = front.stats()["exceptions"]["cancelled"]
    front.leave("cancel", 0.3, "gone")
    until(lambda: front.stats()["exceptions"]["cancelled"] == before + 1, "the request is taken out")
    with front.ask("cancel", "stays") as answer:
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "echo:stays"

    assert front.paid("cancel") == 1


def test_a_request_with_an_idempotency_key_is_never_taken_out(front: Front) -> None:
    front.upstream.configure(batch_delay=0.2)
    before = front.stats()["exceptions"]["cancelled"]
    front.leave("kept", 0.3, key="mine")
    time.sleep(1)
    with front.ask("kept", key="mine") as answer:
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "echo:hello"

    assert front.stats()["exceptions"]["cancelled"] == before
    assert front.paid("kept") == 1


def test_clients_that_are_gone_give_their_place_back(front: Front, leaving: Stack) -> None:
    def files() -> int:
        return len(os.listdir(f"/proc/{worker_of(leaving)}/fd"))

    before = files()
    body = json.dumps({"model": "crowd", "messages": [{"role": "user", "content": "x"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {front.key}\r\n"
    with contextlib.ExitStack() as crowd:
        for _ in range(300):
            sock = crowd.enter_context(front.connect())
            sock.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        until(lambda: files() >= before + 300, "all wait")

    until(lambda: files() <= before + 20, "their sockets are closed", seconds=5)


def test_accepted_connections_are_kept_alive_by_tcp(front: Front) -> None:
    with front.connect() as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.recv(1000)
        theirs = f":{sock.getpeername()[1]:04X} 0100007F:{sock.getsockname()[1]:04X} 01"
        [line] = [line for line in Path("/proc/net/tcp").read_text().splitlines() if theirs in line]

    assert line.split()[5].startswith("02:")  # a keepalive timer


def test_a_front_that_is_replaced_sends_its_clients_to_the_next_one(front: Front, leaving: Stack) -> None:
    front.upstream.configure(batch_delay=4)

    def fresh(n: int) -> tuple[int, float]:
        with front.ask("replaced", f"fresh {n}", headers=dict(PATIENT)) as answer:
            answer.read()
            return answer.status, float(answer.headers["Retry-After"] or 0)

    def again(n: int) -> str:
        with front.ask("replaced", f"fresh {n}", retry=1) as answer:
            return str(json.loads(answer.read())["choices"][0]["message"]["content"])

    with ThreadPoolExecutor(20) as pool, front.ask("replaced", "committed") as committed:  # has had a first byte
        waiting = [pool.submit(fresh, n) for n in range(20)]
        time.sleep(0.7)
        took = leaving.processes.pop("web").stop()
        with pytest.raises(http.client.IncompleteRead):
            committed.read()
        refused = [job.result() for job in waiting]
        leaving.start("web")
        answers = list(pool.map(again, range(20)))

    assert took < 10
    assert {status for status, _ in refused} == {503}
    assert all(5 <= seconds <= 15 for _, seconds in refused)
    assert len({seconds for _, seconds in refused}) > 3
    assert answers == [f"echo:fresh {n}" for n in range(20)]
    with front.ask("replaced", "committed", retry=1) as answer:
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "echo:committed"
    assert front.paid("replaced") == 21


def test_a_connection_that_was_opened_before_the_front_is_told_to_stop_is_served(front: Front, leaving: Stack) -> None:
    with front.connect() as late, front.connect() as silent:
        leaving.processes["web"].popen.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        late.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = late.recv(10_000)
        began = time.monotonic()
        assert silent.recv(1) == b""

    leaving.processes.pop("web").stop()
    leaving.start("web")
    assert answer.startswith(b"HTTP/1.1 200"), answer
    assert time.monotonic() - began < 15


def test_the_listener_survives_an_upgrade_in_place(front: Front, leaving: Stack) -> None:
    web = leaving.processes["web"]
    old = web.popen
    refused: list[OSError] = []
    done = threading.Event()

    def knock() -> None:
        while not done.wait(0.02):
            try:
                with front.call("GET", "/healthz") as answer:
                    assert answer.read()
            except OSError as error:
                refused.append(error)

    knocking = threading.Thread(target=knock)
    knocking.start()
    old.send_signal(signal.SIGUSR2)
    until(lambda: len(leaving.workers_of_web()) == 2, "a worker and the new one", 30)
    until(lambda: web.text()[web.offset :].count("Booting worker") == 2, "the new one works")
    old.send_signal(signal.SIGTERM)
    old.wait(30)
    time.sleep(0.5)
    done.set()
    knocking.join()

    with front.call("GET", "/readyz") as answer:
        assert answer.status == 200
    leaving.kill("web")  # the new one is of the same session
    until(lambda: not leaving.listens(), "it is dead")
    leaving.start("web")
    assert refused == []


@pytest.mark.usefixtures("many_files")
def test_5000_that_trickle_do_not_keep_the_5001st_out(front: Front, leaving: Stack) -> None:
    slow: list[socket.socket] = []
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"

    def health() -> float:
        began = time.monotonic()
        with front.call("GET", "/healthz") as answer:
            assert answer.status == 200
        return time.monotonic() - began

    try:
        for n in range(5000):
            slow.append(front.connect())
            slow[-1].sendall(head if n % 2 else head + b"Content-Length: 1000\r\n\r\n{")
            if n % 250 == 249:  # no faster than they are accepted: the kernel's queue is not what is tested
                took = health()
        until(lambda: len(os.listdir(f"/proc/{worker_of(leaving)}/fd")) < 1000, "all are timed out", seconds=30)
    finally:
        for sock in slow:
            sock.close()

    assert took < 5
