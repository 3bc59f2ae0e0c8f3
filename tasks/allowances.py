"""What callers behind access tokens have used of their allowances, counted in Redis over all processes.

`accept.lua` counts what is accepted in the same step that accepts it; `settle.lua` and `withdraw.lua` count what
waits no more. A rate is one number (the generic cell rate algorithm): a minute's requests may come at once.
Money is known later than the request: `spent` is told what a day has cost so far, and the next request is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tasks import connections, store, vault
from tasks.access import Tokens
from tasks.errors import LimitReached, LlmProxyError, TooManyWaiting
from tasks.models import Allowance
from tasks.settings import Settings

#: A day's sums are kept until nobody asks for them any more.
SPENT_SECONDS: Final = 3 * 86_400
WAITING_SECONDS: Final = 10.0


def use(allowance: Allowance) -> None:
    """Take a call that is not queued out of an allowance.

    Raises:
        LimitReached: there is none left.
        StoreUnavailable: nobody can say.
    """
    if not allowance.requests_per_minute and not allowance.micro_dollars_per_day:
        return
    answer: bytes = store.run("allow", allowance.label, allowance.requests_per_minute, allowance.micro_dollars_per_day)
    if answer:
        raise refusal(answer.decode(), allowance)


def refusal(answer: str, allowance: Allowance) -> LlmProxyError:
    """What a script that begins with "!" says, as the error that the caller gets."""
    why, _, ms = answer.removeprefix("!").partition(" ")
    if why == "full":
        return TooManyWaiting("Too many requests are waiting; try again shortly.", retry_after_seconds=WAITING_SECONDS)
    if why == "waiting":
        return LimitReached(
            f"{allowance.waiting} requests of '{allowance.label}' are waiting already, as many as its token allows.",
            retry_after_seconds=WAITING_SECONDS,
        )
    seconds = int(ms) // 1000 + 1
    if why == "spent":
        return LimitReached(
            f"'{allowance.label}' has spent what its token allows for a day, which ends at midnight UTC.",
            code="insufficient_quota",
            retry_after_seconds=seconds,
        )
    return LimitReached(
        f"'{allowance.label}' may send {allowance.requests_per_minute} requests per minute.",
        retry_after_seconds=seconds,
    )


def labels(config: Settings, tokens: Tokens, digits: int) -> dict[str, str]:
    """The label behind the first digits of a credential reference, by which usage is summed."""
    return {vault.reference(config.upstream_authorization, label)[:digits]: label for label in tokens.labels()}


def spent(day: int, micro_dollars: Mapping[str, int]) -> None:
    """Note what a day (since 1970, UTC) has cost each label so far: sums, so that noting them twice changes nothing."""
    if not micro_dollars:
        return
    key = f"{store.PREFIX}spent:{day}"
    pipeline = connections.client().pipeline(transaction=True)
    pipeline.hset(key, mapping=dict(micro_dollars))
    pipeline.expire(key, SPENT_SECONDS)
    pipeline.execute()
