"""gunicorn's settings: server matters only."""

import resource

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
# A request is relayed as it came: any method and long targets. Headers are believed to be nothing but headers.
http_parser = "python"  # the one that web/incoming.py extends
permit_unconventional_http_method = True
limit_request_line = 8190
limit_request_fields = 200
limit_request_field_size = 16_384
forwarded_allow_ips = ""
# Two stacks on one machine would share one control socket.
control_socket_disable = True
loglevel = _settings.log_level.lower()
accesslog = None
