"""Percentiles from the histogram that the scripts keep."""

from __future__ import annotations

import math

from tasks import stats


def bucket(ms: float) -> int:
    return math.floor(math.log(ms + 1) / math.log(1.03))


def test_percentiles_are_right_within_a_bucket() -> None:
    histogram: dict[bytes, bytes] = {}
    for ms in range(1, 1001):
        key = str(bucket(ms)).encode()
        histogram[key] = str(int(histogram.get(key, b"0")) + 1).encode()

    times = stats.times(500_500, histogram)

    assert times["avg_time_ms"] == 500.5
    assert math.isclose(times["p50_time_ms"], 500, rel_tol=0.03)
    assert math.isclose(times["p95_time_ms"], 950, rel_tol=0.03)
    assert math.isclose(times["p99_time_ms"], 990, rel_tol=0.03)


def test_nothing_settled_means_zero() -> None:
    assert set(stats.times(0, {}).values()) == {0.0}
