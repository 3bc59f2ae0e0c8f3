"""The way into Redis: the prefix of all keys, and how scripts are run.

Every change of more than one key, and every compare-and-set, is a script in `lua/`; times are Redis' own clock
in milliseconds. docs/architecture.md lists every key with type, meaning and lifetime; a test holds it against the code.

Two versions may share one Redis: `group:` and `batch:` carry a `format`, see FORMAT; a request is read as its group
says. Readers pass over fields that they do not know, and do without those that an older version did not write.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
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
ABSENT: Final = "The proxy's store does not answer; try again shortly."
LUA_DIR: Final = Path(__file__).parent / "lua"
INCLUDE: Final = re.compile(r"^-- include (\w+)$", re.MULTILINE)


@functools.cache
def _script(name: str) -> Script:
    script: Script = connections.client().register_script(source(name))
    return script


def source(name: str) -> str:
    """A script with the `lua/parts/` that it includes; each has its line `-- include <part>`."""
    text = (LUA_DIR / f"{name}.lua").read_text()
    text = INCLUDE.sub(lambda line: (LUA_DIR / "parts" / f"{line[1]}.lua").read_text(), text)
    return text.replace("FORMAT", str(FORMAT))


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
