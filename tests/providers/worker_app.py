"""`celery --app tests.providers.worker_app`: the project's app with little patience, so that this takes minutes."""

from __future__ import annotations

from tasks import delivery
from tasks.celery import app
from tests.faults import hasty

hasty.install()
delivery.MOST_SURPLUS_LINES = 0
hasty.sweep_often(app)
hasty.collect_often(app)

__all__ = ["app"]
