"""`python -m tasks <command>`: run the stack, or a part of it."""

from __future__ import annotations

import argparse
import sys

from cryptography.fernet import Fernet

from tasks import access
from tasks.errors import SettingsError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a setting that is wrong ends it with one sentence."""
    parser = argparse.ArgumentParser(prog="python -m tasks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="run web, worker, beat and, unless REDIS_URL is set, Redis")
    commands.add_parser("worker", help="run the Celery workers of all lanes")
    commands.add_parser("vault-key", help="print a new key for LLM_PROXY_VAULT_KEYS")
    token = commands.add_parser("access-token", help="make an access token, and its line for the file")
    token.add_argument("label", help="whose it is")
    options = parser.parse_args(arguments)
    command = options.command
    if command == "vault-key":
        print(Fernet.generate_key().decode())  # noqa: T201 - the command's output
        return 0
    if command == "access-token":
        return _access_token(options.label)
    try:
        from tasks import stack  # imported late: it reads the settings

        return stack.run_all() if command == "up" else stack.run_workers()
    except SettingsError as error:
        print(f"llm-proxy: {error}", file=sys.stderr)  # noqa: T201 - the one sentence
        return 2


def _access_token(label: str) -> int:
    try:
        token, line = access.make(label)
    except ValueError as error:
        print(f"llm-proxy: {error}", file=sys.stderr)  # noqa: T201 - the one sentence
        return 2
    print(f"token, for the caller:  {token}\nline, for the file:     {line}")  # noqa: T201 - the command's output
    return 0


if __name__ == "__main__":
    sys.exit(main())
