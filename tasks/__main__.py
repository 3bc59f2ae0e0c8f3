"""`python -m tasks <command>`: run the stack, or a part of it."""

from __future__ import annotations

import argparse
import sys

from cryptography.fernet import Fernet

from tasks.errors import SettingsError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a setting that is wrong ends it with one sentence."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="run web, worker, beat and, unless REDIS_URL is set, Redis")
    commands.add_parser("worker", help="run the Celery workers of all lanes")
    commands.add_parser("vault-key", help="print a new key for LLM_PROXY_VAULT_KEYS")
    command = parser.parse_args(arguments).command
    if command == "vault-key":
        print(Fernet.generate_key().decode())  # noqa: T201 - the command's output
        return 0
    try:
        from tasks import stack  # imported late: it reads the settings

        return stack.run_all() if command == "up" else stack.run_workers()
    except SettingsError as error:
        print(f"llm-proxy: {error}", file=sys.stderr)  # noqa: T201 - the one sentence
        return 2


if __name__ == "__main__":
    sys.exit(main())
