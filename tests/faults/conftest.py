"""One stack with hooks for all points."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.ground import Ground, faults_ground


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    """The package's own Redis, upstream and stack."""
    with faults_ground() as made:
        yield made
