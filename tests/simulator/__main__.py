"""`python -m tests.simulator --port 9100 --batch-delay 5`: prints the URL and serves until SIGTERM.

Every field of Config is an option; lists of rules are given as JSON: --faults '[{"path": "POST /v1/batches", ...}]'.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

import msgspec
from gevent import signal_handler

from tests.simulator.config import Config
from tests.simulator.server import Server


def value(text: str) -> Any:
    """A number, true, false or rules as JSON; anything else is a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def main() -> None:
    """Run a simulator from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    for field in msgspec.structs.fields(Config):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=value, dest=field.name)
    options = vars(parser.parse_args())
    host, port = options.pop("host"), options.pop("port")
    try:
        config = Config().merged(options)
    except msgspec.ValidationError as error:
        parser.error(str(error))
    server = Server(config, host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal_handler(number, server.stop)
    server.run(announce)


def announce(url: str) -> None:
    """One line that a script can read."""
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
