"""What Redis says is told to the operator, and never the password."""

from __future__ import annotations

import redis

from tasks import connections


def test_the_arguments_that_an_old_server_repeats_are_not_told() -> None:
    error = redis.ResponseError(
        "unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `s3cret-password`,"
    )

    told = connections.complaint(error)

    assert told.startswith("ResponseError: unknown command `HELLO`")
    assert "s3cret-password" not in told


def test_why_redis_refuses_is_told() -> None:
    error = redis.ResponseError("DENIED Redis is running in protected mode because protected mode is enabled")

    assert "protected mode" in connections.complaint(error)
