"""`python -m tasks <command>`: the command `llm-proxy` of a checkout."""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - so says whoever starts it with an older one
    sys.exit(f"llm-proxy: Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
try:
    from tasks.cli.app import main
except ModuleNotFoundError as missing:
    sys.exit(
        f"llm-proxy: {sys.executable} has no {missing.name}: `make run` sets everything up in .venv,"
        " or python3 -m pip install -r requirements.txt in an environment of yours"
    )

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
