"""Numbers as people read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tasks import words

DAY = 86_400


@pytest.mark.parametrize(
    ("say", "numbers", "read"),
    [
        (words.count, (12_345,), "12,345"),
        (words.rate, (0.24,), "0.2"),
        (words.rate, (9.94,), "9.9"),
        (words.rate, (10,), "10"),
        (words.rate, (1234.5,), "1,234"),
        (words.short, (999,), "999"),
        (words.short, (1000,), "1 k"),
        (words.short, (1_234_000,), "1.23 M"),
        (words.short, (2_500_000_000,), "2.5 G"),
        (words.short, (1e12,), "1,000 G"),
        (words.usd, (0,), "$0"),
        (words.usd, (0.00001,), "$0.00001"),
        (words.usd, (0.0000001,), "$0"),
        (words.usd, (0.0001,), "$0.0001"),
        (words.usd, (0.0042,), "$0.0042"),
        (words.usd, (0.1,), "$0.10"),
        (words.usd, (12.3,), "$12.30"),
        (words.usd, (999.994,), "$999.99"),
        (words.usd, (1000,), "$1,000"),
        (words.usd, (-0.05,), "$-0.05"),
        (words.span, (None,), "–"),
        (words.span, (0,), "0.0 s"),
        (words.span, (9.94,), "9.9 s"),
        (words.span, (10,), "10 s"),
        (words.span, (89.4,), "89 s"),
        (words.span, (90,), "2 min"),
        (words.span, (59 * 60,), "59 min"),
        (words.span, (3600,), "1 h"),
        (words.span, (3600 + 20 * 60,), "1 h 20 min"),
        (words.span, (10 * 3600 + 60,), "10 h"),
        (words.span, (47 * 3600,), "47 h"),
        (words.span, (2 * DAY,), "2 d"),
        (words.size, (999,), "999 B"),
        (words.size, (1000,), "1.0 kB"),
        (words.size, (12_340_000,), "12.3 MB"),
        (words.size, (1e9,), "1.0 GB"),
        (words.short, (1_000_000,), "1 M"),
        (words.usd, (0.00421,), "$0.0042"),
        (words.span, (20 * DAY,), "20 d"),
        (words.span, (72 * DAY,), "72 d"),
        (words.size, (1_000_000,), "1.0 MB"),
        (words.percent, (2, 3), "66.7%"),
        (words.clock, (71_412_000,), "19:50:12"),
        (
            words.percent,
            (
                1,
                3,
            ),
            "33.3%",
        ),
        (
            words.percent,
            (
                1,
                0,
            ),
            "0%",
        ),
    ],
)
def test_a_number_is_said_shortly(say: Callable[..., str], numbers: tuple[Any, ...], read: str) -> None:
    assert say(*numbers) == read


def test_days_end_with_todays_date() -> None:
    assert words.days((3 * DAY + 5) * 1000, 3) == ["1970-01-02", "1970-01-03", "1970-01-04"]
