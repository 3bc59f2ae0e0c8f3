"""The calls of promptfoo: an evaluation of one question each."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import told  # type: ignore[import-not-found]  # beside this program

TOOL = {"type": "function", "function": {"name": "person", "parameters": {"type": "object", "properties": {}}}}


def ask(question: str, **config: Any) -> str:
    with tempfile.TemporaryDirectory() as directory:
        evaluation = {
            "prompts": ["{{question}}"],
            "providers": [{"id": f"openai:chat:{told.MODEL}", "config": {"apiBaseUrl": told.BASE_URL, **config}}],
            "tests": [{"vars": {"question": question}}],
        }
        given, found = Path(directory, "promptfooconfig.json"), Path(directory, "found.json")
        given.write_text(json.dumps(evaluation))
        variables = {
            "PROMPTFOO_CONFIG_DIR": directory,
            "PROMPTFOO_DISABLE_TELEMETRY": "1",
            "PROMPTFOO_DISABLE_UPDATE": "1",
            **({"REQUEST_TIMEOUT_MS": str(int(told.TIMEOUT * 1000))} if told.TIMEOUT else {}),
        }
        done = subprocess.run(
            [f"{os.environ['CLIENT']}/node_modules/.bin/promptfoo", "eval", "--no-cache", "--no-progress-bar",
             "--config", str(given), "--output", str(found)],
            env=os.environ | variables, cwd=directory, capture_output=True, text=True,
        )  # fmt: skip
        if not found.exists():
            raise RuntimeError(done.stdout + done.stderr)
        result = json.loads(found.read_text())["results"]["results"][0]
    if "output" not in result.get("response", {}):
        raise RuntimeError(result.get("error"))
    return json.dumps(result["response"]["output"])


told.tell(
    {
        "chat": lambda: ask("chat"),
        "tools": lambda: ask(told.SAY, tools=[TOOL]),
        "error": lambda: ask("error", passthrough=told.FAIL),
        "slow": lambda: ask("slow"),
    }
)
