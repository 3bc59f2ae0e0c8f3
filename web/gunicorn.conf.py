"""gunicorn's settings: server matters only."""

from tasks.settings import settings

_settings = settings()

bind = f"{_settings.bind}:{_settings.port}"
worker_class = "web.worker.FrontWorker"
workers = _settings.web_processes
# Held clients, and room for health checks and relayed calls beside them.
worker_connections = _settings.max_waiting + 1000
backlog = 16_384
# Longer than the 5 s after which SDKs drop idle connections, so that none is reused while we close it.
keepalive = 10
graceful_timeout = 10
timeout = 60
# Two stacks on one machine would share one control socket.
control_socket_disable = True
loglevel = _settings.log_level.lower()
accesslog = None
