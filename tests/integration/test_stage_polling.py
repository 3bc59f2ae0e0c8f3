"""Looks at a submitted batch, one at a time: what is noted, how long the pauses are, when it is cancelled."""

from __future__ import annotations

import json

import pytest

from tasks import batches, polling
from tasks.batches import Batch
from tasks.models import BatchState
from tasks.settings import settings
from tests.integration.accepting import GROUP
from tests.integration.stages import Line


def test_a_look_notes_how_far_the_batch_is_and_says_when_to_look_again(line: Line) -> None:
    batch = line.stuck()

    pause = line.poll(batch)

    assert pause == pytest.approx(settings().poll_min_seconds, abs=0.1)
    record = line.record(batch)
    assert (record["state"], record["upstream_status"], record["failures"]) == ("submitted", "in_progress", "0")
    assert record["progress_total"] == "2"
    assert "lease" not in record


def test_an_early_look_leaves_a_batch_that_still_runs_to_its_loop(line: Line) -> None:
    batch = line.stuck()
    line.redis.hset(f"lp:batch:{batch}", "not_before", 2**50)

    assert polling.look(batch) is False

    assert line.record(batch)["state"] == BatchState.SUBMITTED
    line.upstream.finish()
    assert polling.look(batch) is True
    assert line.record(batch)["state"] == BatchState.ENDED


def test_a_batch_is_admitted_once(line: Line) -> None:
    batch = line.stuck("validating")
    quota_key = f"lp:quota:{line.record(batch)['quota']}"
    assert line.poll(batch)
    assert not line.redis.exists(quota_key)
    line.upstream.finish()

    assert line.poll(batch) is None

    assert line.redis.hget(quota_key, "admitted") == b"1"


def test_an_unknown_status_is_counted_and_polled_on(line: Line) -> None:
    batch = line.stuck(rename_status={"in_progress": "musing"})

    assert line.poll(batch)

    assert line.counter("unknown_statuses") == 1
    assert line.record(batch)["state"] == BatchState.SUBMITTED


def test_a_late_batch_is_cancelled_and_its_rest_sent_synchronously(line: Line) -> None:
    line.upstream.configure(ends=[{"stuck": "in_progress", "expire_frac": 0.5}])
    batch = line.claim(max_wait_seconds=60)
    assert line.submit(batch) is None
    assert line.poll(batch)
    assert "cancel_at" not in line.record(batch)
    line.redis.hincrby(f"lp:batch:{batch}", "oldest", -61_000)

    assert line.poll(batch)
    assert int(line.record(batch)["cancel_at"]) > 0
    line.deliver_ended(batch)

    assert sorted(line.statuses()) == [0, 200]
    assert [line.request(n)["lane"] for n in (0, 1)].count("flex") == 1
    assert line.counter("fallbacks_flex") == 1


def test_a_cancel_that_is_refused_is_asked_for_again_and_a_running_one_is_not(line: Line) -> None:
    batch = line.stuck(cancel_delay=60)
    line.upstream.configure(
        ends=[], faults=[{"path": "POST /v1/batches/*/cancel", "kind": "405", "count": 1}], cancel_delay=60
    )
    line.age(batch, 25.9)
    assert line.poll(batch)
    first = line.record(batch)["cancel_at"]

    pause = line.poll(batch)
    line.poll(batch)

    assert pause is not None
    assert pause <= polling.CANCELLING_SECONDS
    assert line.record(batch)["cancel_at"] == first
    assert line.calls("POST /v1/batches/{id}/cancel") == 2


def test_a_batch_that_does_not_end_is_given_up_at_its_deadline(line: Line) -> None:
    batch = line.stuck()
    line.age(batch, 27)
    line.redis.hset(f"lp:batch:{batch}", "failures", 3)

    assert line.poll(batch) is None

    record = line.record(batch)
    assert (record["state"], record["failures"]) == (BatchState.ENDED, "0")
    assert (line.counter("batches_failed"), line.counter("batches_ended_given_up")) == (1, 1)
    line.deliver_all(batch)
    assert line.statuses() == [504, 504]
    assert json.loads(line.bodies()[0])["error"]["code"] == "batch_deadline"


@pytest.mark.parametrize(
    ("status", "age", "cancel_at", "pause"),
    [
        ("in_progress", 0, 0, 1.0),
        ("in_progress", 100, 0, 10.0),
        ("in_progress", 10_000, 0, 30.0),
        ("validating", 100, 0, 2.0),
        ("validating", 0, 0, 1.0),
        ("cancelling", 100, 1, 5.0),
        ("cancelling", 10, 1, 1.0),
    ],
)
def test_pauses_between_looks_grow_with_the_batch(
    line: Line, status: str, age: float, cancel_at: int, pause: float
) -> None:
    batch = Batch(id="b", state=BatchState.SUBMITTED, group=GROUP, count=1, claimed=0, submitted=0, cancel_at=cancel_at)

    assert polling.pause_seconds(batch, status, int(age * 1000)) == pytest.approx(pause)


def test_the_last_pause_is_no_longer_than_the_time_that_is_left(line: Line) -> None:
    batch = Batch(id="b", state=BatchState.SUBMITTED, group=GROUP, count=1, claimed=0, submitted=0)
    stop = batches.stop_ms(0)

    assert polling.pause_seconds(batch, "in_progress", stop - 3000) == pytest.approx(3.05)
