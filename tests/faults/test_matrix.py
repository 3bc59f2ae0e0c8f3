"""Each step of the pipeline, killed before and after it: nothing is lost, nothing is paid twice."""

from __future__ import annotations

import pytest

from tests.faults import record, scenarios
from tests.faults.scenarios import Ground

POINTS = [(scenario, point) for scenario, points in record.load().items() for point in points]


def test_every_step_that_a_real_run_passes_has_its_points(ground: Ground) -> None:
    passed = record.run_all(ground)

    assert set().union(*passed.values()) == {point for _, point in POINTS}


@pytest.mark.parametrize(("scenario", "point"), POINTS)
def test_a_kill_there_loses_nothing_and_pays_nothing_twice(ground: Ground, scenario: str, point: str) -> None:
    ground.arm(point)
    billed = scenarios.run(ground, scenario, f"{scenario} {point}")
    if not ground.fired:  # a step of the front's first request
        ground.stack.kill_worker_of_web()
        billed = scenarios.run(ground, scenario, f"{scenario} {point} again")

    assert ground.fired
    paid_twice = billed["more_than_once"]
    if scenario == "sync" and paid_twice:
        # A synchronous call that was cut may have been paid; then it is counted, never hidden.
        assert len(paid_twice) <= ground.possibly_double_paid()
    else:
        assert paid_twice == []
