"""`celery --app tests.faults.worker_app`: the project's app with hooks on its doors and a hasty sweep."""

from __future__ import annotations

from tasks import delivery
from tasks.celery import app
from tests.faults import doors, hasty

doors.install()
hasty.sweep_often(app)
hasty.collect_often(app)
delivery.READS = 3

__all__ = ["app"]
