"""What the answers cost: sums of tokens that settle.lua keeps per day, and their prices.

A row is (upstream, endpoint, tier, credential label, model); the upstream is the host of OpenAI's, or another
provider's name. Money is computed when somebody looks, so settling stays fast and a corrected price list corrects
the past. A day that is over is read once per process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any, Final

from tasks import connections, prices, store

DAYS: Final = 30
DAY_MS: Final = 86_400_000
#: Of a credential's reference: what settle.lua sums up by, and what people see.
CREDENTIAL_DIGITS: Final = 8
COUNTS: Final = ("requests", "input", "cached", "output", "reasoning")
#: What `/stats?by=` may say.
BY: Final = ("model", "day", "credential")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A day's tokens of one kind; `cost` and `standard` (what they would have cost synchronously) are USD."""

    day: date
    host: str
    endpoint: str
    tier: str
    credential: str
    model: str
    requests: int = 0
    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cost: float = 0.0
    standard: float = 0.0
    known: bool = False
    provider: str = ""


def rows(now_ms: int) -> list[Row]:
    """The rows of the last 30 days, today's included."""
    today = now_ms // DAY_MS
    found = [row for number in range(today - DAYS + 1, today) for row in _past(number)]
    return found + of_day(today)


@functools.lru_cache(maxsize=2 * DAYS)
def _past(number: int) -> tuple[Row, ...]:
    return tuple(of_day(number))


def of_day(number: int) -> list[Row]:
    """The rows of one day since 1970 (UTC)."""
    return parse(number, connections.client().hgetall(f"{store.PREFIX}usage:{number}"))


def parse(number: int, flat: dict[bytes, bytes]) -> list[Row]:
    """Rows of a day's hash, with their prices."""
    day = datetime.fromtimestamp(number * DAY_MS / 1000, UTC).date()
    counts: dict[str, dict[str, int]] = {}
    for field, value in flat.items():
        name, _, key = field.decode(errors="replace").partition("\t")
        if name in COUNTS:
            counts.setdefault(key, {})[name] = int(value)
    return [_priced(day, key, found) for key, found in counts.items()]


def _priced(day: date, key: str, counts: dict[str, int]) -> Row:
    host, endpoint, tier, credential, model = key.split("\t", 4)
    n = {name: counts.get(name, 0) for name in COUNTS}
    row = Row(
        day=day, host=host, endpoint=endpoint, tier=tier, credential=credential, model=model, provider=host,
        requests=n["requests"], input=n["input"], cached=n["cached"], output=n["output"], reasoning=n["reasoning"],
    )  # fmt: skip
    price = prices.find(host, model, endpoint, tier, day)
    if price is None:
        return row
    return replace(
        row,
        cost=price.paid.cost(row.input, row.cached, row.output),
        standard=price.standard.cost(row.input, row.cached, row.output),
        known=True,
        provider=price.provider,
    )


def total(part: Iterable[Row]) -> dict[str, Any]:
    """Tokens and money of some rows; money only of those whose price is known."""
    part = list(part)
    cost, standard = sum(row.cost for row in part), sum(row.standard for row in part)
    return {
        "requests": sum(row.requests for row in part),
        "input_tokens": sum(row.input for row in part),
        "cached_tokens": sum(row.cached for row in part),
        "output_tokens": sum(row.output for row in part),
        "reasoning_tokens": sum(row.reasoning for row in part),
        "cost_usd": round(cost, 6),
        "standard_cost_usd": round(standard, 6),
        "savings_usd": round(standard - cost, 6),
        "price_known": all(row.known for row in part),
        "unpriced_requests": sum(row.requests for row in part if not row.known),
    }


def by(name: str, all_rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Totals by model (with endpoint and provider), day or credential; the dearest first, days in order."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in all_rows:
        groups.setdefault(_key(name, row), []).append(row)
    labels = ("model", "endpoint", "provider") if name == "model" else (name,)
    found = [{**dict(zip(labels, key, strict=True)), **total(part)} for key, part in groups.items()]
    if name == "day":
        return sorted(found, key=lambda entry: str(entry["day"]))
    return sorted(found, key=lambda entry: (-entry["standard_cost_usd"], -entry["requests"]))


def _key(name: str, row: Row) -> tuple[str, ...]:
    if name == "model":
        return row.model, row.endpoint, row.provider
    return (row.day.isoformat() if name == "day" else row.credential,)
