"""Every way in which a batch, or a line in it, can end, and what the caller gets."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.integration import hasty
from tests.integration.hasty import Case, assert_all_right, counters, post, post_many
from tests.integration.test_pipeline import batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator


@pytest.fixture(scope="module")
def _stack() -> Iterator[tuple[Stack, Simulator]]:
    with hasty.hasty_stack(LLM_PROXY_MAX_LINE_ATTEMPTS="3") as made:
        yield made


@pytest.fixture
def case(_stack: tuple[Stack, Simulator], api_key: str) -> Case:
    stack, upstream = _stack
    hasty.fresh(upstream)
    return stack, upstream, api_key


def nothing_is_paid_twice(upstream: Simulator) -> bool:
    return bool(upstream.stats()["billed"]["more_than_once"] == [])


def test_a_batch_in_which_every_line_failed_has_no_output_file_and_every_caller_gets_their_error(case: Case) -> None:
    answers = post_many(case, "fail-400", 3)

    assert [a.status_code for a in answers] == [400] * 3
    assert answers[0].json()["error"]["code"] == "context_length_exceeded"
    [batch] = batches_of(case[1], "fail-400")
    assert batch["status"] == "completed"
    assert batch["output_file_id"] is None


@pytest.mark.parametrize(
    "end",
    [
        {"blank_error_file_id": True},
        {"empty_files": True},
        {"omit_nulls": True},
        {"body_as_string": True},
        {"request_counts": {"total": 9, "completed": 0, "failed": 0}},
        {"request_counts": {"total": 0, "completed": 0, "failed": 0}},
        {"rename_status": {"in_progress": "scheduling", "finalizing": "thinking"}},
        {"rename_status": {"completed": "COMPLETED", "in_progress": "IN_PROGRESS"}},
    ],
    ids=str,
)
def test_what_servers_of_the_dialect_do_differently_changes_no_answer(case: Case, end: dict[str, object]) -> None:
    case[1].configure(ends=[{"model": "odd", **end}])

    assert_all_right(post_many(case, "odd", 3), "odd")

    assert [batch["lines"] for batch in batches_of(case[1], "odd")] == [3]
    assert nothing_is_paid_twice(case[1])


def test_an_unknown_status_is_counted_and_polled_on(case: Case) -> None:
    before = counters(case)["exceptions"]["unknown_statuses"]
    case[1].configure(ends=[{"model": "status", "rename_status": {"in_progress": "pondering"}}], batch_delay=1.5)

    assert_all_right(post_many(case, "status", 2), "status")

    assert counters(case)["exceptions"]["unknown_statuses"] > before


def test_a_4xx_line_in_the_output_file_is_that_callers_error(case: Case) -> None:
    case[1].configure(ends=[{"model": "fail-400", "errors_in_output": True}])

    answer = post(case, "fail-400", "no")

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("shape", ["null_response", "no_response"])
def test_an_error_line_without_a_response_is_tried_three_times_and_then_its_words_are_the_answer(
    case: Case, shape: str
) -> None:
    case[1].configure(ends=[{"model": "fail-400", "error_line": shape}])

    answer = post(case, "fail-400", f"no {shape}")

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert len(batches_of(case[1], "fail-400")) == 3


@pytest.mark.parametrize(("control", "status"), [("fail-429", 429), ("fail-500", 500)])
def test_only_the_lines_that_failed_for_the_moment_are_submitted_again_three_times_in_all(
    case: Case, control: str, status: int
) -> None:
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(post, case, "mixed", "fails", user=control)
        answers = post_many(case, "mixed", 3)

    assert_all_right(answers, "mixed")
    assert failing.result().status_code == status
    assert sum(int(str(batch["lines"])) for batch in batches_of(case[1], "mixed")) == 3 + 3
    assert nothing_is_paid_twice(case[1])


def test_an_expired_batch_delivers_what_was_paid_for_and_the_rest_travels_again(case: Case) -> None:
    case[1].configure(ends=[{"model": "expires", "count": 1, "expire_after": 0.25, "expire_frac": 0.5}])

    assert_all_right(post_many(case, "expires", 10), "expires")

    assert [batch["lines"] for batch in batches_of(case[1], "expires")] == [10, 5]
    assert case[1].stats()["billed"]["requests"] == 10


def test_a_batch_that_somebody_else_cancels_is_delivered_as_far_as_it_got_and_the_rest_travels_again(
    case: Case,
) -> None:
    case[1].configure(ends=[{"model": "foreign", "count": 1, "stuck": "in_progress"}])
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(post_many, case, "foreign", 4)
        until(lambda: [b for b in batches_of(case[1], "foreign") if b["status"] == "in_progress"], "it runs")
        [batch] = batches_of(case[1], "foreign")
        headers = {"Authorization": f"Bearer {case[2]}"}
        requests.post(f"{case[1].base_url}/batches/{batch['id']}/cancel", headers=headers, timeout=10)

        assert_all_right(job.result(), "foreign")

    assert case[1].stats()["billed"]["requests"] == 4


def test_a_validation_failure_that_names_lines_costs_those_lines_only(case: Case) -> None:
    problem = {"code": "invalid_json_line", "message": "This line is bad.", "line": 2}
    case[1].configure(ends=[{"model": "named", "count": 1, "fail": [problem]}])

    answers = post_many(case, "named", 4)

    assert sorted(a.status_code for a in answers) == [200, 200, 200, 400]
    [refused] = [a for a in answers if a.status_code == 400]
    assert refused.json()["error"]["message"] == "This line is bad."
    assert refused.headers["x-should-retry"] == "false"
    assert [batch["lines"] for batch in batches_of(case[1], "named")] == [4, 3]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("mismatched_model", 400),
        ("invalid_request", 400),
        ("billing_hard_limit_reached", 429),
        ("insufficient_quota", 429),
        ("something_new", 502),
    ],
)
def test_a_failed_batch_settles_all_with_the_status_that_its_code_has_elsewhere(
    case: Case, code: str, status: int
) -> None:
    case[1].configure(ends=[{"model": "failed", "fail": [{"code": code, "message": f"It is {code}."}]}])

    answers = post_many(case, "failed", 2)

    assert [a.status_code for a in answers] == [status] * 2
    assert answers[0].json()["error"]["message"] == f"It is {code}."
    assert answers[0].headers["x-should-retry"] == "false"
    assert len(batches_of(case[1], "failed")) == 1


@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches"])
def test_an_account_without_money_is_told_so_at_once(case: Case, path: str) -> None:
    case[1].configure(faults=[{"path": path, "kind": "429", "code": "insufficient_quota", "message": "No money."}])

    answer = post(case, "broke", "hello")

    assert answer.status_code == 429
    assert answer.json()["error"]["message"] == "No money."


def test_a_full_queue_that_is_said_on_create_is_waited_out(case: Case) -> None:
    case[1].configure(faults=[{"path": "POST /v1/batches", "kind": "429", "code": "token_limit_exceeded", "count": 1}])

    assert_all_right(post_many(case, "queue", 3), "queue")

    assert counters(case)["exceptions"]["over_quota"] >= 1


def test_a_batch_that_turns_up_after_its_input_file_was_deleted_fails_nobody(case: Case) -> None:
    upstream = case[1]
    upstream.configure(
        list_lags=True,
        faults=[{"path": "POST /v1/batches", "kind": "reset_after", "count": 1}],
        ends=[{"model": "turned up", "count": 1, "fail": [{"code": "invalid_request", "message": "No file."}]}],
    )

    assert_all_right(post_many(case, "turned up", 2), "turned up")

    assert len(batches_of(upstream, "turned up")) == 2


def test_embedding_inputs_count_towards_a_batchs_limit_and_token_arrays_are_one_input(case: Case) -> None:
    stack, upstream, key = case

    def embed(given: object) -> int:
        answer = requests.post(
            f"{stack.url}/v1/embeddings",
            json={"model": "emb", "input": given},
            headers={"Authorization": f"Bearer {key}"},
            timeout=90,
        )
        return len(answer.json()["data"])

    inputs: list[object] = [["word"] * 20_000, ["word"] * 20_000, ["word"] * 20_000, [1, 2, 3], [[1], [2, 3]]]
    with ThreadPoolExecutor(5) as pool:
        assert list(pool.map(embed, inputs)) == [20_000, 20_000, 20_000, 1, 2]

    assert all(batch["status"] == "completed" for batch in batches_of(upstream, "emb"))
    assert len(batches_of(upstream, "emb")) >= 2
