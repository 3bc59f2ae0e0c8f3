"""Each step of the pipeline, killed after it; and whether these are all steps."""

from __future__ import annotations

import pytest

from tests.faults import matrix, record
from tests.faults.scenarios import Ground


def test_every_step_that_a_real_run_passes_has_its_points(ground: Ground) -> None:
    passed = record.run_all(ground)

    assert set().union(*passed.values()) == {point for _, point in matrix.POINTS}


@pytest.mark.parametrize(("scenario", "point"), [case for case in matrix.POINTS if case[1].startswith("after ")])
def test_a_kill_there_loses_nothing_and_pays_nothing_twice(ground: Ground, scenario: str, point: str) -> None:
    matrix.kill_there(ground, scenario, point)
