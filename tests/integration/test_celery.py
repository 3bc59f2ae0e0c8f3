"""Celery really carries it: messages, results, queues and beat are Celery's own."""

from __future__ import annotations

import concurrent.futures
import json
import re
import subprocess
import sys

import openai
import pytest
import requests

from tasks import message
from tasks.settings import Settings
from tests import running
from tests.integration.test_pipeline import ask, batches_of
from tests.ports import free_port
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator


def shell(stack: Stack, code: str) -> str:
    """What a Celery shell prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "celery", "--app", "tasks", "shell", "--python"],
        input=code,
        capture_output=True,
        text=True,
        check=True,
        cwd=running.ROOT,
        env=running.environment(**stack.variables),
        timeout=60,
    )
    return done.stdout


def test_a_reply_is_the_result_of_its_task_in_any_celery_shell(client: openai.OpenAI, stack: Stack) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="shell", messages=[{"role": "user", "content": "hello"}]
    )
    task_id = raw.headers["x-batch-task-id"]

    printed = shell(
        stack, f"import json; print('RESULT', json.dumps(celery.AsyncResult('{task_id}').get(timeout=10)))\n"
    )

    result = json.loads(printed.split("RESULT ")[1].splitlines()[0])
    assert result["status"] == 200
    assert result["body"].encode() == raw.content
    assert result["headers"]["x-batch-lane"] == "batch"


def test_a_celery_client_that_waits_is_woken_by_the_publication(
    stack: Stack, redis_server: RedisServer, client: openai.OpenAI
) -> None:
    from celery import Celery

    app = Celery("observer", set_as_current=False, backend=Settings(redis_url=redis_server.url).celery_redis)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        known = {key.decode() for key in redis_server.client.scan_iter("lp:request:*")}
        asked = pool.submit(ask, client, "watched", "watched")
        until(lambda: len(list(redis_server.client.scan_iter("lp:request:*"))) > len(known), "it is accepted")
        [new] = {key.decode() for key in redis_server.client.scan_iter("lp:request:*")} - known

        result = app.AsyncResult(new.removeprefix("lp:request:")).get(timeout=30)

        assert asked.result() == "echo:watched"
        assert json.loads(result["body"])["choices"][0]["message"]["content"] == "echo:watched"


@pytest.fixture
def halted(upstream: Simulator) -> object:
    """A stack of its own in which nothing collects: no beat and no workers."""
    with running.redis_server() as server, running.running_stack(server.url, upstream.url) as made:
        made.kill("beat", "worker-control", "worker-transfer", "worker-sync")
        yield made, server


def test_a_worker_on_a_groups_queue_executes_its_request_synchronously(
    halted: tuple[Stack, RedisServer], upstream: Simulator, api_key: str
) -> None:
    stack, server = halted
    with (
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key=api_key) as sdk,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(ask, sdk, "by hand", "by-hand")
        until(lambda: server.client.zcard("lp:groups") == 1, "it is queued")
        group: bytes
        [group] = server.client.zrange("lp:groups", 0, -1)
        queue = message.group_queue(group.decode())
        command = [sys.executable, "-m", "celery", "--app", "tasks", "worker", "--queues", queue, "--pool", "solo"]
        worker = running.start("by-hand", command, stack.variables, stack.directory)
        try:
            assert asked.result(timeout=60) == "echo:by hand"
        finally:
            worker.kill()

    assert batches_of(upstream, "by-hand") == []


def test_without_beat_no_batch_is_made_and_with_it_the_waiting_request_is(
    halted: tuple[Stack, RedisServer], upstream: Simulator, api_key: str
) -> None:
    stack, server = halted
    stack.start("worker-control", "worker-transfer")
    with (
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key=api_key) as sdk,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        asked = pool.submit(ask, sdk, "patience", "no-beat")
        until(lambda: server.client.zcard("lp:groups") == 1, "it is queued")
        with pytest.raises(concurrent.futures.TimeoutError):
            asked.result(timeout=2)  # several hold times
        assert batches_of(upstream, "no-beat") == []

        stack.start("beat")

        assert asked.result(timeout=30) == "echo:patience"
    assert len(batches_of(upstream, "no-beat")) == 1


def start_flower(stack: Stack, port: int) -> running.Process:
    """Flower as `make flower` starts it, with its API open."""
    command = [sys.executable, "-m", "celery", "--app", "tasks.flower", "flower", "--address=127.0.0.1"]
    variables = {**stack.variables, "FLOWER_UNAUTHENTICATED_API": "true"}
    return running.start("flower", [*command, f"--port={port}"], variables, stack.directory)


def test_flower_shows_the_stages_with_their_batch_id_and_neither_key_nor_prompt(
    stack: Stack, client: openai.OpenAI, api_key: str
) -> None:
    port = free_port()
    flower = start_flower(stack, port)
    try:

        def seen() -> dict[str, dict[str, str]]:
            try:
                return dict(requests.get(f"http://127.0.0.1:{port}/api/tasks", timeout=5).json())
            except requests.ConnectionError:
                return {}

        until(lambda: "Connected to" in flower.text(), "Flower is connected")
        ask(client, "the secret prompt", "flower")
        ask(client.with_options(default_headers={"X-Batch-Mode": "sync"}), "the secret prompt", "flower")
        stages = {"tasks.submit", "tasks.poll", "tasks.deliver", "tasks.request"}
        until(lambda: stages <= {task["name"] for task in seen().values()}, "Flower has seen all stages")

        shown = seen()
        ids = {
            stage: {m[0] for t in shown.values() if t["name"] == stage and (m := re.search(r"[0-9a-f]{32}", t["args"]))}
            for stage in stages
        }
        assert ids["tasks.submit"]
        assert ids["tasks.submit"] <= ids["tasks.poll"] & ids["tasks.deliver"]
        assert "secret" not in json.dumps(shown)
        assert api_key not in json.dumps(shown)
    finally:
        flower.kill()


@pytest.fixture
def eventful(upstream: Simulator) -> object:
    """A stack that tells Flower of each request, whose work nobody else does."""
    with (
        running.redis_server() as server,
        running.running_stack(server.url, upstream.url, LLM_PROXY_TASK_EVENTS="true") as made,
    ):
        yield made


def test_with_task_events_flower_shows_each_request_and_nothing_secret_anywhere(eventful: Stack, api_key: str) -> None:
    port = free_port()
    flower = start_flower(eventful, port)

    def get(path: str) -> str:
        try:
            return requests.get(f"http://127.0.0.1:{port}{path}", timeout=20).text
        except requests.ConnectionError:
            return "{}"

    def requests_seen() -> dict[str, dict[str, str]]:
        tasks = json.loads(get("/api/tasks?limit=10000"))
        return {uuid: task for uuid, task in tasks.items() if task["name"] == "tasks.request"}

    try:
        until(lambda: "Connected to" in flower.text(), "Flower is connected")
        with openai.OpenAI(base_url=f"{eventful.url}/v1", api_key=api_key, max_retries=0) as sdk:
            messages = [{"role": "user", "content": "the secret prompt"}]
            raw = sdk.chat.completions.with_raw_response.create(model="events", messages=messages)  # type: ignore[arg-type]  # a plain dict
            with pytest.raises(openai.APIStatusError):
                ask(sdk, "the secret prompt", "fail-400")
        task_id = raw.headers["x-batch-task-id"]
        until(lambda: requests_seen().get(task_id, {}).get("state") == "SUCCESS", "the request is shown")
        until(lambda: "FAILURE" in {task["state"] for task in requests_seen().values()}, "the refused one, too")
        shown = requests_seen()[task_id]
        pages = [
            "/api/tasks?limit=10000",
            "/api/workers?refresh=1",
            "/api/queues/length",
            "/api/task/types",
            "/metrics",
        ]
        pages += [f"/api/task/info/{task_id}", "/", "/tasks", "/broker", "/workers", f"/task/{task_id}"]
        pages += [f"/worker/{name}" for name in json.loads(get("/api/workers"))]
        pages += [f"/api/task/result/{uuid}" for uuid in requests_seen()]
        table = "draw=1&start=0&length=100&search[value]=&order[0][column]=0&order[0][dir]=asc&columns[0][data]=name"
        pages.append(f"/tasks/datatable?{table}")
        everything = {page: get(page) for page in pages}
    finally:
        flower.kill()

    assert shown["args"] == f"('{task_id}',)"
    assert 0 < float(shown["runtime"]) < 60
    assert "status 200" in shown["result"]
    results = [page for page in pages if page.startswith("/api/task/result/")]
    assert [everything.pop(page) for page in results] == [""] * len(results)  # no reply is any business of Flower's
    assert task_id in everything[next(page for page in pages if "datatable" in page)]
    for page, text in everything.items():
        assert len(text) > 2, page
        for secret in ("secret prompt", api_key, running.VAULT_KEY):
            assert secret not in text, page
