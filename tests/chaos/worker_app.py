"""`celery --app tests.chaos.worker_app`: the project's app with a hasty sweep."""

from __future__ import annotations

from tasks.celery import app
from tests.faults import hasty

hasty.install()
hasty.sweep_often(app)

__all__ = ["app"]
