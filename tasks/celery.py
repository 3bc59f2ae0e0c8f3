"""The Celery app. `celery -A tasks …` finds it through the package."""

from __future__ import annotations

import atexit
import gc
import logging
from typing import Any

from celery import Celery
from celery.signals import after_setup_logger

from tasks import log
from tasks.settings import settings

# Not current on creation but default: any greenlet finds it, and a test's app is not displaced.
app = Celery("tasks", set_as_current=False)
app.config_from_object("celeryconfig")
app.set_default()
# What a chain was published as is a cycle; one that is found when gevent is gone complains on everybody's terminal.
atexit.register(gc.collect)


@after_setup_logger.connect
def _logging(logger: logging.Logger, **_: Any) -> None:
    """Our lines, and not Celery's two for each task, which would bury them."""
    for handler in logger.handlers:
        handler.setFormatter(log.Formatter(settings().log_format))
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its debug lines have whole targets, and the address of an upload to Google is a key of its own.
    logging.getLogger("urllib3").setLevel(max(logging.INFO, logger.getEffectiveLevel()))
