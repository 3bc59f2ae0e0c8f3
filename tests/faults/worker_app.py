"""`celery --app tests.faults.worker_app`: the project's app with hooks on its doors and a hasty sweep."""

from __future__ import annotations

from tasks.celery import app
from tests.faults import doors, hasty

doors.install()
hasty.sweep_often(app)

__all__ = ["app"]
