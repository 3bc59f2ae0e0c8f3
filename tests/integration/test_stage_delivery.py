"""Delivery one step at a time: what becomes of each line, of what is left over, and of trouble at any stage."""

from __future__ import annotations

import pytest

from tasks import batches, collector, control, delivery, stage
from tasks.errors import CredentialGone, SettingsError, StoreUnavailable, UpstreamTrouble, VaultError
from tasks.models import BatchState
from tasks.providers import registry
from tasks.settings import settings
from tests.integration.stages import Line


def test_lines_that_failed_for_the_moment_travel_again_and_in_the_end_get_their_error(line: Line) -> None:
    batch = line.claim(model="fail-500")
    for attempt in range(1, settings().max_line_attempts):
        line.end(batch)
        line.deliver_all(batch)
        assert line.request(0)["attempts"] == str(attempt)
        assert line.statuses() == [0, 0]
        batch = line.close(line.requests[0].group)

    line.end(batch)
    line.deliver_all(batch)

    assert line.statuses() == [500, 500]


def test_a_line_that_the_upstream_lost_is_asked_for_once_more_and_then_told_so(line: Line) -> None:
    line.upstream.configure(ends=[{"drop": 1, "request_counts": {"total": 2, "completed": 1, "failed": 0}}])
    batch = line.claim()
    line.end(batch)

    assert line.deliver(batch) is None

    assert sorted(line.statuses()) == [0, 200]
    assert line.counter("requests_requeued") == 1
    line.upstream.configure(ends=[{"drop": 1, "request_counts": {"total": 1, "completed": 0, "failed": 0}}])
    again = line.close(line.requests[0].group)
    line.end(again)
    assert line.deliver(again) is None
    assert sorted(line.statuses()) == [200, 502]
    assert any("result_missing" in body for body in line.bodies())


def test_files_that_say_too_little_are_read_five_times_before_a_line_is_missed(line: Line) -> None:
    line.upstream.configure(ends=[{"drop": 1}])
    batch = line.claim()
    line.end(batch)

    pauses = [line.deliver(batch) for _ in range(delivery.READS)]

    assert [pause is None for pause in pauses] == [False] * 4 + [True]
    assert all(pause >= delivery.READ_AGAIN_SECONDS for pause in pauses if pause)
    assert line.record(batch)["reads"] == "4"
    assert sorted(line.statuses()) == [0, 200]


def test_a_failed_batch_answers_the_lines_that_it_names_and_sends_the_others_again(line: Line) -> None:
    line.upstream.configure(ends=[{"fail": [{"code": "invalid_json_line", "line": 2}], "count": 1}])
    batch = line.claim(3)
    line.end(batch)

    assert line.deliver(batch) is None

    assert line.statuses() == [0, 400, 0]
    assert [line.request(n)["state"] for n in (0, 2)] == ["queued", "queued"]


def test_a_failed_batch_that_names_lines_it_has_not_answers_all(line: Line) -> None:
    line.upstream.configure(ends=[{"fail": [{"code": "invalid_json_line", "line": 9}]}])
    batch = line.claim()
    line.end(batch)

    assert line.deliver(batch) is None

    assert line.statuses() == [400, 400]


def test_what_a_failed_batch_has_answered_all_the_same_is_the_answer_and_only_the_rest_has_failed(line: Line) -> None:
    broken = {"stuck": "in_progress", "expire_after": 0.01, "expire_frac": 0.5, "rename_status": {"expired": "failed"}}
    line.upstream.configure(ends=[broken])
    batch = line.claim()
    line.end(batch)
    assert line.record(batch)["upstream_status"] == "failed"

    line.deliver_all(batch)

    assert sorted(line.statuses()) == [200, 502]
    assert line.counter("requests_requeued") == 0


def test_a_batch_that_failed_for_want_of_the_file_that_we_deleted_is_nobodys_fault(line: Line) -> None:
    line.upstream.configure(ends=[{"fail": [{"code": "invalid_file"}], "count": 1}])
    batch = line.claim()
    line.end(batch)
    line.redis.hset(f"lp:batch:{batch}", "file_deleted", 1)

    assert line.deliver(batch) is None

    assert [line.request(n)["state"] for n in (0, 1)] == ["queued", "queued"]


def test_what_a_canceled_batch_has_not_answered_is_told_so_and_not_sent_again(line: Line) -> None:
    batch = line.stuck(expire_frac=0.5)
    assert control.cancel_batch(batch)
    assert line.poll(batch)

    line.deliver_ended(batch)

    assert sorted(line.statuses()) == [200, control.STATUS]


@pytest.mark.parametrize(("fallback", "lane"), [("flex", "flex"), ("standard", "sync"), ("off", None)])
def test_the_fallback_says_what_becomes_of_a_late_batchs_rest(
    line: Line, monkeypatch: pytest.MonkeyPatch, fallback: str, lane: str | None
) -> None:
    monkeypatch.setenv("LLM_PROXY_FALLBACK", fallback)
    settings.cache_clear()
    batch = line.claim(max_wait_seconds=60)
    line.redis.hincrby(f"lp:batch:{batch}", "oldest", -61_000)
    assert line.submit(batch) is None

    line.deliver_all(batch)

    if lane is None:
        assert line.statuses() == [504, 504]
        assert "batch_late" in line.bodies()[0]
    else:
        assert [line.request(n)["lane"] for n in (0, 1)] == [lane, lane]
        assert line.redis.llen("sync") == 2


# Trouble


def test_a_look_that_is_refused_is_tried_again_until_the_deadline_and_then_is_the_answer(line: Line) -> None:
    batch = line.stuck()
    line.upstream.configure(faults=[{"path": "GET /v1/batches/*", "kind": "401"}])

    assert line.poll(batch)
    assert line.record(batch)["failures"] == "1"
    line.age(batch, 27)
    assert line.poll(batch) is None

    line.deliver_all(batch)
    assert line.statuses() == [401, 401]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UpstreamTrouble("x", in_doubt=False), 504),
        (CredentialGone("x"), 401),
        (VaultError("x"), 504),
        (SettingsError("x"), 504),
        (ZeroDivisionError(), 504),
    ],
)
def test_whatever_goes_wrong_is_waited_out_and_answered_at_the_deadline(
    line: Line, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    batch = line.stuck()

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(registry, "upstream", broken)
    pause = line.poll(batch)
    assert pause
    assert (pause >= stage.VAULT_SECONDS) is isinstance(error, VaultError | SettingsError)
    assert line.record(batch)["failures"] == "1"
    line.age(batch, 27)
    assert line.poll(batch) is None

    line.deliver_all(batch)
    assert line.statuses() == [status, status]


def test_a_batch_that_is_given_up_after_its_end_was_counted_once(line: Line) -> None:
    batch = line.claim()
    line.end(batch)
    line.upstream.configure(faults=[{"path": "GET /v1/files/*/content", "kind": "404"}])
    assert line.deliver(batch)
    line.age(batch, 27)

    assert line.deliver(batch) is None  # the sweep takes it up from here
    assert line.record(batch)["state"] == BatchState.ENDED
    line.deliver_all(batch)

    assert line.statuses() == [404, 404]
    assert line.record(batch)["failures"] == "0"
    ends = {name.decode() for name in line.redis.hkeys("lp:stats") if name.startswith(b"batches_")}
    assert ends == {"batches_total", "batches_successful", "batches_ended_completed", "batches_ms"}


def test_files_that_cannot_be_deleted_hold_up_nobody_and_not_for_ever(line: Line) -> None:
    line.upstream.configure(faults=[{"path": "DELETE /v1/files/*", "kind": "500"}])
    batch = line.claim()
    line.end(batch)

    assert line.deliver(batch)
    assert line.statuses() == [200, 200]
    assert line.record(batch)["state"] == BatchState.CLEANING
    line.redis.hset(f"lp:batch:{batch}", "failures", stage.CLEANING_TRIES - 2)
    assert line.deliver(batch)
    assert line.deliver(batch) is None
    assert line.record(batch)["state"] == BatchState.DONE


def test_a_store_that_is_away_is_the_sweeps_affair(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = line.claim()

    def away(*_: object) -> None:
        raise StoreUnavailable("away", retry_after_seconds=20)

    monkeypatch.setattr(registry, "upstream", away)
    with pytest.raises(StoreUnavailable):
        line.submit(batch)

    assert "failures" not in line.record(batch)


# Collecting


def test_who_has_many_batches_does_not_come_before_who_has_one(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROXY_MAX_BATCH_REQUESTS", "1")
    settings.cache_clear()
    line.accept(3, "many")
    line.accept(1, "one")

    claimed = [line.record(batch)["model"] for batch in collector.collect()]

    assert claimed == ["many", "one", "many", "many"]


def test_a_group_that_cannot_be_closed_does_not_keep_the_others(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    line.accept(1, "broken")
    line.accept(1, "whole")
    broken, claim = line.requests[0].group.id, batches.claim

    def claiming(group_id: str) -> str | None:
        if group_id == broken:
            raise StoreUnavailable("away", retry_after_seconds=20)
        return claim(group_id)

    monkeypatch.setattr(batches, "claim", claiming)

    assert [line.record(batch)["model"] for batch in collector.collect()] == ["whole"]
