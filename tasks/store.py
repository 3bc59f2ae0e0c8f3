"""The data model in Redis, and the way scripts are run.

Every change of more than one key, and every compare-and-set, is a script in `lua/`; times are
Redis' own clock in milliseconds. Keys (prefix `lp:`):

    request:<id>         hash    state, owner, group, lane, accepted, queued, bytes, inputs, attempts, missing, looks,
                                 idempotency, tries, label, settled, kind (settle.lua); RESULT_TTL_SECONDS once settled
    body:<id>            string  the line's body; gone when the request is settled
    group:<id>           hash    what its requests share, and queued_bytes, queued_inputs, not_before;
                                 unbatchable, unbatchable_until: the upstream does not batch such requests
    groups               zset    groups with queued requests -> when the oldest was queued
    batch:<id>           hash    the batch record: see models.BatchState; 7 days once done
    batches              zset    batches that are not done -> when the sweep takes them up
    lines:<batch id>     list    request ids in the order of the input file; gone when done
    upstream:<id>        string  our id of an upstream batch; 14 days
    event:<id>           string  a webhook event that was taken; 15 minutes
    quota:<digest>       hash    what is known of the upstream's queue for a credential and model; 1 day
    flight:<digest>      hash    what is in that queue: batch id -> "lines bytes admitted since"
    creations:<ref>      zset    a credential's batches of the last hour -> when they were claimed
    standing             zset    requests that are queued or being sent -> when the sweep looks after them
    calls:<ref>          zset    a credential's synchronous calls -> when their lease ends
    waiting:<ref>        zset    requests that wait for a place among them -> when they were queued
    pause:<ref>          string  nobody of the credential is called while it lives: the upstream said 429
    credential:<ref>     string  a sealed Authorization header; goes after the last request that can refer to it
    unsettled            string  how many requests wait for their replies, in all; not there when none does
    label:<label>        hash    what an access token's caller has used: waiting, rate (see allowances.py)
    spent:<day>          hash    micro-dollars of a day by label; 3 days
    idempotency:<digest> string  "<request id> <fingerprint>"
    equal:<digest>       zset    equal requests without an Idempotency-Key -> who waits for each: see accept.lua;
                                 2 minutes once all are delivered
    front                string  the latest front's number
    fronts               zset    numbers of the living fronts -> until when without a sign
    taken:<id>           string  what a request attached to, in case its script runs again; 60 s
    settled              stream  ids and sizes of the latest replies, read by every web process
    stats                hash    counters of /stats
    latency:requests     hash    histogram: bucket -> count; a bucket is 3 % wide
    latency:batches      hash
    minutes:<hour>       hash    "<minute> <outcome or bucket>" -> count; a bucket is 20 % wide; 25 hours
    usage:<day>          hash    "<requests, input, ...> <upstream> <endpoint> <tier> <credential> <model>" -> sum,
                                 tabs between; at most 500 rows, then "other"; 32 days
    failures             list    the latest 50 kinds of failure: when, how many, status, reason, lane, an id, model
    waiting              hash    web process -> clients that it holds, and when it said so
    ticks                hash    collect, sweep -> when they last ran
    paused               string  there while nothing is submitted

Celery's own: `celery-task-meta-<id>` holds a reply in Celery's result format, `batch.<group id>`,
`sync` and `collect` are queues.

Two versions may share one Redis: `group:` and `batch:` carry a `format`, see FORMAT; a request is read as its group
says. Readers pass over fields that they do not know, and do without those that an older version did not write.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import redis
from redis.commands.core import Script

from tasks import connections
from tasks.errors import StoreUnavailable

logger = logging.getLogger(__name__)

PREFIX: Final = "lp:"
#: Version of group and batch records, as `format` in each; one without it is 1. It is raised when a process that
#: does not know better would misread a record, not for a field that it may ignore. What is newer is left alone.
#: 2: other providers than OpenAI.
FORMAT: Final = 2
RESULT_PREFIX: Final = "celery-task-meta-"
#: What may still be asked for after a batch is done.
RETENTION_SECONDS: Final = 7 * 86_400
#: The upstream's limit of embedding inputs in one batch.
EMBEDDING_INPUTS: Final = 50_000
#: How long a message may be under way before the sweep looks for it; also the sweep's own rhythm.
PATIENCE_SECONDS: Final = 30.0
#: For so long a retry gets a success that was written to a client, but may not have arrived.
DELIVERED_SECONDS: Final = 120
READ_BYTES: Final = 1_000_000
READ_KEYS: Final = 200
LUA_DIR: Final = Path(__file__).parent / "lua"


@functools.cache
def _script(name: str) -> Script:
    source = (LUA_DIR / f"{name}.lua").read_text().replace("FORMAT", str(FORMAT))
    script: Script = connections.client().register_script(source)
    return script


def run(name: str, *args: Any) -> Any:
    """Run `lua/<name>.lua` once, and once more if the answer was lost: scripts bear repetition.

    Raises:
        StoreUnavailable: Redis is away, full or not writable.
    """
    script = _script(name)
    try:
        try:
            return script(args=[PREFIX, *args])
        except (redis.ConnectionError, redis.TimeoutError):
            return script(args=[PREFIX, *args])
    except redis.RedisError as error:
        raise unavailable(error) from error


def unavailable(error: redis.RedisError) -> StoreUnavailable:
    """The caller's view of a Redis error; it names the class only, an answer may quote data."""
    return StoreUnavailable(
        f"The proxy's store cannot take requests right now ({type(error).__name__}); try again shortly.",
        retry_after_seconds=20,
    )


def by_size(sizes: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    """Ids in chunks that are read at once: at most READ_BYTES and READ_KEYS; what is larger comes alone."""
    chunk: list[str] = []
    total = 0
    for request_id, size in sizes:
        if chunk and (total + size > READ_BYTES or len(chunk) >= READ_KEYS):
            yield chunk
            chunk, total = [], 0
        chunk.append(request_id)
        total += size
    if chunk:
        yield chunk


def tick(name: str) -> None:
    """Note that a clock's task runs; nothing depends on it but what people see."""
    with contextlib.suppress(StoreUnavailable):
        run("tick", name)


@functools.lru_cache(maxsize=1000)
def say_newer(what: str, record_id: str) -> None:
    """Say once that something waits for a process of a newer version."""
    logger.error(
        "%s: this %s was written by a newer version than this process, and is left to processes of that one",
        record_id,
        what,
    )


def now_ms() -> int:
    """Redis' clock."""
    seconds, micros = connections.client().time()
    return int(seconds) * 1000 + int(micros) // 1000
