"""The command `llm-proxy` against a running stack: what it shows, and what it changes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests

from tasks.cli.app import main
from tests import running
from tests.integration.test_pipeline import ask, batches_of
from tests.integration.this_process import these_settings
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator


@pytest.fixture(scope="module")
def own() -> Iterator[RedisServer]:
    """A Redis of this file's own: cancelling everything must not meet others."""
    with running.redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def made(own: RedisServer, shared_upstream: Simulator) -> Iterator[Stack]:
    """A stack of its own on it."""
    with running.running_stack(own.url, shared_upstream.url) as stack:
        yield stack


def run(stack: Stack, *words: str) -> tuple[int, str]:
    """Exit code and output; in this process, as an interpreter for each would take most of this file's time."""
    output = io.StringIO()
    with these_settings(**stack.variables), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(list(words))
    return code, output.getvalue()


def told(stack: Stack, *words: str) -> Any:
    code, text = run(stack, *words, "--json")
    assert code == 0, text
    return json.loads(text)


@pytest.fixture
def sdk(made: Stack, api_key: str) -> Iterator[openai.OpenAI]:
    """The SDK, which must not try again what was canceled."""
    with openai.OpenAI(base_url=f"{made.url}/v1", api_key=api_key) as client:
        yield client


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Callers that wait."""
    with concurrent.futures.ThreadPoolExecutor(20) as made:
        yield made


def test_a_request_is_shown_with_its_reply(made: Stack, sdk: openai.OpenAI, api_key: str) -> None:
    raw = sdk.chat.completions.with_raw_response.create(model="shown", messages=[{"role": "user", "content": "hello"}])

    found = told(made, "requests", "show", raw.headers["x-batch-task-id"])
    code, text = run(made, "requests", "show", raw.headers["x-batch-task-id"])

    assert found["state"] == "settled"
    assert found["reply"]["status"] == 200
    assert found["reply"]["body"].encode() == raw.content
    assert "echo:hello" in text
    assert code == 0
    assert api_key not in text
    assert run(made, "requests", "show", "f" * 32)[0] == 1


def test_stats_and_batches_say_what_the_front_says(made: Stack, sdk: openai.OpenAI) -> None:
    ask(sdk, "hello", "counted")

    found = told(made, "stats", "--by", "model")

    assert found["requests"] == requests.get(f"{made.url}/stats", timeout=10).json()["requests"]
    assert "counted" in {row["model"] for row in found["usage"]["rows"]}
    assert told(made, "batches")["batches"] >= 0
    assert "counted" in run(made, "stats")[1]
    assert run(made, "stats", "--by", "key")[0] == 2


def test_paused_nothing_is_submitted_and_resumed_everything_is(
    made: Stack, sdk: openai.OpenAI, pool: concurrent.futures.ThreadPoolExecutor, upstream: Simulator, own: RedisServer
) -> None:
    assert told(made, "pause") == {"paused": True}
    asked = pool.submit(ask, sdk, "patience", "paused")
    until(lambda: own.client.zcard("lp:groups") == 1, "it is queued")
    with pytest.raises(concurrent.futures.TimeoutError):
        asked.result(timeout=2)  # several hold times
    assert batches_of(upstream, "paused") == []
    assert requests.get(f"{made.url}/stats", timeout=10).json()["paused"] is True

    assert told(made, "resume") == {"paused": False}

    assert asked.result(30) == "echo:patience"


def test_a_queued_request_is_canceled_at_once_and_its_caller_told(
    made: Stack, sdk: openai.OpenAI, pool: concurrent.futures.ThreadPoolExecutor, upstream: Simulator, own: RedisServer
) -> None:
    told(made, "pause")
    try:
        first, second = (pool.submit(ask, sdk, f"q{n}", "cancel-queued") for n in range(2))
        until(lambda: stats(made)["queued"]["requests"] == 2, "both are queued")
        message = own.client.lindex(f"batch.{stats(made)['queued']['by_group'][0]['group']}", -1).decode()
        request_id = message.split('"correlation_id":"')[1][:32]

        assert told(made, "cancel", request_id) == {"requests": 1, "batches": 0}
        done = concurrent.futures.wait([first, second], timeout=30, return_when="FIRST_COMPLETED").done
        [canceled] = done
        with pytest.raises(openai.APIStatusError) as caught:
            canceled.result()
        assert caught.value.status_code == 499
        assert caught.value.code == "canceled"
        assert run(made, "cancel", request_id)[0] == 1
    finally:
        told(made, "resume")
    [other] = {first, second} - {canceled}
    assert str(other.result(30)).startswith("echo:q")
    assert [batch["lines"] for batch in batches_of(upstream, "cancel-queued")] == [1]


def test_a_canceled_batch_ends_upstream_and_what_it_has_not_answered_is_answered_with_an_error(
    made: Stack, sdk: openai.OpenAI, pool: concurrent.futures.ThreadPoolExecutor, upstream: Simulator
) -> None:
    upstream.configure(ends=[{"model": "cancel-batch", "stuck": "in_progress", "expire_frac": 0.4}])
    asked = [pool.submit(ask, sdk, f"q{n}", "cancel-batch") for n in range(5)]
    until(lambda: batches_of(upstream, "cancel-batch"), "it is at the upstream")
    until(lambda: told(made, "batches")["by_batch"][0]["completed"] == 2, "and has come to two fifths")
    [batch] = told(made, "batches")["by_batch"]
    code, text = run(made, "cancel", next(iter(lines_of(made, batch["batch"]))))
    assert code == 1
    assert batch["batch"] in text  # a line cannot be taken back, its batch can

    assert told(made, "cancel", batch["upstream_id"]) == {"requests": 0, "batches": 1}

    ends = [one.exception(60) or one.result() for one in asked]
    canceled = [end for end in ends if isinstance(end, openai.APIStatusError)]
    assert [(end.status_code, end.code) for end in canceled] == [(499, "canceled")] * 3
    assert {end for end in ends if isinstance(end, str)} <= {f"echo:q{n}" for n in range(5)}
    assert [b["status"] for b in batches_of(upstream, "cancel-batch")] == ["cancelled"]
    assert len(batches_of(upstream, "cancel-batch")) == 1


def test_all_cancels_what_is_queued_and_in_flight(
    made: Stack, sdk: openai.OpenAI, pool: concurrent.futures.ThreadPoolExecutor, upstream: Simulator
) -> None:
    upstream.configure(ends=[{"model": "cancel-all", "stuck": "in_progress", "expire_frac": 0}])
    flying = pool.submit(ask, sdk, "flying", "cancel-all")
    until(lambda: any(b["upstream_id"] for b in told(made, "batches")["by_batch"]), "one is at the upstream")
    told(made, "pause")
    queued = [pool.submit(ask, sdk, f"q{n}", "cancel-all") for n in range(3)]
    until(lambda: stats(made)["queued"]["requests"] == 3, "three are queued")
    try:
        assert told(made, "cancel", "--all") == {"requests": 3, "batches": 1}
        assert stats(made)["queued"]["requests"] == 0  # at once, not when somebody collects again
    finally:
        told(made, "resume")
    for one in [flying, *queued]:
        with pytest.raises(openai.APIStatusError) as caught:
            one.result(60)
        assert caught.value.code == "canceled"


def test_a_group_is_canceled_and_no_other(
    made: Stack, sdk: openai.OpenAI, pool: concurrent.futures.ThreadPoolExecutor
) -> None:
    told(made, "pause")
    try:
        asked = [pool.submit(ask, sdk, f"q{n}", "cancel-group") for n in range(3)]
        other = pool.submit(ask, sdk, "other", "stay")
        until(lambda: stats(made)["queued"]["requests"] == 4, "all are queued")
        groups = {group["model"]: group["group"] for group in stats(made)["queued"]["by_group"]}

        assert told(made, "cancel", "--group", groups["cancel-group"]) == {"requests": 3, "batches": 0}

        for one in asked:
            with pytest.raises(openai.APIStatusError) as caught:
                one.result(30)
            assert caught.value.status_code == 499
            assert caught.value.body == {
                "message": "The operator of the proxy canceled this request.",
                "type": "request_canceled",
                "param": None,
                "code": "canceled",
            }
        assert [group["model"] for group in stats(made)["queued"]["by_group"]] == ["stay"]
    finally:
        told(made, "resume")
    assert other.result(30) == "echo:other"


def test_doctor_says_how_to_mend_what_is_wrong(made: Stack, own: RedisServer) -> None:
    until(lambda: run(made, "doctor")[0] == 0, "beat has ticked")
    well = {finding["name"]: finding for finding in told(made, "doctor")}
    assert {"redis", "durability", "vault key", "upstream", "open files", "pipeline", "clock of Redis"} <= set(well)

    own.client.config_set("appendfsync", "everysec")
    try:
        code, text = run(made, "doctor")
    finally:
        own.client.config_set("appendfsync", "always")
    assert code == 1
    assert "CONFIG SET appendfsync always" in text


def test_without_redis_every_command_says_so_in_one_sentence(made: Stack) -> None:
    away = Stack({**made.variables, "REDIS_URL": "redis://127.0.0.1:1/0"}, made.directory, made.port)

    for words in (("stats",), ("batches",), ("pause",), ("cancel", "--all")):
        code, text = run(away, *words)
        assert code == 1
        assert text.startswith("llm-proxy: Redis is away")
        assert len(text.splitlines()) == 1


def test_a_redis_that_refuses_is_told_in_its_own_words_and_without_the_password(made: Stack) -> None:
    url = made.variables["REDIS_URL"].replace("unix://", "unix://nobody:of-the-test@")
    stranger = Stack({**made.variables, "REDIS_URL": url}, made.directory, made.port)

    for command in ("doctor", "stats"):
        code, text = run(stranger, command)
        assert code == 1
        assert "invalid username-password pair" in text
        assert "REDIS_URL" in text
        assert "of-the-test" not in text


def stats(stack: Stack) -> Any:
    return requests.get(f"{stack.url}/stats", timeout=10).json()


def lines_of(stack: Stack, batch: str) -> list[str]:
    import redis

    client = redis.Redis.from_url(stack.variables["REDIS_URL"])
    return [line.decode()[:32] for line in client.lrange(f"lp:lines:{batch}", 0, -1)]  # type: ignore[union-attr]  # sync


def test_top_shows_the_figures_once_to_a_pipe_and_goes_on_for_a_program(made: Stack, sdk: openai.OpenAI) -> None:
    ask(sdk, "hello", "watched")

    code, text = run(made, "top")
    assert code == 0
    assert "waiting" in text

    command = [sys.executable, "-m", "tasks", "top", "--json"]
    process = running.start("top", command, made.variables, made.directory)
    try:
        until(lambda: process.text().count('"in_flight"') >= 2, "it goes on")
        process.stop(signal.SIGINT)
    finally:
        process.kill()
    assert process.popen.returncode == 0
    assert json.loads(process.text().splitlines()[0])["requests"]["total"] > 0
