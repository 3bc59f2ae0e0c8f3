"""What the end of a line and of a batch means for the caller."""

from __future__ import annotations

import json

import pytest

from tasks import jsonl, outcomes
from tasks.errors import UpstreamRefused
from tasks.models import Outcome, Reply


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


@pytest.mark.parametrize("batch", ["completed", "expired"])
@pytest.mark.parametrize("body", [{}, {"body": None}, {"body": ""}])
@pytest.mark.parametrize("error", [{"message": "it broke"}, {"code": "boom", "message": "it broke"}, "it broke"])
@pytest.mark.parametrize(
    ("status", "told", "retry"),
    [(400, 400, False), (499, 499, False), (429, 429, True), (500, 500, True), (503, 503, True), (200, 502, False)],
)
def test_an_error_beside_a_response_without_a_body_is_the_answer_and_no_200(
    batch: str, body: dict[str, object], error: dict[str, object] | str, status: int, told: int, retry: bool
) -> None:
    found = end({"response": {"status_code": status, "request_id": "req", **body}, "error": error}, batch)

    assert found.retry is retry
    assert found.reply is not None
    assert (found.reply.status, found.reply.outcome) == (told, Outcome.FAILED)
    assert json.loads(found.reply.body)["error"] == {
        "message": "it broke",
        "type": "invalid_request_error" if status in {400, 499} else "upstream_error",
        "param": None,
        "code": error.get("code") if isinstance(error, dict) else None,
    }
    assert found.reply.headers["x-request-id"] == "req"
    assert found.reply.headers["x-batch-lane"] == "batch"


@pytest.mark.parametrize("response", [{}, {"status_code": 0, "body": {"x": 1}}])
def test_a_response_without_a_status_is_none(response: dict[str, object]) -> None:
    found = end({"response": response, "error": {"message": "it broke"}})

    assert found.retry
    assert found.reply is not None
    assert found.reply.status == 502
    assert "it broke" in found.reply.body.decode()


def test_an_error_that_is_a_code_and_no_more_is_put_into_words() -> None:
    reply = end({"response": {"status_code": 422}, "error": {"code": "boom"}}).reply

    assert reply is not None
    error = json.loads(reply.body)["error"]
    assert (error["message"], error["code"]) == ("The upstream refused the request.", "boom")


def test_an_error_beside_a_body_is_not_looked_at() -> None:
    found = end({"response": {"status_code": 200, "body": {"x": 1}}, "error": {"code": "boom"}}).reply

    assert found is not None
    assert found.status == 200


@pytest.mark.parametrize("code", [{"a": 1}, [1], 7, True])
def test_a_code_that_is_no_text_is_read_all_the_same(code: object) -> None:
    assert outcomes.failed_batch(json.dumps([{"code": code, "message": "no"}])).all is not None
    answer = json.dumps({"error": {"code": code, "type": code, "message": "no"}}).encode()
    refused = UpstreamRefused(400, answer, {})
    assert not outcomes.is_final(refused)
    assert not outcomes.is_queue_full(refused)
    assert not outcomes.is_unbatchable(refused, created=True)


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


def error_of(reply: Reply | None) -> dict[str, object]:
    assert reply is not None
    error: dict[str, object] = json.loads(reply.body)["error"]
    return error


def test_an_answered_lines_reply_is_the_upstreams_and_says_by_which_batch_it_came() -> None:
    reply = end({"response": {"status_code": 599, "body": {}}}).reply

    assert reply == Reply(
        status=599,
        headers={"content-type": "application/json", "x-batch-id": "batch_1", "x-batch-lane": "batch"},
        body=b"{}",
        outcome=Outcome.FAILED,
    )


@pytest.mark.parametrize("status", [1, 199, 204, 205, 304, 600, 1000])
def test_a_status_that_no_answer_with_a_body_has_is_a_502(status: int) -> None:
    found = end({"response": {"status_code": status, "body": {}}})

    assert not found.retry
    assert found.reply is not None
    assert found.reply.status == 502
    assert error_of(found.reply)["code"] == "bad_status"
    assert error_of(found.reply)["message"] == "The upstream answered with no status of HTTP."


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_in_a_batch_that_was_cut_short_any_line_without_a_response_was_not_run(status: str) -> None:
    assert end({"error": {"code": "server_error"}}, status) == outcomes.LineEnd(reply=None)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        ({"code": "boom", "message": "it broke"}, "boom", "it broke"),
        ({"code": 7, "message": ""}, "7", "The upstream did not run this line."),
        ({"message": "it broke"}, None, "it broke"),
        ({"code": None}, None, "The upstream did not run this line."),
        ("it broke", None, "it broke"),
        (None, None, "The upstream did not run this line."),
    ],
)
def test_what_a_line_without_a_response_says_is_passed_on(error: object, code: str | None, message: str) -> None:
    told = error_of(end({"error": error}).reply)

    assert (told["code"], told["message"]) == (code, message)


def test_a_failure_is_told_in_the_upstreams_words_and_type() -> None:
    for code, type_ in (
        ("invalid_request", "invalid_request_error"),
        ("missing_field", "invalid_request_error"),
        ("model_not_found", "invalid_request_error"),
        ("insufficient_quota", "upstream_error"),
        ("something_new", "upstream_error"),
    ):
        plan = failed({"code": code, "message": "why"})
        assert plan.all is not None
        assert plan.all.outcome is Outcome.FAILED
        assert error_of(plan.all) == {"message": "why", "type": type_, "param": None, "code": code}


def test_a_failure_without_words_says_so() -> None:
    assert error_of(failed({"line": None}).all)["message"] == "The upstream refused the request."
    assert error_of(failed().all)["message"] == "The upstream failed the batch without saying why."
    assert error_of(failed().all)["code"] is None
    assert failed() == outcomes.failed_batch("")


def test_a_500_is_not_final_and_a_full_queue_is_told_from_other_refusals() -> None:
    assert not outcomes.is_final(refusal(500, code="insufficient_quota"))
    assert outcomes.is_queue_full(refusal(429, code="token_limit_exceeded"))
    assert not outcomes.is_queue_full(refusal(429, code="rate_limit_exceeded"))


def test_the_refusal_of_a_create_is_kept_as_a_failed_batchs_errors() -> None:
    kept = outcomes.errors_of(refusal(429, code="token_limit_exceeded", message="x"))

    assert json.loads(kept) == [{"code": "token_limit_exceeded", "message": "x"}]
    assert outcomes.failed_batch(kept).queue_full
    assert json.loads(outcomes.errors_of(refusal(404))) == [{}]


def test_a_batch_is_read_for_delivery_whatever_is_left_out() -> None:
    counts = {"total": 3, "completed": 1, "failed": 2}
    answer = {"output_file_id": "o", "error_file_id": "", "errors": {"data": [{"code": "x"}]}, "request_counts": counts}

    assert outcomes.batch_fields(answer) == {
        "output_file": "o",
        "error_file": "",
        "errors": '[{"code":"x"}]',
        "progress_total": 3,
        "progress_completed": 1,
        "progress_failed": 2,
    }
    assert outcomes.batch_fields({"error_file_id": "e", "errors": [{"code": "x"}]})["errors"] == '[{"code":"x"}]'
    nothing = outcomes.batch_fields({"errors": {"data": 7}})
    assert (nothing["output_file"], nothing["errors"]) == ("", "[]")
    assert outcomes.batch_fields({"errors": "x"})["errors"] == "[]"
    assert outcomes.batch_fields({"error_file_id": "e"})["error_file"] == "e"


def test_a_status_is_read_in_any_case() -> None:
    assert [outcomes.status({"status": "Completed"}), outcomes.status({}), outcomes.status({"status": None})] == [
        "completed",
        "",
        "",
    ]
