"""kombu's Redis transport, whose workers go on when Redis is full.

Above maxmemory Redis refuses every command that may need memory, so a worker could neither publish the next
stage nor note the message that it has just taken, and what was accepted would never drain. The front refuses
new requests long before that; what is left is let through, as in our own scripts.
"""

from __future__ import annotations

from typing import Any, Final

import redis
from kombu.transport import redis as kombu_redis
from redis.client import Pipeline

#: What a worker writes to be able to free memory.
NEEDED: Final = frozenset({"LPUSH", "RPUSH", "SADD", "ZADD", "HSET"})
SCRIPT: Final = "#!lua flags=allow-oom\nreturn redis.call(unpack(ARGV))"


class _AllowedWhenFull:
    """For redis.Redis and its pipeline: runs the needed commands inside a script that Redis never refuses."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        if args[0] in NEEDED:
            args = ("EVAL", SCRIPT, 0, *args)
        return super().execute_command(*args, **options)  # type: ignore[misc]  # a mixin


class _Pipeline(_AllowedWhenFull, Pipeline):
    pass


class _Redis(_AllowedWhenFull, redis.Redis):
    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class _Channel(kombu_redis.Channel):
    def _get_client(self) -> type[redis.Redis]:
        return _Redis


class Transport(kombu_redis.Transport):
    """What celeryconfig.py registers for `redis://` and its kin."""

    Channel = _Channel
