"""Celery's configuration: the pipeline's queues, routes and clock on one page."""

import sys

from kombu.transport import TRANSPORT_ALIASES

from tasks.errors import SettingsError
from tasks.settings import settings

try:
    settings()
except SettingsError as wrong:
    sys.exit(f"llm-proxy: {wrong}")  # one sentence; Celery would show where the code was

# By name: Celery reads this file before gevent has patched what redis-py imports.
TRANSPORT_ALIASES.update(redis="tasks.transport:Transport", rediss="tasks.transport:Transport")
broker_url = settings().celery_redis
result_backend = settings().celery_redis
broker_use_ssl = redis_backend_use_ssl = settings().redis_tls or None
imports = ["tasks.pipeline"]

task_serializer = result_serializer = "json"
accept_content = ["json"]
task_default_queue = "control"
task_routes = {
    "tasks.request": {"queue": "sync"},
    "tasks.collect": {"queue": "collect"},
    "tasks.submit": {"queue": "submit"},
    "tasks.poll": {"queue": "control"},
    "tasks.look": {"queue": "control"},
    "tasks.deliver": {"queue": "deliver"},
    "tasks.sweep": {"queue": "control"},
}

# Replies are written by settle.lua; the stages have no results.
task_ignore_result = True
# One for all greenlets: Celery would make one, with its connection, for each task that is repeated.
result_backend_thread_safe = True
result_expires = settings().result_ttl_seconds

# A tick that waited too long for a worker is dropped: the next one does the same work.
beat_schedule = {
    "collect": {"task": "tasks.collect", "schedule": 1.0, "options": {"expires": 30}},
    "sweep": {"task": "tasks.sweep", "schedule": 30.0, "options": {"expires": 60}},
}

# Acknowledged on receipt: records and sweep bring work back, never the broker.
task_acks_late = False
worker_prefetch_multiplier = 1
broker_connection_retry_on_startup = True
broker_connection_max_retries = None
# Flower shows the stages; they are few.
worker_send_task_events = True
worker_redirect_stdouts = False
worker_log_format = "%(asctime)s %(levelname)s %(name)s %(message)s"
worker_task_log_format = worker_log_format
