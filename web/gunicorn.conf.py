"""gunicorn's settings: server matters only."""

import resource

from tasks import log
from tasks.settings import settings

_settings = settings()

# Each held client is an open file, and the usual soft limit is 1,024.
_hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))

bind = _settings.address
worker_class = "web.worker.FrontWorker"
workers = _settings.web_processes
# Held clients, and room for health checks and relayed calls beside them.
worker_connections = _settings.max_waiting + 1000
backlog = 16_384
# Longer than the 5 s after which SDKs drop idle connections, so that none is reused while we close it.
keepalive = 10
graceful_timeout = 7
timeout = 60
# Two stacks on one machine would share one control socket.
control_socket_disable = True
loglevel = _settings.log_level.lower()
logconfig_dict = log.configuration(_settings.log_format, _settings.log_level)
accesslog = None  # web/access_log.py writes one that knows our ids
