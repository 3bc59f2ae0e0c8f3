"""A process is killed at each point of the list: part 1 of 4."""

from __future__ import annotations

import pytest

from tests.faults import matrix
from tests.faults.ground import Ground


@pytest.mark.parametrize(("scenario", "point"), matrix.part(0))
def test_a_kill_there_loses_nothing_and_pays_nothing_twice(ground: Ground, scenario: str, point: str) -> None:
    matrix.kill_there(ground, scenario, point)


def test_nearly_all_of_these_points_were_passed() -> None:
    matrix.nearly_all_were_passed()
