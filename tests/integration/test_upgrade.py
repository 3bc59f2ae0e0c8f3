"""Records of other versions: what an older one left is finished, what a newer one wrote is left alone.

`records_8241f40.txt` is what that commit, the last before there were other providers, left in Redis when all of its
processes were killed; tests/rolling/record.py wrote it. Times are moved to now, and the upstream's ids to ours.
"""

from __future__ import annotations

import concurrent.futures
import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests

from tasks import batches, leases, settings, store, sync
from tasks.errors import NotOurTurn
from tasks.models import BatchState, Group, Lane
from tests import running
from tests.ground import HASTY_APP, HASTY_WSGI
from tests.integration.accepting import GROUP, accept, make_request
from tests.rolling.record import API_KEY, MODELS, VAULT_KEY, ask
from tests.running import until
from tests.simulator.server import Simulator

RECORDS = Path(__file__).with_name("records_8241f40.txt")
#: So long ago that nobody is waited for.
AGO_MS = 30_000
NEWER = str(store.FORMAT + 1)


def upstream_has(upstream: Simulator, lines: list[str]) -> dict[str, Any]:
    """Let the upstream have a batch of these lines."""
    headers = {"Authorization": f"Bearer {API_KEY}"}
    form = {"purpose": (None, "batch"), "file": ("lines.jsonl", "\n".join(lines))}
    file = requests.post(f"{upstream.base_url}/files", files=form, headers=headers, timeout=30).json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    made: dict[str, Any] = requests.post(f"{upstream.base_url}/batches", json=asked, headers=headers, timeout=30).json()

    def now() -> dict[str, Any]:
        answer = requests.get(f"{upstream.base_url}/batches/{made['id']}", headers=headers, timeout=30)
        return dict(answer.json())

    until(lambda: now()["status"] == "completed", "the upstream has run the batch")
    return now()


def restore(redis: Any, upstream: Simulator, now_ms: int) -> None:
    """Put the old version's records into Redis as if it had been killed at this time."""
    first, *entries = RECORDS.read_text().splitlines()
    head, text = json.loads(first), "\n".join(entries)
    records = [json.loads(entry) for entry in entries]
    for batch in head["batches"]:
        (record,) = (
            value for _, kind, _, value in records if kind == "hash" and value.get("upstream_id") == batch["id"]
        )
        there = upstream_has(upstream, batch["lines"])
        for old, new in (
            (batch["id"], there["id"]),
            (record["input_file"], there["input_file_id"]),
            (record.get("output_file"), there["output_file_id"]),
        ):
            text = text.replace(old, new) if old else text
    text = re.sub(r"\b1[0-9]{12}\b", lambda ms: str(int(ms[0]) + now_ms - head["ms"]), text)
    for entry in text.splitlines():
        name, kind, ttl_ms, value = json.loads(entry)
        if kind == "string":
            redis.set(name, value)
        elif kind == "hash":
            redis.hset(name, mapping=value)
        elif kind == "list":
            redis.rpush(name, *value)
        elif kind == "zset":
            redis.zadd(name, dict(value))
        else:
            for entry_id, fields in value:
                redis.xadd(name, fields, id=entry_id)
        if ttl_ms > 0:
            redis.pexpire(name, ttl_ms)


def test_what_the_version_before_left_is_finished_and_nothing_is_paid_twice(own_upstream: Simulator) -> None:
    with running.redis_server() as server:
        seconds, micros = server.client.time()
        restore(server.client, own_upstream, seconds * 1000 + micros // 1000 - AGO_MS)
        with (
            running.running_stack(
                server.url, own_upstream.url, app=HASTY_APP, wsgi=HASTY_WSGI, LLM_PROXY_VAULT_KEYS=VAULT_KEY
            ) as stack,
            concurrent.futures.ThreadPoolExecutor(sum(MODELS.values())) as pool,
        ):
            # Its clients were cut, and come again.
            jobs = {
                f"echo:{model} {number}": pool.submit(ask, stack.url, model, number, 90)
                for model, count in MODELS.items()
                for number in range(count)
            }
            answers = {right: job.result() for right, job in jobs.items()}
            until(lambda: own_upstream.stats()["files_live"] == 0, "the upstream's files are deleted", 90)

        assert {right: answer.json()["choices"][0]["message"]["content"] for right, answer in answers.items()} == {
            right: right for right in jobs
        }
        assert all(answer.ok for answer in answers.values())
        paid = own_upstream.stats()["billed"]
        assert paid["more_than_once"] == []
        assert paid["requests"] == sum(MODELS.values()) - MODELS["settled"]  # these were paid before
        assert server.client.zcard("lp:batches") == server.client.zcard("lp:standing") == 0


@pytest.fixture
def own_redis(redis_client: Any) -> Any:
    store.say_newer.cache_clear()
    return redis_client


def test_a_group_of_a_newer_version_is_left_alone_and_that_is_said_once(
    own_redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    accept(make_request())
    own_redis.hset(f"lp:group:{GROUP.id}", "format", NEWER)

    assert [batches.claim(GROUP.id) for _ in range(3)] == [None] * 3

    assert own_redis.llen(f"batch.{GROUP.id}") == 1
    assert len(caplog.records) == 1
    assert "newer version" in caplog.text


def test_a_front_that_accepts_for_a_group_of_a_newer_version_does_not_make_it_an_older_one(own_redis: Any) -> None:
    accept(make_request())
    own_redis.hset(f"lp:group:{GROUP.id}", "format", NEWER)
    accept(make_request())

    assert own_redis.hget(f"lp:group:{GROUP.id}", "format").decode() == NEWER


def test_a_batch_of_a_newer_version_is_left_as_it_is(own_redis: Any, caplog: pytest.LogCaptureFixture) -> None:
    accept(make_request())
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    own_redis.hset(f"lp:batch:{batch_id}", "format", NEWER)
    before = own_redis.hgetall(f"lp:batch:{batch_id}")

    for _ in range(2):
        with pytest.raises(NotOurTurn), leases.lease(batch_id, BatchState.CLAIMED):
            pass

    assert own_redis.hgetall(f"lp:batch:{batch_id}") == before
    assert caplog.text.count("newer version") == 1


def test_a_synchronous_request_of_a_newer_version_is_not_sent(own_redis: Any, caplog: pytest.LogCaptureFixture) -> None:
    request = make_request(lane=Lane.SYNC)
    accept(request)
    own_redis.hset(f"lp:group:{GROUP.id}", "format", NEWER)

    with pytest.raises(NotOurTurn):
        sync.send(request.id)

    assert own_redis.hget(f"lp:request:{request.id}", "state") == b"queued"
    assert "newer version" in caplog.text


def test_a_lease_that_is_held_is_renewed_although_the_group_has_become_newer(own_redis: Any) -> None:
    request = make_request(lane=Lane.SYNC)
    accept(request)
    most = settings.settings().sync_concurrency
    assert len(store.run("run", request.id, "token", 60_000, "take", most)) > 1
    own_redis.hset(f"lp:group:{GROUP.id}", "format", NEWER)

    assert len(store.run("run", request.id, "token", 60_000, "renew", most)) > 1


def test_records_that_lack_new_fields_or_have_unknown_ones_are_read(own_redis: Any) -> None:
    accept(make_request())
    own_redis.hdel(f"lp:group:{GROUP.id}", "format", "provider", "extra", "max_wait")
    own_redis.hset(f"lp:group:{GROUP.id}", "of_tomorrow", "1")
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    own_redis.hdel(f"lp:batch:{batch_id}", "format", "oldest", "max_wait")
    own_redis.hset(f"lp:batch:{batch_id}", "of_tomorrow", "1")

    with leases.lease(batch_id, BatchState.CLAIMED) as held:
        assert held.batch.group == GROUP


def test_records_say_in_which_format_they_are(own_redis: Any) -> None:
    new = Group(credential="c" * 24, endpoint="/v1/messages", model="", provider="anthropic")
    accept(make_request(), make_request(group=new))

    for group, written in ((GROUP, None), (new, str(store.FORMAT).encode())):  # an older version reads OpenAI's rightly
        for record in (f"lp:group:{group.id}", f"lp:batch:{batches.claim(group.id)}"):
            assert own_redis.hget(record, "format") == written
