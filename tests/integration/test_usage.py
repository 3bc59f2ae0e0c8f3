"""Usage is counted once, where a request is settled, and bounded whatever callers send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks import batches, history, overview, prices, settle, spending, store
from tasks.models import Allowance, Group, Lane, Reply
from tasks.settings import settings
from tests.integration.accepting import GROUP, accept, make_request

BODY = json.dumps({"usage": {"prompt_tokens": 1000, "completion_tokens": 200}, "choices": "a secret answer"}).encode()


@pytest.fixture(autouse=True)
def _priced(redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_PROXY_PRICES", "openai")
    settings.cache_clear()
    prices.find.cache_clear()


def answer(lane: str = "batch", status: int = 200, body: bytes = BODY) -> Reply:
    return Reply.of_upstream(status, {"x-batch-lane": lane}, body)


def luna(**fields: Any) -> Group:
    return Group(**{"credential": "c" * 24, "endpoint": "/v1/chat/completions", "model": "gpt-6-luna", **fields})


def settle_one(group: Group, reply: Reply, **fields: Any) -> tuple[str, str]:
    request = make_request(group=group, **fields)
    accept(request)
    batch_id = batches.claim(group.id)
    assert batch_id
    assert settle.settle([(request.id, batch_id, reply)]) == 1
    return request.id, batch_id


def test_a_request_is_counted_once_however_often_it_is_delivered() -> None:
    request_id, batch_id = settle_one(luna(), answer())
    for _ in range(3):
        assert settle.settle([(request_id, batch_id, answer())]) == 0

    usage = overview.read()["usage"]

    assert (usage["requests"], usage["input_tokens"], usage["output_tokens"]) == (1, 1000, 200)
    assert usage["cost_usd"] == pytest.approx(1000 * 0.05e-6 + 200 * 0.25e-6)
    assert usage["savings_usd"] == usage["cost_usd"]  # half
    assert usage["price_known"] is True
    assert usage["today"]["requests"] == 1


def test_the_synchronous_lane_is_priced_as_such() -> None:
    request = make_request(group=luna(), lane=Lane.SYNC)
    accept(request)
    assert store.run("run", request.id, "worker", 60_000, "take", 50)
    settle.settle([(request.id, "worker", answer("sync"))])

    usage = overview.read()["usage"]

    assert usage["cost_usd"] == usage["standard_cost_usd"] > 0
    assert usage["savings_usd"] == 0


def test_an_unknown_price_is_said_and_not_guessed() -> None:
    settle_one(luna(), answer())
    settle_one(luna(model="mine"), answer())

    usage = overview.read()["usage"]

    assert usage["price_known"] is False
    assert usage["unpriced_requests"] == 1
    assert usage["input_tokens"] == 2000
    rows = {row["model"]: row["price_known"] for row in overview.usage_by("model")}
    assert rows == {"gpt-6-luna": True, "mine": False}


def test_other_providers_have_rows_of_their_own_with_the_model_that_answered() -> None:
    claude = luna(provider="anthropic", endpoint="/v1/messages", model="")
    said = {"type": "message", "usage": {"input_tokens": 900, "cache_read_input_tokens": 100, "output_tokens": 200}}
    known = json.dumps({**said, "model": "claude-haiku-4-5"}).encode()
    unknown = json.dumps({**said, "model": "claude\tof my own"}).encode()
    asked = [make_request(group=claude, fingerprint=f"{n:x}") for n in range(3)]
    accept(*asked)
    batch_id = batches.claim(claude.id)
    assert batch_id
    bodies = (known, known, unknown)
    settle.settle((each.id, batch_id, answer(body=body)) for each, body in zip(asked, bodies, strict=True))
    gemini = luna(provider="gemini", endpoint="generateContent", model="gemini-2.5-flash")
    counts = {"promptTokenCount": 1000, "candidatesTokenCount": 150, "thoughtsTokenCount": 50}
    settle_one(gemini, answer(body=json.dumps({"usageMetadata": counts}).encode()))

    refused = make_request(group=claude, fingerprint="f")
    accept(refused)
    assert [group["model"] for group in overview.read()["queued"]["by_group"]] == ["anthropic"]
    other_id = batches.claim(claude.id)
    assert other_id
    assert {batch["model"] for batch in overview.read()["in_flight"]["by_batch"]} == {"anthropic", "gemini-2.5-flash"}
    settle.settle([(refused.id, other_id, answer(status=400, body=b'{"error":{"type":"invalid_request_error"}}'))])
    assert overview.read()["failures"][0]["model"] == "anthropic"

    rows = {row["model"]: row for row in overview.usage_by("model")}

    assert rows.keys() == {"claude-haiku-4-5", "claude\tof my own", "gemini-2.5-flash"}
    assert rows["claude-haiku-4-5"]["requests"] == 2
    assert rows["claude-haiku-4-5"]["provider"] == "anthropic"
    assert rows["claude-haiku-4-5"]["cost_usd"] == pytest.approx(2 * (900 * 0.5e-6 + 100 * 0.05e-6 + 200 * 2.5e-6))
    assert rows["claude\tof my own"]["price_known"] is False
    assert rows["claude\tof my own"]["provider"] == "anthropic"
    assert rows["gemini-2.5-flash"]["output_tokens"] == 200
    assert rows["gemini-2.5-flash"]["reasoning_tokens"] == 50
    assert rows["gemini-2.5-flash"]["provider"] == "google"


def test_usage_by_credential_shows_a_label_that_is_not_the_reference() -> None:
    settle_one(luna(), answer())
    settle_one(luna(credential="d" * 24), answer())

    assert sorted(row["credential"] for row in overview.usage_by("credential")) == ["c" * 8, "d" * 8]


def test_a_chunk_of_many_requests_costs_one_row(redis_client: Any) -> None:
    requests = [make_request(group=luna(), fingerprint=f"{n:x}") for n in range(300)]
    accept(*requests)
    batch_id = batches.claim(luna().id)
    assert batch_id
    settle.settle((request.id, batch_id, answer()) for request in requests)

    [row] = spending.rows(store.now_ms())
    entries = [len(fields[b"ids"].split()) for _, fields in redis_client.xrange("lp:settled")]

    assert entries == [settle.CHUNK_LINES, 300 - settle.CHUNK_LINES]
    assert (row.requests, row.input, row.output) == (300, 300_000, 60_000)


def test_names_that_callers_make_up_end_in_one_row(redis_client: Any) -> None:
    day = store.now_ms() // spending.DAY_MS
    redis_client.hset(f"lp:usage:{day}", mapping={f"requests\th\te\tbatch\tc\tm{n}": 1 for n in range(2500)})

    settle_one(luna(), answer())
    settle_one(luna(model="gpt-6-sol"), answer())

    others = [row for row in spending.rows(store.now_ms()) if row.model == "other"]
    assert [(row.requests, row.input) for row in others] == [(2, 2000)]


def test_what_an_access_token_has_spent_is_never_added_to_others(redis_client: Any) -> None:
    day = store.now_ms() // spending.DAY_MS
    redis_client.hset(f"lp:usage:{day}", mapping={f"requests\th\te\tbatch\tc\tm{n}": 1 for n in range(2500)})

    settle_one(luna(), answer(), allowance=Allowance(label="team"))

    [row] = [row for row in spending.rows(store.now_ms()) if row.input]
    assert (row.model, row.credential) == ("gpt-6-luna", "c" * spending.CREDENTIAL_DIGITS)


def test_what_is_kept_expires(redis_client: Any) -> None:
    settle_one(luna(), answer())

    for pattern, seconds in (("lp:usage:*", 32 * 86_400), ("lp:minutes:*", 25 * 3600)):
        [key] = redis_client.scan_iter(pattern)
        assert 0 < redis_client.ttl(key) <= seconds


def test_a_failure_is_listed_with_its_reason_and_without_its_body(redis_client: Any) -> None:
    asked = [make_request(group=luna(), fingerprint=f"{n:x}") for n in range(60)]
    accept(*asked)
    batch_id = batches.claim(luna().id)
    assert batch_id
    for n, request in enumerate(asked):
        refused = json.dumps({"error": {"code": f"code_{n}", "message": "a secret prompt"}}).encode()
        settle.settle([(request.id, batch_id, answer(status=400, body=refused))])

    found = overview.read()

    assert len(found["failures"]) == 50
    newest = found["failures"][0]
    assert (newest["status"], newest["reason"], newest["model"]) == (400, "code_59", "gpt-6-luna")
    assert newest["request"] == asked[-1].id
    assert found["settled"] == {"2xx": 0, "3xx": 0, "4xx": 60, "5xx": 0}
    assert "secret" not in json.dumps(found)
    assert not [key for key in redis_client.scan_iter("lp:*") if b"secret" in redis_client.dump(key)]


def test_equal_failures_of_one_delivery_are_one_entry() -> None:
    requests = [make_request(fingerprint=f"{n:x}") for n in range(5)]
    accept(*requests)
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    settle.settle((r.id, batch_id, answer(status=429, body=b"{}")) for r in requests)

    [entry] = overview.read()["failures"]
    assert (entry["count"], entry["reason"]) == (5, "http_429")


def test_the_last_hours_show_answers_and_how_long_they_took() -> None:
    settle_one(luna(), answer())
    settle_one(luna(), answer(status=500, body=b"{}"))

    steps = history.series(store.now_ms())

    assert len(steps) == 72
    assert steps[-1]["at"] - steps[0]["at"] == 71 * 300
    assert sum(step["answers"] for step in steps) == 2
    assert sum(step["failed"] for step in steps) == 1
