"""Balancers that cut a connection after 55 s of silence, and a batch that takes 3 minutes. In real time.

Needs `haproxy` and `nginx` (Debian packages of these names) on the PATH.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from tests import running
from tests.clients.asking import Front, node, python
from tests.ports import free_port
from tests.running import Stack, until
from tests.simulator.server import serve

BATCH_SECONDS = 180
IDLE_SECONDS = 55

HAPROXY = """
global
  maxconn 1000
defaults
  mode http
  option abortonclose
  timeout connect 5s
  timeout client {idle}s
  timeout server {idle}s
frontend front
  bind 127.0.0.1:{port}
  default_backend web
backend web
  server one 127.0.0.1:{upstream}
"""
NGINX = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
  keepalive_timeout {idle};
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_read_timeout {idle}s; proxy_send_timeout {idle}s; }}
  }}
}}
"""


@contextlib.contextmanager
def balancer(name: str, template: str, stack: Stack, directory: Path) -> Iterator[str]:
    """A balancer in front of a stack."""
    port = free_port()
    path = directory / f"{name}.cfg"
    path.write_text(template.format(idle=IDLE_SECONDS, port=port, upstream=stack.port, directory=directory))
    command = ["haproxy", "-f", str(path)] if name == "haproxy" else ["nginx", "-c", str(path)]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: _listens(port), f"{name} listens")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.mark.timeout(400)
def test_balancers_with_55_seconds_of_patience_carry_a_batch_of_3_minutes(tmp_path: Path) -> None:
    with (
        serve(validate_delay=1, batch_delay=BATCH_SECONDS, finalize_delay=1) as upstream,
        running.redis_server() as server,
        running.running_stack(server.url, upstream.url, LLM_PROXY_HEARTBEAT_AFTER_SECONDS="20") as stack,
        balancer("haproxy", HAPROXY, stack, tmp_path) as haproxy,
        balancer("nginx", NGINX, stack, tmp_path) as nginx,
        ThreadPoolExecutor(8) as pool,
    ):
        ways = {
            f"{balancer}-{'-'.join(program[1:])}": (Front(url, "sk-balanced", upstream), program)
            for balancer, url in (("haproxy", haproxy), ("nginx", nginx))
            for program in (python("sync"), node(6), node(7))
        }
        jobs = {
            name: pool.submit(front.run, program, name, "hello", 600, 300) for name, (front, program) in ways.items()
        }
        streams = [pool.submit(_stream, url) for url in (haproxy, nginx)]

        for name, job in jobs.items():
            assert job.result().get("content") == "echo:hello", (name, job.result())
        assert [job.result() for job in streams] == ["echo:streamed"] * 2
        assert all(front.paid(name) == 1 for name, (front, _) in ways.items())


def _stream(url: str) -> str:
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="sk-balanced", max_retries=0) as client,
        client.chat.completions.stream(model="s", messages=[{"role": "user", "content": "streamed"}]) as stream,
    ):
        return str(stream.get_final_completion().choices[0].message.content)
