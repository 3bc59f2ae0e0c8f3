"""`python -m tasks <command>`: the command `llm-proxy` of a checkout."""

from __future__ import annotations

import sys

from tasks.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
