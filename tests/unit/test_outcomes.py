"""What the end of a line and of a batch means for the caller."""

from __future__ import annotations

import json

import pytest

from tasks import jsonl, outcomes
from tasks.models import Outcome


def end(line: dict[str, object], status: str = "completed") -> outcomes.LineEnd:
    parsed = jsonl.parse_result(json.dumps({"custom_id": "a", **line}).encode())
    return outcomes.line_end(parsed, upstream_id="batch_1", upstream_status=status)


def test_a_line_with_a_response_is_settled_with_its_status_and_body() -> None:
    reply = end({"response": {"status_code": 200, "request_id": "req", "body": {"x": 1}}}).reply

    assert reply is not None
    assert (reply.status, reply.body, reply.outcome) == (200, b'{"x": 1}', Outcome.SUCCESSFUL)
    assert reply.headers["x-request-id"] == "req"
    assert reply.headers["x-batch-id"] == "batch_1"


@pytest.mark.parametrize(("status", "retry"), [(400, False), (404, False), (429, True), (500, True), (503, True)])
def test_only_429_and_5xx_lines_are_worth_another_try(status: int, retry: bool) -> None:
    found = end({"response": {"status_code": status, "body": {"error": {}}}})

    assert found.retry is retry
    assert found.reply is not None
    assert found.reply.outcome is Outcome.FAILED


@pytest.mark.parametrize("code", ["batch_expired", "batch_cancelled"])
def test_a_line_that_was_not_run_is_not_final(code: str) -> None:
    assert end({"response": None, "error": {"code": code, "message": "x"}}) == outcomes.LineEnd(reply=None)


def test_in_an_expired_batch_any_line_without_a_response_was_not_run() -> None:
    assert end({"response": None, "error": {"code": "server_error"}}, "expired").reply is None


def test_a_line_without_response_key_is_tried_again_and_then_a_502_with_the_upstreams_code() -> None:
    found = end({"error": {"code": "boom", "message": "it broke"}})

    assert found.retry
    assert found.reply is not None
    assert found.reply.status == 502
    assert json.loads(found.reply.body)["error"]["code"] == "boom"


def failed(*errors: dict[str, object]) -> outcomes.FailedBatch:
    return outcomes.failed_batch(json.dumps(errors))


@pytest.mark.parametrize(
    "error",
    [
        {"code": "token_limit_exceeded", "message": "x"},
        {"code": "other", "message": "Enqueued request limit reached for m. Limit: 1,000,000"},
    ],
)
def test_a_full_queue_upstream_is_no_failure_of_the_requests(error: dict[str, object]) -> None:
    assert failed(error).queue_full


def test_errors_that_name_lines_settle_those_lines_only() -> None:
    plan = failed({"code": "invalid_json_line", "message": "bad", "line": 2})

    assert set(plan.lines) == {2}
    assert plan.lines[2].status == 400
    assert plan.all is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("model_not_found", 404),
        ("mismatched_model", 400),
        ("invalid_request", 400),
        ("insufficient_quota", 429),
        ("something_new", 502),
        ("", 502),
    ],
)
def test_other_failures_settle_all_with_the_status_that_a_direct_call_would_have_had(code: str, status: int) -> None:
    plan = failed({"code": code, "message": "why"})

    assert plan.all is not None
    assert plan.all.status == status
    assert plan.all.headers["x-should-retry"] == "false"


def test_a_failure_without_any_error_settles_all() -> None:
    assert failed().all is not None
