"""`gunicorn tests.chaos.web_app:create_app()`: the project's front with the same patience as its workers."""

from __future__ import annotations

from tests.faults import hasty
from web.app import create_app

hasty.install()

__all__ = ["create_app"]
