"""What is asked at each point; two test files share it, so that they can run side by side."""

from __future__ import annotations

from tests.faults import record, scenarios
from tests.faults.scenarios import Ground

POINTS = [(scenario, point) for scenario, points in record.load().items() for point in points]


def kill_there(ground: Ground, scenario: str, point: str) -> None:
    """Let a process die at the point; nothing is lost and nothing is paid twice."""
    counted = ground.possibly_double_paid()
    ground.arm(point)
    billed = scenarios.run(ground, scenario, f"{scenario} {point}")
    if not ground.fired:  # a step of the front's first request
        ground.stack.kill_worker_of_web()
        billed = scenarios.run(ground, scenario, f"{scenario} {point} again")

    assert ground.fired
    paid_twice = billed["more_than_once"]
    if scenario == "sync" and paid_twice:
        # A synchronous call that was cut may have been paid; then it is counted, never hidden.
        assert len(paid_twice) <= ground.possibly_double_paid() - counted
    else:
        assert paid_twice == []
