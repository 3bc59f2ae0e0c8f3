"""What /stats says: counters and histograms that scripts keep in Redis, shared by all processes.

A histogram bucket is 3 % wide, so memory is constant and a percentile is right within 1.5 %.
"""

from __future__ import annotations

import math
from typing import Any, Final

from tasks import connections, store
from tasks.models import Lane

GROWTH: Final = math.log(1.03)
#: How a batch can end: the upstream's words, and ours for one that it would not take, that was not worth
#: submitting any more, or that did not end by its deadline.
ENDS: Final = ("completed", "failed", "expired", "cancelled", "refused", "unsubmitted", "given_up")


def figures(counters: dict[str, int], requests: dict[Any, Any], batches: dict[Any, Any]) -> dict[str, Any]:
    """Counters and histograms in /stats' shape; times are ms from acceptance to settlement, or from claim to end."""
    synthesized = counters.get("requests_synthesized", 0)

    def part(prefix: str, *names: str) -> dict[str, int]:
        return {name: counters.get(prefix + name, 0) for name in names}

    return {
        "requests": {
            "total": counters.get("requests_total", 0),
            "successful": counters.get("requests_successful", 0),
            "failed": counters.get("requests_failed", 0) + synthesized,
            "synthesized_error_responses": synthesized,
            **times(counters.get("requests_ms", 0), requests),
        },
        "batches": {
            "total": counters.get("batches_total", 0),
            "successful": counters.get("batches_successful", 0),
            "failed": counters.get("batches_failed", 0),
            **times(counters.get("batches_ms", 0), batches),
        },
        "lanes": part("lane_", *Lane),
        "ends": part("batches_ended_", *ENDS),
        "exceptions": {
            "cancelled": counters.get("requests_cancelled", 0),
            "requeued": counters.get("requests_requeued", 0),
            "fallbacks": part("fallbacks_", Lane.SYNC, Lane.FLEX),
            "over_quota": counters.get("batches_over_quota", 0),
            "unknown_statuses": counters.get("unknown_statuses", 0),
            "possibly_double_paid": counters.get("possibly_double_paid", 0),
        },
    }


def histograms() -> dict[str, tuple[dict[int, int], int]]:
    """Bucket -> count, and the sum in ms, of requests and of batches."""
    pipeline = connections.client().pipeline(transaction=False)
    for name in ("requests", "batches"):
        pipeline.hgetall(f"{store.PREFIX}latency:{name}")
        pipeline.hget(f"{store.PREFIX}stats", f"{name}_ms")
    raw = pipeline.execute()
    return {
        name: ({int(bucket): int(n) for bucket, n in raw[at].items()}, int(raw[at + 1] or 0))
        for at, name in ((0, "requests"), (2, "batches"))
    }


def times(sum_ms: int, histogram: dict[Any, Any]) -> dict[str, float]:
    """Average and percentiles of a histogram {bucket: count}."""
    buckets = sorted((int(bucket), int(count)) for bucket, count in histogram.items())
    n = sum(count for _, count in buckets)
    result = {"avg_time_ms": round(sum_ms / n, 1) if n else 0.0}
    for percent in (50, 95, 99):
        result[f"p{percent}_time_ms"] = percentile(buckets, math.ceil(n * percent / 100), GROWTH)
    return result


def percentile(buckets: list[tuple[int, int]], rank: float, growth: float) -> float:
    """The value of this rank in a sorted histogram [(bucket, count)] with logarithmic buckets of `growth`."""
    seen = 0
    for bucket, count in buckets:
        seen += count
        if seen >= rank:
            return round(math.exp((bucket + 0.5) * growth) - 1, 1)  # the middle of the bucket
    return 0.0
