"""What each access token's label has spent today, for the limit of dollars per day.

Money is known when answers are priced, later than the request that it bounds: the sweep notes a day's sum, and
accept.lua refuses the label's next request once it has reached its limit.
"""

from __future__ import annotations

import functools
from collections import Counter

from tasks import access, allowances, spending, store
from tasks.access import Tokens
from tasks.settings import Settings


def note(config: Settings) -> None:
    """Note what today has cost so far; money of unknown prices is none.

    Raises:
        redis.RedisError: Redis is away; the next sweep notes it.
    """
    tokens = _tokens(config)
    if tokens is None:
        return
    labels = allowances.labels(config, tokens, spending.CREDENTIAL_DIGITS)
    day = store.now_ms() // spending.DAY_MS
    sums = Counter[str]()
    for row in spending.of_day(day):
        if label := labels.get(row.credential):
            sums[label] += round(row.cost * 1_000_000)
    allowances.spent(day, sums)


@functools.cache
def _tokens(config: Settings) -> Tokens | None:
    return access.tokens(config)
