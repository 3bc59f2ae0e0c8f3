"""SEAL_BODIES with every dialect: what is sealed in Redis is opened for the provider, however it is written there."""

from __future__ import annotations

from pathlib import Path

from tests import running
from tests.integration.test_no_key_anywhere import dump
from tests.providers.callers import Caller
from tests.providers.conftest import own_file
from tests.running import RedisServer
from tests.simulators.server import Vendors

DIALECTS = ("openai", "mistral", "gemini-openai", "gemini", "gemini-inline", "anthropic")


def test_sealed_requests_are_opened_for_each_dialect(
    vendors: Vendors, own_redis_server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "providers.toml").write_text(own_file(vendors))
    with running.running_stack(
        own_redis_server.url,
        vendors.url,
        LLM_PROXY_PROVIDERS_FILE=str(tmp_path / "providers.toml"),
        LLM_PROXY_SEAL_BODIES="true",
        LLM_PROXY_WEB_PROCESSES="1",
    ) as stack:
        for name in DIALECTS:
            vendors[name].reset()
            caller = Caller(name, stack.url, f"key-sealed-{name}", vendors[name])
            assert caller.said(caller.ask(f"secret of {name}")) == f"echo:secret of {name}"
            assert b"secret of" not in b"".join(dump(own_redis_server.client))
