"""What in the figures somebody should do something about, in words. Pure."""

from __future__ import annotations

from typing import Any, Final

from tasks import words

#: Above these something is wrong; see docs/operations.md.
TICK_SECONDS: Final = 15.0
SWEEP_SECONDS: Final = 90.0
OVERDUE_SECONDS: Final = 90.0
FULL: Final = 0.7


def alerts(seen: dict[str, Any]) -> list[str]:
    """What somebody should do something about, in words."""
    lag, memory = seen["lag"], seen["redis"]
    found = []
    if seen["paused"]:
        found.append("Paused: requests are accepted and nothing is submitted. llm-proxy resume ends it.")
    if lag["collect_seconds"] is None or lag["collect_seconds"] > TICK_SECONDS:
        found.append("No worker collects: is worker running, and beat?")
    elif lag["sweep_seconds"] is not None and lag["sweep_seconds"] > SWEEP_SECONDS:
        found.append(f"Beat has not ticked for {words.span(lag['sweep_seconds'])}.")
    if lag["most_overdue_seconds"] > OVERDUE_SECONDS:
        found.append(f"A batch has been left alone for {words.span(lag['most_overdue_seconds'])}.")
    if memory["used_part"] and memory["used_part"] > FULL:
        found.append(f"Redis is {memory['used_part']:.0%} full; above 85% requests are refused.")
    if seen["exceptions"]["possibly_double_paid"]:
        found.append(
            f"{seen['exceptions']['possibly_double_paid']} synchronous calls were cut and may have been paid twice."
        )
    return found
