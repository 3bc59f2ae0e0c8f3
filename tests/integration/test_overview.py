"""/stats beside the original's keys: what waits, is queued and in flight; bounded, and shut when it shall be."""

from __future__ import annotations

import concurrent.futures
import statistics
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from tasks import batches, holding, overview, store
from tasks.errors import IdempotencyConflict
from tasks.models import Group
from tests import running
from tests.integration.accepting import accept, make_request
from tests.integration.test_pipeline import ask
from tests.running import RedisServer, Stack, until
from tests.simulator.server import Simulator
from web.metric_table import METRICS

TIMES = {"avg_time_ms", "p50_time_ms", "p95_time_ms", "p99_time_ms"}


def test_the_originals_keys_are_as_they_were(stack: Stack) -> None:
    stats = requests.get(f"{stack.url}/stats", timeout=10).json()

    assert set(stats["requests"]) == {"total", "successful", "failed", "synthesized_error_responses"} | TIMES
    assert set(stats["batches"]) == {"total", "successful", "failed"} | TIMES


def test_usage_can_be_asked_by_model_day_or_credential_and_by_nothing_else(
    client: openai.OpenAI, stack: Stack, api_key: str
) -> None:
    ask(client, "hello", "by-what")

    found = {
        by: requests.get(f"{stack.url}/stats?by={by}", timeout=10).json()["usage"]
        for by in ("model", "day", "credential")
    }
    refused = requests.get(f"{stack.url}/stats?by=key", timeout=10)

    [row] = [row for row in found["model"]["rows"] if row["model"] == "by-what"]
    assert row["requests"] == 1
    assert row["input_tokens"] > 0
    assert row["price_known"] is False  # the simulator is in no price list
    assert found["day"]["rows"][-1]["requests"] >= 1
    assert all(len(row["credential"]) == 8 for row in found["credential"]["rows"])
    assert api_key not in str(found)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "by"


def test_a_batch_in_flight_is_shown_with_its_progress_and_those_who_wait(
    stack: Stack, own_upstream: Simulator, redis_server: RedisServer
) -> None:
    own_upstream.configure(ends=[{"model": "stuck", "stuck": "in_progress"}])
    with (
        running.redis_server() as server,
        running.running_stack(server.url, own_upstream.url) as made,
        openai.OpenAI(base_url=f"{made.url}/v1", api_key="sk-look") as sdk,
        concurrent.futures.ThreadPoolExecutor(5) as pool,
    ):

        def stats() -> dict[str, Any]:
            return dict(requests.get(f"{made.url}/stats", timeout=10).json())

        asked = [pool.submit(ask, sdk, f"q{n}", "stuck") for n in range(5)]
        until(lambda: stats()["waiting"] == 5, "all wait")
        until(lambda: stats()["in_flight"]["by_batch"][0]["upstream_status"] == "in_progress", "it runs")
        until(lambda: stats()["lag"]["sweep_seconds"] is not None, "the sweep has run", 60)

        found = stats()
        own_upstream.finish()
        assert [a.result() for a in asked] == [f"echo:q{n}" for n in range(5)]
        until(lambda: stats()["waiting"] == 0, "nobody waits")
        after = stats()

    [batch] = found["in_flight"]["by_batch"]
    assert batch["upstream_id"].startswith("batch_")
    assert (batch["model"], batch["total"], batch["attempt"]) == ("stuck", 5, 1)
    assert len(batch["credential"]) == 8
    assert found["lag"]["collect_seconds"] < 5
    assert found["redis"]["used_bytes"] > 0
    assert after["settled"]["2xx"] == 5
    assert after["in_flight"]["requests"] == 0


@pytest.fixture
def crowded(redis_client: Any) -> Any:
    """1,000 batches in flight and 150 groups queued."""
    for n in range(150):
        accept(*(make_request(group=Group(credential="c" * 24, endpoint="/v1/x", model=f"m{n}")) for _ in range(2)))
    one = Group(credential="d" * 24, endpoint="/v1/x", model="one")
    for _ in range(4):
        accept(make_request(group=one))
        assert batches.claim(one.id)
    [template, *_] = [key for key in redis_client.scan_iter("lp:batch:*")]
    record = redis_client.hgetall(template)
    pipeline = redis_client.pipeline()
    for n in range(996):
        pipeline.hset(f"lp:batch:{n:032x}", mapping={**record, "state": "submitted", "progress_completed": 1})
        pipeline.zadd("lp:batches", {f"{n:032x}": store.now_ms()})
    pipeline.execute()
    return redis_client


def test_with_1000_batches_and_150_groups_it_is_quick_and_bounded(crowded: Any) -> None:
    overview.read()
    took = []
    for _ in range(40):
        crowded.config_resetstat()
        began = time.process_time()
        found = overview.read()
        ours, redis_us = time.process_time() - began, crowded.info("commandstats")
        # Work, not waiting: what else the machine does meanwhile is not measured.
        took.append(ours + sum(command["usec"] for command in redis_us.values()) / 1e6)

    assert found["queued"]["groups"] == 150
    assert found["queued"]["requests"] == 300
    assert len(found["queued"]["by_group"]) == 100
    assert found["in_flight"]["batches"] == len(found["in_flight"]["by_batch"]) == 1000
    assert statistics.median(took) < 0.1  # of work; the rest is what else the machine does


def test_a_retry_that_finds_what_it_repeats_is_counted_and_a_conflict_is_not(redis_client: Any) -> None:
    accept(make_request(idempotency_key="k", fingerprint="a"))
    accept(make_request(idempotency_key="k", fingerprint="a"))
    with pytest.raises(IdempotencyConflict):
        accept(make_request(idempotency_key="k", fingerprint="b"))

    found = overview.read()
    assert (found["attached"], found["requests"]["total"]) == (1, 1)


def test_a_process_that_died_is_counted_no_more(redis_client: Any) -> None:
    holding.report("alive", 7)
    redis_client.hset(holding.KEY, "dead", f"1000 {store.now_ms() - holding.STALE_MS - 1}")

    assert overview.read()["waiting"] == 7
    holding.report("alive", 8)
    assert redis_client.hkeys(holding.KEY) == [b"alive"]


@pytest.fixture
def shut(redis_server: RedisServer, upstream: Simulator) -> Iterator[Stack]:
    """A stack whose figures are for those who know its token."""
    with running.running_stack(redis_server.url, upstream.url, LLM_PROXY_STATS_TOKEN="hush") as made:
        yield made


def test_with_a_token_only_those_who_know_it_may_look(shut: Stack) -> None:
    for path in ("/stats", "/metrics"):
        assert requests.get(shut.url + path, timeout=10).status_code == 401
        for given, status in (("hus", 401), ("hushh", 401), ("", 401), ("hush", 200)):
            answer = requests.get(shut.url + path, headers={"Authorization": f"Bearer {given}"}, timeout=10)
            assert answer.status_code == status
    page = requests.get(f"{shut.url}/dashboard", timeout=10)
    assert page.status_code == 401
    assert "token" in page.text
    assert requests.get(f"{shut.url}/healthz", timeout=10).ok

    session = requests.Session()
    wrong = session.post(f"{shut.url}/dashboard/login", data={"token": "hus"}, timeout=10)
    assert wrong.status_code == 401
    right = session.post(f"{shut.url}/dashboard/login", data={"token": "hush"}, timeout=10)
    assert right.status_code == 200
    assert "Batches in flight" in right.text
    assert {cookie.path for cookie in session.cookies} == {
        "/dashboard",
        "/stats",
        "/metrics",
    }  # nothing that is relayed
    assert "hush" not in str(list(session.cookies))
    for path in ("/dashboard/figures", "/stats", "/metrics"):
        assert session.get(shut.url + path, timeout=10).ok


def test_metrics_are_the_same_figures_from_every_process(client: openai.OpenAI, stack: Stack) -> None:
    ask(client, "hello", "measured")

    scraped = [requests.get(f"{stack.url}/metrics", timeout=10) for _ in range(6)]
    stats = requests.get(f"{stack.url}/stats", timeout=10).json()

    assert scraped[0].headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(scraped[-1].text)}
    declared = {metric.name.removesuffix("_total") for metric in METRICS}
    assert set(families) == declared
    answered = {
        text for page in scraped for text in page.text.splitlines() if text.startswith("llm_proxy_requests_total")
    }
    assert answered == {f"llm_proxy_requests_total {float(stats['requests']['total'])}"}
    durations = {s.labels.get("le", s.name): s.value for s in families["llm_proxy_request_duration_seconds"].samples}
    assert durations["+Inf"] == stats["requests"]["successful"] + stats["requests"]["failed"]
    tokens = {s.labels["model"] for s in families["llm_proxy_month_tokens"].samples}
    assert "measured" in tokens
