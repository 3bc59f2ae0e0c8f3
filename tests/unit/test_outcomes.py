"""What the end of a line and of a batch means for the caller."""

from __future__ import annotations

import json

import pytest

from tasks import jsonl, outcomes
from tasks.errors import UpstreamRefused
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


@pytest.mark.parametrize("code", ["model_not_found", "unsupported_endpoint"])
def test_what_cannot_be_batched_is_told_from_what_is_wrong_though_it_names_lines(code: str) -> None:
    plan = failed({"code": code, "message": "why", "line": 1})

    assert plan.unbatchable
    assert plan.all is not None
    assert not plan.lines


def refusal(status: int, **error: object) -> UpstreamRefused:
    return UpstreamRefused(status, json.dumps({"error": error} if error else "nothing").encode(), {})


@pytest.mark.parametrize(
    ("answer", "created", "unbatchable"),
    [
        (refusal(404, message="x"), True, True),
        (refusal(405), True, True),
        (refusal(404, code="unknown_url"), False, True),
        (refusal(404), False, True),
        (refusal(404, message="No such project.", code="project_not_found"), False, False),
        (refusal(400, param="endpoint", message="not one of"), True, True),
        (refusal(400, param="input_file_id"), True, False),
        (refusal(400, code="model_not_supported"), True, True),
        (refusal(401, code="invalid_api_key"), True, False),
    ],
)
def test_a_refusal_says_whether_such_requests_can_be_batched_at_all(
    answer: UpstreamRefused, created: bool, unbatchable: bool
) -> None:
    assert outcomes.is_unbatchable(answer, created=created) is unbatchable


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (refusal(429, code="insufficient_quota"), True),
        (refusal(429, type="insufficient_quota"), True),
        (refusal(429, code="token_limit_exceeded"), True),
        (refusal(429, code="rate_limit_exceeded", message="Limit 3 / min"), False),
        (refusal(501), True),
        (refusal(503), False),
    ],
)
def test_some_of_what_sounds_like_not_now_means_not_at_all(answer: UpstreamRefused, final: bool) -> None:
    assert outcomes.is_final(answer) is final


@pytest.mark.parametrize("counts", [None, [], "3", {"total": "x", "completed": -1, "failed": 1.5}])
def test_request_counts_that_make_no_sense_count_nothing(counts: object) -> None:
    assert set(outcomes.progress({"request_counts": counts}).values()) == {0}


def test_a_failure_without_any_error_settles_all() -> None:
    assert failed().all is not None
