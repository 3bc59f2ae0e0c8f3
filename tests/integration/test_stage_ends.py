"""How a batch ends, and the rest of it: what is counted, remembered and said, to the letter."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tasks import collector, control, message, stage
from tasks.models import BatchState, Reply
from tasks.providers.openai import OpenAI
from tasks.settings import settings
from tests.integration.stages import Line

SECOND_MS = 1000


def error(line: Line, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line.bodies()[number])["error"]
    return found


def ends(line: Line) -> dict[str, int]:
    """How batches have ended, by /stats."""
    counted = {name.decode(): int(value) for name, value in line.redis.hgetall("lp:stats").items()}
    return {name.removeprefix("batches_"): n for name, n in counted.items() if name.startswith("batches_")}


def queues(line: Line, queue: str = message.SYNC_QUEUE) -> list[str]:
    """The queues that messages in a queue name as theirs."""
    raws = line.redis.lrange(queue, 0, -1)
    return [json.loads(raw)["properties"]["delivery_info"]["routing_key"] for raw in raws]


def test_every_end_is_counted_once_as_what_it_is(line: Line) -> None:
    line.upstream.configure(
        ends=[
            {"model": "fails", "fail": [{"code": "invalid_json_line", "line": 1}], "count": 1},
            {"model": "full", "fail": [{"code": "token_limit_exceeded"}], "count": 1},
        ]
    )
    for model in ("good", "fails", "full"):
        batch = line.claim(1, model=model)
        line.end(batch)
        line.deliver_all(batch)
    late = line.claim(1)
    line.age(late, 27)
    assert line.submit(late) is None
    line.deliver_all(late)

    counted = ends(line)
    assert (counted["successful"], counted["failed"], counted["over_quota"]) == (1, 3, 1)
    assert {name for name in counted if name.startswith("ended_")} == {
        "ended_completed", "ended_failed", "ended_unsubmitted",
    }  # fmt: skip


def test_a_create_that_is_refused_for_want_of_room_is_counted_and_the_limit_is_learnt(line: Line) -> None:
    fault = {"path": "POST /v1/batches", "kind": "429", "code": "token_limit_exceeded", "count": 1}
    line.upstream.configure(faults=[fault])
    batch = line.claim(4)
    quota = line.record(batch)["quota"]
    line.redis.hset(f"lp:batch:{batch}", "failures", 1)

    assert line.submit(batch) is None
    assert line.record(batch)["failures"] == "0"
    line.deliver_all(batch)

    counted = ends(line)
    assert (counted["failed"], counted["ended_refused"], counted["over_quota"]) == (1, 1, 1)
    learnt = {name.decode(): float(value) for name, value in line.redis.hgetall(f"lp:quota:{quota}").items()}
    assert (learnt["lines"], learnt["admitted"], learnt["refusals"]) == (2, 0, 1)
    assert learnt["not_before"] - learnt["cut"] == SECOND_MS


@pytest.mark.parametrize(("path", "unbatchable"), [("POST /v1/files", "0"), ("POST /v1/batches", "1")])
def test_only_a_create_that_is_not_found_says_that_such_requests_cannot_be_batched(
    line: Line, path: str, unbatchable: str
) -> None:
    line.upstream.configure(faults=[{"path": path, "kind": "404", "code": "not_found"}])
    batch = line.claim()

    assert line.submit(batch) is None

    assert line.record(batch)["unbatchable"] == unbatchable


@pytest.mark.parametrize(("setting", "statuses", "lane"), [("sync", [0, 0], "sync"), ("reject", [404, 404], "batch")])
def test_a_batch_that_fails_for_its_model_is_remembered_for_an_hour(
    line: Line, monkeypatch: pytest.MonkeyPatch, setting: str, statuses: list[int], lane: str
) -> None:
    monkeypatch.setenv("LLM_PROXY_UNBATCHABLE", setting)
    settings.cache_clear()
    line.upstream.configure(ends=[{"fail": [{"code": "model_not_found", "message": "no such model"}]}])
    batch = line.claim()
    line.end(batch)

    line.deliver_all(batch)

    assert line.statuses() == statuses
    assert line.request(0)["lane"] == lane
    assert queues(line) == (["sync", "sync"] if lane == "sync" else [])
    until = int(line.redis.hget(f"lp:group:{line.requests[0].group.id}", "unbatchable_until"))
    assert until / SECOND_MS - time.time() == pytest.approx(3600, abs=20)
    if setting == "reject":
        assert error(line, 0)["message"] == "no such model"


def test_a_canceled_batch_is_not_sent_by_another_way_when_its_model_cannot_be_batched(line: Line) -> None:
    line.upstream.configure(ends=[{"fail": [{"code": "model_not_found"}]}])
    batch = line.claim()
    line.end(batch)
    line.redis.hset(f"lp:batch:{batch}", "canceled", 1)

    line.deliver_all(batch)

    assert line.statuses() == [control.STATUS] * 2
    assert queues(line) == []


def test_a_failed_batch_may_name_its_first_and_its_last_line(line: Line) -> None:
    problems = [{"code": "invalid_json_line", "line": 1}, {"code": "invalid_json_line", "line": 3}]
    line.upstream.configure(ends=[{"fail": problems, "count": 1}])
    batch = line.claim(3)
    line.end(batch)

    line.deliver_all(batch)

    assert line.statuses() == [400, 0, 400]


def test_of_a_batch_that_was_not_run_only_those_have_no_time_left_whose_own_has_passed(line: Line) -> None:
    batch = line.claim(2)
    line.redis.hincrby(f"lp:batch:{batch}", "oldest", -27 * 3600 * SECOND_MS)
    line.redis.hincrby(f"lp:request:{line.requests[0].id}", "accepted", -27 * 3600 * SECOND_MS)
    assert line.submit(batch) is None

    line.deliver_all(batch)

    assert line.statuses() == [504, 0]
    assert error(line, 0)["code"] == "batch_deadline"
    assert line.request(1)["state"] == "queued"


def test_what_travels_again_is_queued_with_its_group_and_nothing_is_held_against_it(line: Line) -> None:
    line.upstream.configure(ends=[{"fail": [{"code": "token_limit_exceeded"}], "count": 1}])
    batch = line.claim(1)
    line.end(batch)

    line.deliver_all(batch)

    queue = message.group_queue(line.requests[0].group.id)
    assert queues(line, queue) == [queue]
    assert set(line.request(0)) & {"attempts", "missing", "late", ""} == set()


# A "create" in doubt


def in_doubt(line: Line, monkeypatch: pytest.MonkeyPatch, doubt_seconds: float = 0.0) -> str:
    """A batch whose "create" took no effect, as far as one can see."""
    monkeypatch.setattr(OpenAI, "doubt_seconds", doubt_seconds)
    line.upstream.configure(faults=[{"path": "POST /v1/batches", "kind": "reset_before", "count": 1}])
    batch = line.claim()
    assert line.submit(batch)
    assert line.record(batch)["state"] == BatchState.CREATING
    return batch


def test_a_create_in_doubt_is_left_alone_until_it_can_take_no_effect_any_more(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = in_doubt(line, monkeypatch, doubt_seconds=100.0)

    pause = line.submit(batch)

    assert pause == pytest.approx(100, abs=10)
    record = line.record(batch)
    assert record["state"] == BatchState.CREATING
    assert "lease" not in record
    assert int(record["not_before"]) / SECOND_MS - time.time() == pytest.approx(80, abs=10)
    assert line.upstream.stats()["files_live"] == 1


def test_a_create_that_shows_only_when_its_file_is_gone_is_taken_for_what_it_is(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = in_doubt(line, monkeypatch)
    file_id = line.record(batch)["input_file"]
    looks = iter([None, "batch_late"])
    monkeypatch.setattr(OpenAI, "find", lambda self, batch: next(looks))

    assert line.submit(batch) is None

    record = line.record(batch)
    assert (record["state"], record["upstream_id"]) == (BatchState.SUBMITTED, "batch_late")
    assert (record["input_file"], record["file_deleted"]) == (file_id, "1")
    assert line.upstream.stats()["files_live"] == 0


# Cleaning


def test_a_file_that_cannot_be_deleted_now_is_tried_again_when_the_upstream_says(line: Line) -> None:
    line.upstream.configure(faults=[{"path": "DELETE /v1/files/*", "kind": "429", "retry_after": "33", "count": 1}])
    batch = line.claim()
    line.end(batch)

    pause = line.deliver(batch)

    assert pause is not None
    assert 33 <= pause < 60
    assert line.record(batch)["state"] == BatchState.CLEANING
    assert line.statuses() == [200, 200]


# The collector


def test_a_group_that_nobody_knows_any_more_is_answered_and_the_next_one_is_closed(line: Line) -> None:
    first, second = line.accept(1, model="a"), line.accept(1, model="b")
    line.redis.zadd("lp:groups", {first.id: 1, second.id: 2})
    line.redis.delete(f"lp:group:{first.id}")

    made = list(collector.collect())

    assert [line.record(batch)["model"] for batch in made] == ["b"]
    assert line.statuses() == [401, 0]
    assert error(line, 0)["code"] == "credential_lost"
    assert time.time() * SECOND_MS - int(line.redis.hget("lp:ticks", "collect")) < 10 * SECOND_MS


# What the proxy says itself


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (stage.deadline_reply, 504, "batch_deadline"),
        (stage.credential_reply, 401, "credential_lost"),
        (stage.body_lost_reply, 502, "body_lost"),
        (control.canceled_reply, 499, "canceled"),
    ],
)
def test_an_error_of_the_proxys_own_is_a_sentence_with_a_code(
    make: Callable[[], Reply], status: int, code: str
) -> None:
    reply = make()
    told = json.loads(reply.body)["error"]

    assert (reply.status, told["code"], told["param"]) == (status, code, None)
    assert told["message"][0].isupper()
    assert told["message"].endswith(".")
    assert not told["message"].isupper()
    assert reply.headers["x-should-retry"] == "false"


def test_a_line_that_is_lost_twice_is_told_so(line: Line) -> None:
    lost = {"drop": 1, "request_counts": {"total": 1, "completed": 0, "failed": 0}}
    line.upstream.configure(ends=[lost])
    batch = line.claim(1)
    for _ in range(2):
        line.end(batch)
        line.deliver_all(batch)
        if line.statuses() == [0]:
            batch = line.close(line.requests[0].group)

    assert line.statuses() == [502]
    assert error(line, 0) == {
        "message": "The upstream returned no result for this request.",
        "type": "upstream_error",
        "param": None,
        "code": "result_missing",
    }


def test_a_late_batchs_rest_is_told_which_setting_keeps_it_from_being_sent(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PROXY_FALLBACK", "off")
    settings.cache_clear()
    batch = line.claim(1, max_wait_seconds=60)
    line.redis.hincrby(f"lp:batch:{batch}", "oldest", -61_000)
    assert line.submit(batch) is None

    line.deliver_all(batch)

    assert error(line, 0)["code"] == "batch_late"
    assert "LLM_PROXY_FALLBACK is off." in error(line, 0)["message"]
