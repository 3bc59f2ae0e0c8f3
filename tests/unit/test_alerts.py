"""What somebody should do something about: above its limit it is said, at it and below it is not."""

from __future__ import annotations

from typing import Any

import pytest

from tasks import alerts


def figures(**changed: Any) -> dict[str, Any]:
    lag = {"collect_seconds": 15.0, "sweep_seconds": 90.0, "most_overdue_seconds": 90.0}
    return {
        "paused": changed.get("paused", False),
        "lag": {name: changed.get(name, value) for name, value in lag.items()},
        "redis": {"used_part": changed.get("used_part", 0.7)},
        "exceptions": {"possibly_double_paid": changed.get("possibly_double_paid", 0)},
    }


@pytest.mark.parametrize("changed", [{}, {"sweep_seconds": None}, {"used_part": None}])
def test_nothing_is_said_of_what_is_as_it_should_be(changed: dict[str, Any]) -> None:
    assert alerts.alerts(figures(**changed)) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"paused": True}, "Paused: requests are accepted and nothing is submitted. llm-proxy resume ends it."),
        ({"collect_seconds": None}, "No worker collects: is worker running, and beat?"),
        ({"collect_seconds": 15.1}, "No worker collects: is worker running, and beat?"),
        ({"collect_seconds": 16, "sweep_seconds": 100}, "No worker collects: is worker running, and beat?"),
        ({"sweep_seconds": 120}, "Beat has not ticked for 2 min."),
        ({"most_overdue_seconds": 120}, "A batch has been left alone for 2 min."),
        ({"used_part": 0.71}, "Redis is 71% full; above 85% requests are refused."),
        ({"possibly_double_paid": 3}, "3 synchronous calls were cut and may have been paid twice."),
    ],
)
def test_what_is_wrong_is_said_once(changed: dict[str, Any], said: str) -> None:
    assert alerts.alerts(figures(**changed)) == [said]


def test_everything_that_is_wrong_is_said() -> None:
    wrong = figures(paused=True, collect_seconds=None, most_overdue_seconds=91, used_part=0.9, possibly_double_paid=1)

    assert len(alerts.alerts(wrong)) == 5
