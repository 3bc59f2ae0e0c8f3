"""The calls of examples/go, which asks by Go's standard library."""

from __future__ import annotations

import os
import subprocess

import told  # type: ignore[import-not-found]  # beside this program


def ask(question: str, model: str = told.MODEL) -> str:
    """The example asks one question of its own."""
    variables = {"OPENAI_BASE_URL": told.BASE_URL, "OPENAI_MODEL": model}
    done = subprocess.run([f"{os.environ['CLIENT']}/ask"], env=os.environ | variables, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return f"{question}: {done.stdout}"


told.tell({"chat": lambda: ask("chat"), "error": lambda: ask("error", "fail-400"), "slow": lambda: ask("slow")})
