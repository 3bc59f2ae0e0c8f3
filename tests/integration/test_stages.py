"""The stages of a batch one step at a time: what each leaves written down, and what it does when it runs again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks import batches, control, polling
from tasks.batches import Batch
from tasks.errors import NotOurTurn
from tasks.models import BatchState
from tasks.providers import account
from tasks.providers.openai import OpenAI
from tests.integration.stages import Line


def test_a_batch_goes_through_every_state_and_leaves_nothing_at_the_upstream(line: Line) -> None:
    batch = line.claim(3)
    assert line.record(batch)["state"] == BatchState.CLAIMED

    line.end(batch)
    record = line.record(batch)
    assert (record["state"], record["upstream_status"]) == (BatchState.ENDED, "completed")
    assert (record["uploads"], record["failures"]) == ("1", "0")
    assert int(record["create_at"]) > 0
    assert (record["progress_total"], record["progress_completed"], record["progress_failed"]) == ("3", "3", "0")
    assert line.deliver(batch) is None

    assert line.statuses() == [200] * 3
    assert line.record(batch)["state"] == BatchState.DONE
    assert line.upstream.stats()["files_live"] == 0
    assert (line.counter("batches_successful"), line.counter("batches_ended_completed")) == (1, 1)
    assert not line.redis.hlen(f"lp:flight:{record['quota']}")


def test_a_stage_that_comes_too_late_changes_nothing(line: Line) -> None:
    batch = line.claim()
    line.end(batch)

    with pytest.raises(NotOurTurn):
        line.submit(batch)
    assert line.poll(batch) is None  # there is nothing left to look for
    line.deliver_all(batch)
    with pytest.raises(NotOurTurn):
        line.deliver(batch)
    with pytest.raises(NotOurTurn) as caught:
        polling.look(batch)
    assert caught.value.state == BatchState.DONE


def test_a_poll_of_what_is_not_submitted_is_not_its_turn(line: Line) -> None:
    with pytest.raises(NotOurTurn):
        line.poll(line.claim())


def test_an_upload_that_is_refused_ends_the_batch_with_that_answer(line: Line) -> None:
    line.upstream.configure(faults=[{"path": "POST /v1/files", "kind": "401"}])
    batch = line.claim()

    assert line.submit(batch) is None

    record = line.record(batch)
    assert (record["state"], record["unbatchable"], record["failures"]) == (BatchState.ENDED, "0", "0")
    assert (line.counter("batches_failed"), line.counter("batches_ended_refused")) == (1, 1)
    line.deliver_all(batch)
    assert line.statuses() == [401, 401]


def test_what_is_never_batched_goes_the_other_way_and_the_upstream_is_not_asked_again(line: Line) -> None:
    line.upstream.configure(faults=[{"path": "POST /v1/batches", "kind": "404", "code": "model_not_found"}])
    first = line.claim()
    assert line.submit(first) is None
    assert line.record(first)["unbatchable"] == "1"
    line.deliver_all(first)
    assert [line.request(n)["lane"] for n in (0, 1)] == ["sync", "sync"]
    line.redis.hdel(f"lp:group:{line.request(0)['group']}", "unbatchable_until")
    second = line.claim()
    line.redis.hset(f"lp:group:{line.request(0)['group']}", "unbatchable_until", 2**50)
    calls = len(line.upstream.log())

    assert line.submit(second) is None

    assert len(line.upstream.log()) == calls
    assert line.record(second)["unbatchable"] == "2"
    line.redis.hset(f"lp:group:{line.request(0)['group']}", "unbatchable_until", 1)
    line.deliver_all(second)
    assert [line.request(n)["lane"] for n in (2, 3)] == ["sync", "sync"]
    # What was only remembered is not remembered anew: the upstream is asked again.
    assert line.redis.hget(f"lp:group:{line.request(0)['group']}", "unbatchable_until") == b"1"


def test_a_full_queue_sends_the_batch_back_into_its_group(line: Line) -> None:
    fault = {"path": "POST /v1/batches", "kind": "429", "code": "token_limit_exceeded", "count": 1}
    line.upstream.configure(faults=[fault])
    batch = line.claim()

    assert line.submit(batch) is None

    record = line.record(batch)
    assert (record["state"], record["upstream_status"]) == (BatchState.ENDED, "failed")
    line.deliver_all(batch)
    assert [line.request(n)["state"] for n in (0, 1)] == ["queued", "queued"]
    assert line.counter("batches_over_quota") == 1
    assert line.statuses() == [0, 0]


@pytest.mark.parametrize("kind", ["error_after", "reset_after"])
def test_a_create_whose_answer_was_lost_is_found_and_not_created_again(line: Line, kind: str) -> None:
    line.upstream.configure(faults=[{"path": "POST /v1/batches", "kind": kind, "count": 1}])
    batch = line.claim()

    assert line.submit(batch)
    record = line.record(batch)
    assert (record["state"], record["failures"]) == (BatchState.CREATING, "1")
    assert line.submit(batch) is None

    record = line.record(batch)
    assert (record["state"], record["failures"]) == (BatchState.SUBMITTED, "0")
    assert line.created() == 1


def test_a_create_that_took_no_effect_is_waited_out_its_file_deleted_and_all_done_anew(line: Line) -> None:
    line.upstream.configure(faults=[{"path": "POST /v1/batches", "kind": "reset_before", "count": 1}])
    batch = line.claim()
    assert line.submit(batch)

    pause = line.submit(batch)
    assert pause is not None
    assert 0 < pause <= account.CALL_SECONDS
    record = line.record(batch)
    assert record["state"] == BatchState.CREATING
    assert "file_deleted" not in record
    line.redis.hincrby(f"lp:batch:{batch}", "create_at", -int(account.CALL_SECONDS * 1000))
    assert line.submit(batch) is None

    again = line.record(batch)
    assert (again["state"], again["uploads"], again["file_deleted"]) == (BatchState.SUBMITTED, "2", "0")
    assert again["input_file"] not in {"", record["input_file"]}
    assert line.created() == 1


def test_a_create_that_was_turned_away_is_sent_again_with_the_same_file(line: Line) -> None:
    line.upstream.configure(faults=[{"path": "POST /v1/batches", "kind": "429", "count": 1, "retry_after": "7"}])
    batch = line.claim()

    assert line.submit(batch) == 7.0
    record = line.record(batch)
    assert (record["state"], record["failures"]) == (BatchState.UPLOADING, "1")
    assert line.submit(batch) is None

    assert line.record(batch)["uploads"] == "1"
    assert line.record(batch)["input_file"] == record["input_file"] != ""


def test_an_upload_whose_answer_was_lost_is_counted_and_its_file_found_when_cleaning(line: Line) -> None:
    line.upstream.configure(faults=[{"path": "POST /v1/files", "kind": "reset_after", "count": 1}])
    batch = line.claim()

    assert line.submit(batch)
    line.end(batch)
    assert line.record(batch)["uploads"] == "2"
    line.deliver_all(batch)

    assert line.upstream.stats()["files_live"] == 0


def test_a_key_that_is_gone_ends_what_was_not_created_and_nothing_else(line: Line) -> None:
    batch, doubtful = line.claim(), line.claim(model="other")
    line.redis.hset(f"lp:batch:{doubtful}", "state", BatchState.CREATING)
    line.redis.delete(f"lp:credential:{'c' * 24}")

    assert line.submit(batch) is None
    assert line.submit(doubtful)

    assert line.record(batch)["state"] == BatchState.ENDED
    assert line.record(doubtful)["state"] == BatchState.CREATING
    line.deliver_all(batch)
    assert line.statuses() == [401, 401, 0, 0]


def test_what_has_no_time_left_is_not_submitted(line: Line) -> None:
    batch = line.claim()
    line.age(batch, 26)

    assert line.submit(batch) is None

    record = line.record(batch)
    assert (record["state"], record["upstream_status"]) == (BatchState.ENDED, "cancelled")
    assert line.counter("batches_ended_unsubmitted") == 1
    assert line.upstream.log() == []
    line.deliver_all(batch)
    assert line.statuses() == [504, 504]


def test_a_request_whose_body_is_gone_is_answered_and_is_in_no_input_file(line: Line) -> None:
    batch = line.claim(3)
    line.redis.delete(f"lp:body:{line.requests[1].id}")

    assert line.submit(batch) is None

    assert len(line.upstream.lines(line.record(batch)["upstream_id"])) == 2
    assert [request_id for request_id, _ in batches.lines(batch)] == [line.requests[0].id, line.requests[2].id]
    assert line.statuses() == [0, 502, 0]
    assert '"code":"body_lost"' in line.bodies()[1]


def test_a_batch_of_which_nothing_is_left_is_not_created(line: Line) -> None:
    batch = line.claim(2)
    for request in line.requests:
        line.redis.delete(f"lp:body:{request.id}")

    assert line.submit(batch) is None
    line.deliver_all(batch)

    assert "POST" not in {call["method"] for call in line.upstream.log()}
    assert line.statuses() == [502, 502]
    assert line.record(batch)["state"] == BatchState.DONE


def test_a_batch_that_is_canceled_while_its_file_is_uploaded_is_not_created(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = line.claim(2)
    upload = OpenAI.upload

    def canceled_meanwhile(upstream: OpenAI, form: Any, of: Batch) -> str:
        assert control.cancel_batch(batch)
        return upload(upstream, form, of)

    monkeypatch.setattr(OpenAI, "upload", canceled_meanwhile)
    assert line.submit(batch) is None
    line.deliver_all(batch)

    assert line.created() == 0
    assert line.counter("batches_ended_unsubmitted") == 1
    assert [json.loads(body)["error"]["code"] for body in line.bodies()] == ["canceled", "canceled"]
    assert line.upstream.stats()["files_live"] == 0
