"""One stack whose providers are the simulated vendors, for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import running
from tests.providers.callers import CALLERS, Caller
from tests.running import Stack
from tests.simulators.server import Vendors, serve

#: What a provider's own file needs to say of it here: its address; and one that nobody has shipped.
ACME = """
[acme]
mount = "/acme"
root = "/api"
base_url = "{url}/acme"
auth = ["x-acme-key"]
completion_window = "48h"

[gemini-inline]
dialect = "gemini"
mount = "/gemini-inline"
root = "/v1beta"
base_url = "{url}/gemini-inline"
endpoints = ["generateContent", "batchEmbedContents"]
path = "/models/{{model}}:{{endpoint}}"
auth = ["x-goog-api-key"]
inline = true
max_mb = 19

[closed]
mount = "/closed/v1"
"""


@pytest.fixture(scope="package")
def vendors() -> Iterator[Vendors]:
    """All of them."""
    with serve() as found:
        yield found


@pytest.fixture(scope="package")
def vendor_stack(vendors: Vendors, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with a busy sweep and short leases."""
    path = tmp_path_factory.mktemp("providers") / "providers.toml"
    path.write_text(own_file(vendors))
    with (
        running.redis_server() as server,
        running.running_stack(
            server.url,
            vendors.url,
            app="tests.providers.worker_app",
            LLM_PROXY_PROVIDERS_FILE=str(path),
            LLM_PROXY_WEB_PROCESSES="1",
            LLM_PROXY_POLL_MAX_SECONDS="0.5",
            LLM_PROXY_POLL_MIN_SECONDS="0.1",
            LLM_PROXY_MAX_HOLD_SECONDS="0.2",
        ) as stack,
    ):
        yield stack


def own_file(vendors: Vendors, *without: str) -> str:
    """The providers file that leads to the simulators."""
    lines = []
    for name in vendors.names():
        if name in without:
            continue
        if name == "gemini-openai":
            lines.append(
                f'[{name}]\nbase_url = "{vendors.url}/{name}/v1beta/openai"\nfiles_url = "{vendors.url}/{name}"'
            )
        elif name == "together":
            lines.append(f'[{name}]\nbase_url = "{vendors.url}/{name}"\npoll_min_seconds = 0')
        elif name not in {"acme", "gemini-inline"}:
            lines.append(f'[{name}]\nbase_url = "{vendors.url}/{name}"')
    return "\n".join(lines) + ACME.format(url=vendors.url)


@pytest.fixture(params=CALLERS)
def caller(request: pytest.FixtureRequest, vendors: Vendors, vendor_stack: Stack) -> Caller:
    """A caller of each provider, with a key of the test's own; its vendor has forgotten everything."""
    vendors[request.param].reset()
    return Caller(request.param, vendor_stack.url, f"key-{request.node.name}", vendors[request.param])
