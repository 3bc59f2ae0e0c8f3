"""The compose file, the image and the systemd units in a real Docker engine: `make engine`.

COMPOSE_FILE may add a file, for a machine whose limits are lower than docker-compose.yml asks for.
"""

from __future__ import annotations

import json
import sys

from tests.engine import compose, systemd

if __name__ == "__main__":
    bad = False
    for suite in (compose, systemd):
        for result in suite.run():
            bad |= result.pop("bad", False)
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
    sys.exit(bad)
