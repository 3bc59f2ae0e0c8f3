"""`gunicorn tests.faults.web_app:create_app()`: the project's front with hooks on its doors."""

from __future__ import annotations

from tests.faults import doors
from web.app import create_app

doors.install()

__all__ = ["create_app"]
