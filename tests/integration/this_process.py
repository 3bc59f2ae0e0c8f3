"""The project's functions called in the test's own process, with settings of the test's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tasks import connections, sealing, settings, store, vault


@contextlib.contextmanager
def these_settings(**variables: str) -> Iterator[None]:
    """Have them read from these environment variables, for one `with`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        _forget()
        try:
            yield
        finally:
            _forget()


def _forget() -> None:
    """What is kept for the life of a process."""
    for cached in (settings.settings, connections.client, store._script, vault._keys, sealing._masters):
        cached.cache_clear()
