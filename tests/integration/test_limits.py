"""The upstream's limits: its queue of tokens, its rate of creation, what it does not batch at all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tasks import batches, collector, connections, quota, settle
from tasks.models import Group
from tasks.settings import settings
from tests.integration import hasty
from tests.integration.accepting import accept, make_request, ok
from tests.integration.hasty import Case, assert_all_right, counters, post, post_many
from tests.integration.test_pipeline import batches_of
from tests.running import Stack
from tests.simulator.server import Simulator


@pytest.fixture(scope="module")
def _stack() -> Iterator[tuple[Stack, Simulator]]:
    with hasty.hasty_stack(LLM_PROXY_MAX_BATCH_REQUESTS="20") as made:
        yield made


@pytest.fixture(scope="module")
def _rejecting_stack() -> Iterator[tuple[Stack, Simulator]]:
    with hasty.hasty_stack(LLM_PROXY_UNBATCHABLE="reject") as made:
        yield made


def made_case(stack: tuple[Stack, Simulator], api_key: str) -> Case:
    hasty.fresh(stack[1])
    return *stack, api_key


@pytest.fixture
def case(_stack: tuple[Stack, Simulator], api_key: str) -> Case:
    return made_case(_stack, api_key)


@pytest.fixture
def rejecting(_rejecting_stack: tuple[Stack, Simulator], api_key: str) -> Case:
    return made_case(_rejecting_stack, api_key)


@pytest.mark.parametrize(("limit", "count"), [(20, 400), (13, 260), (50, 400)])
def test_a_long_queue_drains_through_a_small_limit_with_few_failed_batches(case: Case, limit: int, count: int) -> None:
    case[1].configure(enqueued_limit=limit)

    assert_all_right(post_many(case, f"limit-{limit}", count), f"limit-{limit}")

    made = batches_of(case[1], f"limit-{limit}")
    refused = [batch["status"] == "failed" for batch in made]
    # The first five are tried at once; of some two dozen batches, each one that is refused is 4 %. A busy machine hears
    # of refusals later.
    assert sum(refused[5:]) <= 0.3 * len(made)
    assert case[1].stats()["billed"]["more_than_once"] == []


def test_a_queue_that_others_have_filled_is_asked_again_after_a_pause(case: Case) -> None:
    case[1].configure(ends=[{"model": "others", "count": 3, "enqueued_limit": 1}])

    assert_all_right(post_many(case, "others", 10), "others")

    made = batches_of(case[1], "others")
    assert [batch["status"] for batch in made].count("failed") == 3
    began = [float(str(batch["created_at"])) for batch in made]
    assert began[1] - began[0] >= 1


def test_a_model_that_cannot_be_batched_is_sent_synchronously_and_remembered(case: Case) -> None:
    case[1].configure(ends=[{"model": "live-only", "fail": [{"code": "model_not_found", "message": "Not in batch."}]}])

    first = post_many(case, "live-only", 3)
    later = post(case, "live-only", "again")

    assert_all_right(first, "live-only")
    assert {a.headers["x-batch-lane"] for a in [*first, later]} == {"sync"}
    assert len(batches_of(case[1], "live-only")) == 1
    assert int(later.headers["x-batch-wait-ms"]) < int(first[0].headers["x-batch-wait-ms"])


def test_a_model_that_does_not_exist_is_the_upstreams_404(case: Case) -> None:
    answer = post(case, "no-such-model", "x")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("POST /v1/batches", "404", None),
        ("POST /v1/batches", "405", None),
        ("POST /v1/files", "404", "unknown_url"),
        ("POST /v1/files", "405", None),
        ("POST /v1/files", "501", None),
    ],
)
def test_an_upstream_without_batches_is_spoken_to_synchronously(
    case: Case, path: str, kind: str, code: str | None
) -> None:
    case[1].configure(faults=[{"path": path, "kind": kind, "code": code}])

    answers = post_many(case, f"none {kind}{code}", 3)
    assert_all_right(answers, f"none {kind}{code}")
    calls = case[1].stats()["calls"][path]
    later = post(case, f"none {kind}{code}", "again")

    assert {a.headers["x-batch-lane"] for a in [*answers, later]} == {"sync"}
    assert case[1].stats()["calls"][path] == calls


def test_what_cannot_be_batched_is_another_credentials_own_affair(case: Case) -> None:
    case[1].configure(
        ends=[{"model": "mine", "count": 1, "fail": [{"code": "model_not_found", "message": "Not with this key."}]}]
    )
    assert post(case, "mine", "x").headers["x-batch-lane"] == "sync"

    other = post((case[0], case[1], f"{case[2]}-other"), "mine", "y")

    assert other.headers["x-batch-lane"] == "batch"


def test_with_reject_the_upstreams_words_are_the_answer_and_it_is_not_asked_again(rejecting: Case) -> None:
    problem = {"code": "model_not_found", "message": "Not in batch."}
    rejecting[1].configure(ends=[{"model": "reject", "fail": [problem]}])

    answers = [post(rejecting, "reject", "x") for _ in range(2)]

    assert [a.status_code for a in answers] == [404, 404]
    assert {a.json()["error"]["message"] for a in answers} == {"Not in batch."}
    assert len(batches_of(rejecting[1], "reject")) == 1
    assert rejecting[1].stats()["sync_requests"] == 0


def test_stats_tell_of_fallbacks_lanes_and_ends(case: Case) -> None:
    before = counters(case)
    case[1].configure(ends=[{"model": "told", "fail": [{"code": "model_not_found", "message": "Not in batch."}]}])
    post_many(case, "told", 2)
    after = counters(case)

    assert after["exceptions"]["fallbacks"]["sync"] - before["exceptions"]["fallbacks"]["sync"] == 2
    assert after["lanes"]["sync"] - before["lanes"]["sync"] == 2
    assert after["ends"]["failed"] - before["ends"]["failed"] == 1


def finish(batch_id: str) -> None:
    """As delivery does: its lines are settled and it is in flight no more."""
    settle.settle((request_id, batch_id, ok()) for request_id, _ in batches.lines(batch_id))
    client: Any = connections.client()
    client.hdel(f"lp:flight:{client.hget(f'lp:batch:{batch_id}', 'quota').decode()}", batch_id)


def test_many_models_with_a_trickle_each_stay_below_the_rate_of_creation_and_all_are_sent(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour in three seconds: 50 models, some 40 requests a second, 60 creations an hour."""
    hour, most = 3.0, 60
    monkeypatch.setenv("LLM_PROXY_MAX_BATCHES_PER_HOUR", str(most))
    settings.cache_clear()
    monkeypatch.setattr(batches, "CREATION_PERIOD_SECONDS", hour)
    groups = [Group(credential="c" * 24, endpoint="/v1/chat/completions", model=f"m{n}") for n in range(50)]
    created: list[float] = []
    sent = accepted = 0
    began = time.monotonic()
    while (coming := time.monotonic() - began < 1.5 * hour or accepted <= 2 * most) or sent < accepted:
        if coming:
            accept(*(make_request(group=groups[(accepted + n) % 50]) for n in range(10)))
            accepted += 10
        for batch_id in collector.collect():
            created.append(time.monotonic())
            sent += len(batches.lines(batch_id))
            finish(batch_id)

    most_in_an_hour = max(sum(t <= other < t + hour for other in created) for t in created)
    assert most_in_an_hour <= most


def test_no_more_than_a_few_batches_are_under_validation_before_the_first_is_admitted(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PROXY_MAX_BATCH_REQUESTS", "1")
    settings.cache_clear()
    accept(*(make_request() for _ in range(20)))

    first = list(collector.collect())
    assert len(first) == batches.PROBES
    for batch_id in first:
        quota.admitted(batch_id)

    assert len(list(collector.collect())) == batches.PROBES
