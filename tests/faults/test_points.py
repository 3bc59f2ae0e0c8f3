"""The list of points is complete."""

from __future__ import annotations

import pytest

from tests.faults import points, scenarios
from tests.faults.ground import Ground


@pytest.mark.parametrize("scenario", list(scenarios.SCENARIOS))
def test_every_point_that_a_real_run_passes_is_listed(ground: Ground, scenario: str) -> None:
    listed = {point for _, point in points.listed()}

    unlisted = points.passed_by(ground, scenario) - listed
    if unlisted:  # chance, such as a lease that was lost on a busy machine, does not strike twice
        unlisted &= points.passed_by(ground, scenario)

    assert not unlisted, "new steps, or old ones in new situations: python -m tests.faults.points"
