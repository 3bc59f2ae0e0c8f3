"""Each step of the pipeline, killed before it."""

from __future__ import annotations

import pytest

from tests.faults import matrix
from tests.faults.scenarios import Ground


@pytest.mark.parametrize(("scenario", "point"), [case for case in matrix.POINTS if case[1].startswith("before ")])
def test_a_kill_there_loses_nothing_and_pays_nothing_twice(ground: Ground, scenario: str, point: str) -> None:
    matrix.kill_there(ground, scenario, point)
