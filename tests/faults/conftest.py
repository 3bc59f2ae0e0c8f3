"""One stack with hooks for all points."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import scenarios
from tests.faults.scenarios import Ground


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    """The package's own Redis, upstream and stack."""
    with scenarios.opened() as made:
        yield made
