"""Nobody waits longer than is promised: late batches, batches that never end, keys that are revoked meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration import hasty
from tests.integration.hasty import Case, assert_all_right, counters, post, post_many
from tests.integration.test_pipeline import batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator

DEADLINE_SECONDS = 6.0


@pytest.fixture(scope="module")
def _stack() -> Iterator[tuple[Stack, Simulator]]:
    with hasty.hasty_stack(LLM_PROXY_REQUEST_DEADLINE_SECONDS=str(DEADLINE_SECONDS)) as made:
        yield made


@pytest.fixture
def case(_stack: tuple[Stack, Simulator], api_key: str) -> Case:
    stack, upstream = _stack
    hasty.fresh(upstream)
    return stack, upstream, api_key


def in_time(began: float) -> bool:
    return time.monotonic() - began < DEADLINE_SECONDS + 20


def test_a_batch_that_never_ends_is_cancelled_its_finished_lines_delivered_and_the_rest_told_so(case: Case) -> None:
    case[1].configure(ends=[{"model": "stuck", "stuck": "in_progress", "expire_frac": 0.5}])
    began = time.monotonic()

    answers = post_many(case, "stuck", 4)

    assert in_time(began)
    assert sorted(a.status_code for a in answers) == [200, 200, 504, 504]
    [late, _] = [a for a in answers if a.status_code == 504]
    assert late.json()["error"]["code"] == "batch_deadline"
    assert late.headers["x-should-retry"] == "false"
    assert [batch["status"] for batch in batches_of(case[1], "stuck")] == ["cancelled"]


def test_a_batch_that_cannot_even_be_cancelled_is_given_up_at_the_deadline(case: Case) -> None:
    case[1].configure(
        ends=[{"model": "deaf", "rename_status": {"in_progress": "musing"}, "stuck": "in_progress"}],
        faults=[{"path": "POST /v1/batches/*/cancel", "kind": "405"}],
    )
    began = time.monotonic()

    assert post(case, "deaf", "hello").status_code == 504

    assert in_time(began)
    assert counters(case)["ends"]["given_up"] >= 1


@pytest.mark.parametrize("path", ["GET /v1/batches/batch_*", "GET /v1/files/*/content"])
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_look_that_is_refused_until_the_deadline_is_the_answer(case: Case, path: str, status: int) -> None:
    case[1].configure(faults=[{"path": path, "kind": str(status), "message": "not any more"}])
    began = time.monotonic()

    answer = post(case, "revoked", "hello")

    assert in_time(began)
    assert answer.status_code == status
    assert answer.json()["error"]["message"] == "not any more"


@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches*", "GET /v1/files/*/content"])
def test_an_upstream_that_is_down_until_the_deadline_makes_it_a_504(case: Case, path: str) -> None:
    case[1].configure(faults=[{"path": path, "kind": "503"}])
    began = time.monotonic()

    answer = post(case, "down", path)

    assert in_time(began)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "batch_deadline"


def test_a_look_that_is_refused_for_a_moment_is_repeated(case: Case) -> None:
    case[1].configure(faults=[{"path": "GET /v1/batches/batch_*", "kind": "401", "count": 2}])

    assert_all_right(post_many(case, "moment", 2), "moment")


def test_requests_that_no_worker_has_taken_by_the_deadline_are_answered_without_being_submitted(case: Case) -> None:
    stack, upstream, _ = case
    workers = [name for name in stack.processes if name.startswith("worker")]
    stack.kill(*workers)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(post, case, "unattended", "hello")
        time.sleep(DEADLINE_SECONDS)  # nothing else happens: that is the case
        stack.start(*workers)

        assert job.result().status_code == 504
    assert batches_of(upstream, "unattended") == []


def test_nothing_of_an_overdue_batch_stays_in_the_store(case: Case) -> None:
    case[1].configure(ends=[{"model": "left", "stuck": "validating"}])

    assert post(case, "left", "hello").status_code == 504

    until(lambda: case[1].stats()["files_live"] == 0, "its file is deleted")
