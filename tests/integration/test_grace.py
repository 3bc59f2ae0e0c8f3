"""`X-Batch-Max-Wait`: a batch that takes too long is cancelled, and its rest sent at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.integration import hasty
from tests.integration.hasty import Case, assert_all_right, counters, post, post_many
from tests.integration.test_pipeline import batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator

WAIT = {"X-Batch-Max-Wait": "1.5"}


@pytest.fixture(scope="module")
def _stack() -> Iterator[tuple[Stack, Simulator]]:
    with hasty.hasty_stack(LLM_PROXY_SYNC_CONCURRENCY="3") as made:
        yield made


@pytest.fixture(scope="module")
def _stack_without_fallback() -> Iterator[tuple[Stack, Simulator]]:
    with hasty.hasty_stack(LLM_PROXY_FALLBACK="off", LLM_PROXY_GRACE_SECONDS="1.5") as made:
        yield made


@pytest.fixture
def case(_stack: tuple[Stack, Simulator], api_key: str) -> Case:
    stack, upstream = _stack
    hasty.fresh(upstream)
    return stack, upstream, api_key


@pytest.fixture
def without_fallback(_stack_without_fallback: tuple[Stack, Simulator], api_key: str) -> Case:
    stack, upstream = _stack_without_fallback
    hasty.fresh(upstream)
    return stack, upstream, api_key


def lanes(answers: list[object]) -> list[str]:
    return sorted(a.headers["x-batch-lane"] for a in answers)  # type: ignore[attr-defined]  # requests' answers


def paid_once(case: Case, count: int) -> bool:
    billed = case[1].stats()["billed"]
    return bool(billed["requests"] == count and billed["more_than_once"] == [])


def test_what_is_finished_is_delivered_and_the_rest_is_sent_by_flex(case: Case) -> None:
    case[1].configure(ends=[{"model": "slow", "stuck": "in_progress", "expire_frac": 0.5}])

    answers = post_many(case, "slow", 4, **{"X-Batch-Max-Wait": "4"})  # on a busy machine it must begin before

    assert_all_right(answers, "slow")
    assert lanes(answers) == ["batch", "batch", "flex", "flex"]
    assert {a.json()["service_tier"] for a in answers if a.headers["x-batch-lane"] == "flex"} == {"flex"}
    assert [batch["status"] for batch in batches_of(case[1], "slow")] == ["cancelled"]
    assert paid_once(case, 4)


def test_without_capacity_for_flex_the_standard_tier_is_used_and_named(case: Case) -> None:
    case[1].configure(ends=[{"model": "busy", "stuck": "validating"}], flex_unavailable=True)

    answers = post_many(case, "busy", 2, **WAIT)

    assert_all_right(answers, "busy")
    assert lanes(answers) == ["sync", "sync"]
    assert paid_once(case, 2)


def test_a_tier_that_the_caller_named_is_not_replaced(case: Case) -> None:
    case[1].configure(ends=[{"model": "tier", "stuck": "in_progress", "expire_frac": 0}])
    with hasty.sdk(case) as client:
        answer = client.chat.completions.create(
            model="tier",
            messages=[{"role": "user", "content": "x"}],
            service_tier="priority",
            extra_headers=WAIT,
        )

    assert answer.service_tier == "priority"


def test_while_the_upstream_takes_its_time_to_cancel_nothing_is_sent(case: Case) -> None:
    case[1].configure(ends=[{"model": "lazy", "stuck": "in_progress", "expire_frac": 0, "cancel_delay": 2.0}])
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(post_many, case, "lazy", 3, **WAIT)
        until(lambda: [b for b in batches_of(case[1], "lazy") if b["status"] == "cancelling"], "it is being cancelled")
        while [b for b in batches_of(case[1], "lazy") if b["status"] == "cancelling"]:
            assert case[1].stats()["sync_requests"] == 0
            time.sleep(0.1)

        assert_all_right(job.result(), "lazy")
    assert paid_once(case, 3)


@pytest.mark.parametrize("kind", ["500", "409", "reset_before", "404"])
def test_a_batch_that_completes_instead_of_being_cancelled_is_simply_delivered(case: Case, kind: str) -> None:
    case[1].configure(batch_delay=2.5, faults=[{"path": "POST /v1/batches/*/cancel", "kind": kind}])

    answers = post_many(case, "completes", 3, **WAIT)

    assert_all_right(answers, "completes")
    assert lanes(answers) == ["batch"] * 3
    assert paid_once(case, 3)


def test_a_lost_answer_to_cancel_cancels_all_the_same(case: Case) -> None:
    case[1].configure(
        ends=[{"model": "unheard", "stuck": "in_progress", "expire_frac": 0}],
        faults=[{"path": "POST /v1/batches/*/cancel", "kind": "reset_after"}],
    )

    assert_all_right(post_many(case, "unheard", 2, **WAIT), "unheard")

    assert paid_once(case, 2)


def test_requests_that_are_late_before_they_could_be_submitted_are_sent_at_once(case: Case) -> None:
    case[1].configure(faults=[{"path": "POST /v1/files", "kind": "503"}])

    answers = post_many(case, "unsent", 2, **WAIT)

    assert_all_right(answers, "unsent")
    assert batches_of(case[1], "unsent") == []
    assert counters(case)["ends"]["unsubmitted"] >= 1


def test_a_longest_wait_is_part_of_the_group(case: Case) -> None:
    with ThreadPoolExecutor(2) as pool:
        patient = pool.submit(post, case, "apart", "patient")
        hurried = pool.submit(post, case, "apart", "hurried", **WAIT)
        assert [patient.result().status_code, hurried.result().status_code] == [200, 200]

    assert [batch["lines"] for batch in batches_of(case[1], "apart")] == [1, 1]


@pytest.mark.parametrize("wait", ["0", "-1", "soon", "nan", "inf", "1e3", ""])
def test_a_longest_wait_that_is_no_number_of_seconds_is_refused(case: Case, wait: str) -> None:
    answer = post(case, "wait", "x", **{"X-Batch-Max-Wait": wait})

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "X-Batch-Max-Wait"


def test_calls_of_one_credential_are_bounded_however_many_wait(case: Case) -> None:
    case[1].configure(sync_delay=0.2)

    answers = post_many(case, "bounded", 20, **{"X-Batch-Mode": "sync"})

    assert_all_right(answers, "bounded")
    assert case[1].stats()["sync_most"] <= 3
    assert paid_once(case, 20)


def test_a_429_pauses_all_calls_of_the_credential_for_as_long_as_it_says(case: Case) -> None:
    case[1].configure(faults=[{"path": "POST /v1/chat/completions", "kind": "429", "count": 1, "retry_after": "2"}])

    answers = post_many(case, "paused", 8, **{"X-Batch-Mode": "sync"})

    assert_all_right(answers, "paused")
    calls = [entry["at"] for entry in case[1].log() if entry["path"] == "/v1/chat/completions"]
    gaps = [later - earlier for earlier, later in pairwise(calls)]
    assert max(gaps) >= 1.5
    assert len(calls) <= 8 + 3


def test_mode_flex_is_answered_by_flex_at_once(case: Case) -> None:
    answer = post(case, "now", "x", **{"X-Batch-Mode": "flex"})

    assert answer.json()["service_tier"] == "flex"
    assert answer.headers["x-batch-lane"] == "flex"
    assert batches_of(case[1], "now") == []


def test_mode_flex_is_refused_where_there_is_none(case: Case) -> None:
    with hasty.sdk(case) as client, pytest.raises(Exception, match="flex is there for") as caught:
        client.embeddings.create(model="e", input="x", extra_headers={"X-Batch-Mode": "flex"})

    assert getattr(caught.value, "status_code", None) == 400


def test_without_fallback_the_rest_is_told_that_it_was_late(without_fallback: Case) -> None:
    without_fallback[1].configure(ends=[{"model": "off", "stuck": "in_progress", "expire_frac": 0.5}])

    answers = post_many(without_fallback, "off", 4)

    assert sorted(a.status_code for a in answers) == [200, 200, 504, 504]
    assert {a.json()["error"]["code"] for a in answers if a.status_code == 504} == {"batch_late"}
    assert without_fallback[1].stats()["sync_requests"] == 0
