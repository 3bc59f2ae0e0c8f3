"""Shortens the pipeline's patience, so that a recovery takes seconds and a test can wait for it."""

from __future__ import annotations

from celery import Celery

from tasks import backoff, batches, delivery, leases, store
from tasks.providers import account, anthropic, gemini_inline

SHORTENED = (
    (backoff, "BASE_SECONDS", 0.2),
    (leases, "LEASE_SECONDS", 1.5),
    (leases, "RENEW_SECONDS", 0.3),
    (batches, "SLACK_SECONDS", 0.7),
    (store, "PATIENCE_SECONDS", 0.7),
    (account, "CALL_SECONDS", 1.0),
    (anthropic, "CREATE_SECONDS", 2.0),
    (anthropic, "SETTLING_SECONDS", 0.2),
    (gemini_inline, "CREATE_SECONDS", 2.0),
    (gemini_inline, "SETTLING_SECONDS", 0.2),
    (anthropic, "UNDECIDED_SECONDS", 0.5),
    (delivery, "READ_AGAIN_SECONDS", 0.3),
)


def install() -> None:
    """Shorten it in this process."""
    for module, name, seconds in SHORTENED:
        assert hasattr(module, name), name
        setattr(module, name, seconds)


def sweep_often(app: Celery) -> None:
    """Let beat start the sweep twice a second."""
    app.conf.beat_schedule["sweep"]["schedule"] = 0.5


def collect_often(app: Celery) -> None:
    """Let beat start the collector five times a second."""
    app.conf.beat_schedule["collect"]["schedule"] = 0.2
