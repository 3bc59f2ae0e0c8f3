"""The calls of `llm`, the command, which has no option for a time-out: `hurried/` shortens its SDK's own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path

import told  # type: ignore[import-not-found]  # beside this program

#: `api_key_name`: without it the command sends no key to a base URL that is not OpenAI's.
MODELS = """
- model_id: proxied
  model_name: gpt-4o-mini
  api_base: {url}
  api_key_name: openai
  supports_schema: true
- model_id: refused
  model_name: fail-400
  api_base: {url}
  api_key_name: openai
"""


def llm(*arguments: str) -> str:
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "extra-openai-models.yaml").write_text(MODELS.format(url=told.BASE_URL))
        variables = {"LLM_USER_PATH": home}
        if told.TIMEOUT:
            hurried = str(Path(__file__).parent / "hurried")
            variables |= {"SDK_TIMEOUT_SECONDS": str(told.TIMEOUT), "PYTHONPATH": hurried}
        done = subprocess.run(
            [f"{os.environ['CLIENT']}/bin/llm", "--no-log", *arguments],
            env=os.environ | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


told.tell(
    {
        "chat": lambda: llm("--model", "proxied", "--no-stream", "chat"),
        "structured": lambda: json.loads(
            llm("--model", "proxied", "--no-stream", "--schema", "name str, age int", told.SAY)
        ),
        "stream": lambda: llm("--model", "proxied", "stream"),
        "error": lambda: llm("--model", "refused", "--no-stream", "error"),
        "slow": lambda: llm("--model", "proxied", "--no-stream", "slow"),
    }
)
