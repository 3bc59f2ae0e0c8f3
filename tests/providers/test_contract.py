"""What every provider is promised, and held to: the same tests for all of them."""

from __future__ import annotations

import pytest
import requests

from tests.providers.callers import Caller
from tests.running import until
from tests.simulators.vendor import End

CREATE = {
    "mistral": "POST /mistral/v1/batch/jobs",
    "gemini": ":batchGenerateContent",
    "gemini-inline": ":batchGenerateContent",
    "anthropic": "/messages/batches",
}


def texts(caller: Caller, count: int, word: str = "question") -> list[str]:
    return [f"{word} {n}" for n in range(count)]


def assert_answered(caller: Caller, asked: list[str], answers: list[requests.Response]) -> None:
    assert [caller.said(answer) for answer in answers] == [f"echo:{text}" for text in asked]


def create_call(caller: Caller) -> str:
    return CREATE.get(caller.name, "/batches")


def nothing_is_left(caller: Caller) -> bool:
    jobs = caller.vendor.jobs if caller.name in {"anthropic", "gemini-inline"} else {}
    return not caller.vendor.files and not jobs


def test_requests_travel_together_and_each_has_its_own_answer_and_usage(caller: Caller) -> None:
    asked = texts(caller, 6)

    answers = caller.ask_all(asked)

    assert_answered(caller, asked, answers)
    assert {answer.headers["x-batch-lane"] for answer in answers} == {"batch"}
    assert {caller.tokens(answer) for answer in answers} == {7}
    assert caller.created() <= 3
    assert not caller.doubted()
    assert set(caller.vendor.paid.values()) == {1}
    until(lambda: nothing_is_left(caller), "the upstream keeps no prompt and no answer")


def test_lines_that_fail_have_their_own_errors_in_the_providers_shape(caller: Caller) -> None:
    wrong, later, right = caller.ask_all(["fail-400", "fail-429 once", "well"])

    assert wrong.status_code == 400
    assert "asked for 400" in caller.error(wrong)
    assert caller.vendor.tries["fail-400"] == 1
    assert caller.said(later) == "echo:fail-429 once"
    assert caller.said(right) == "echo:well"


def test_a_batch_that_fails_its_validation_fails_its_requests_and_nobody_is_paid(caller: Caller) -> None:
    if caller.name == "anthropic":  # it validates nothing before the lines run
        caller.vendor.trouble.append((create_call(caller), "before-400"))
    caller.vendor.ends.append(End("failed", error={"code": 3, "message": "invalid: all of it"}))
    if not caller.google and caller.name != "anthropic":
        caller.vendor.ends[0].error["code"] = "invalid_request"

    answer = caller.ask("hello")

    assert 400 <= answer.status_code < 600
    assert caller.name == "anthropic" or "invalid: all of it" in caller.error(answer)
    assert not caller.vendor.paid


def test_a_full_queue_is_waited_for(caller: Caller) -> None:
    error: dict[str, object] = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
    if caller.google:
        error = {"code": 8, "message": "Resource exhausted"}
    if caller.name == "anthropic":  # says so when a batch is created
        caller.vendor.trouble.append((create_call(caller), "before-429"))
    else:
        caller.vendor.ends.append(End("failed", error=error))

    assert caller.said(caller.ask("patient")) == "echo:patient"
    assert caller.created() == 2
    assert caller.vendor.paid == {"patient": 1}


def test_an_expired_batch_gives_what_it_has_and_the_rest_travels_again(caller: Caller) -> None:
    asked = texts(caller, 4)
    # Of an expired batch of Gemini's nothing is left.
    caller.vendor.ends.append(End("expired", share=0 if caller.google else 0.5))

    answers = caller.ask_all(asked)

    assert_answered(caller, asked, answers)
    assert caller.created() >= 2
    assert set(caller.vendor.paid.values()) == {1}


def test_a_batch_that_is_late_is_cancelled_and_the_rest_is_sent_at_once(caller: Caller) -> None:
    asked = texts(caller, 4)
    caller.vendor.ends += [End("stuck", share=0.5), End("stuck", share=0.5), End("stuck", share=0.5)]

    answers = caller.ask_all(asked, **{"X-Batch-Max-Wait": "1"})

    assert_answered(caller, asked, answers)
    assert {answer.headers["x-batch-lane"] for answer in answers} & {"sync", "flex"}
    assert set(caller.vendor.paid.values()) == {1}


@pytest.mark.parametrize("trouble", ["after-cut", "before-cut", "before-503"])
def test_a_create_whose_answer_is_lost_makes_one_batch(caller: Caller, trouble: str) -> None:
    caller.vendor.trouble.append((create_call(caller), trouble))

    answer = caller.ask("only once")

    assert caller.said(answer) == "echo:only once"
    assert caller.vendor.paid == {"only once": 1}


def test_a_wrong_key_gets_the_providers_own_answer(caller: Caller) -> None:
    caller.key = "bad"

    answer = caller.ask("hello")

    assert answer.status_code == (400 if caller.google else 401)
    assert "key" in caller.error(answer)


def test_a_refusal_of_our_own_has_the_providers_shape(caller: Caller) -> None:
    answer = caller.ask("hello", **{"X-Batch-Mode": "someday"})

    assert answer.status_code == 400
    assert "X-Batch-Mode" in caller.error(answer)


def test_a_request_may_be_sent_at_once(caller: Caller) -> None:
    answer = caller.ask("now", **{"X-Batch-Mode": "sync"})

    assert caller.said(answer) == "echo:now"
    assert answer.headers["x-batch-lane"] == "sync"
    assert caller.created() == 0
