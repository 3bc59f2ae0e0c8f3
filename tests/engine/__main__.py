"""The compose file, the image and the systemd units in a real Docker engine: `make engine`.

Where a machine's limits are lower than docker-compose.yml asks for: COMPOSE_FILE=docker-compose.yml:limits.yml.
"""

from __future__ import annotations

import json
import sys

from tests.engine import compose, systemd
from tests.running import ROOT

if __name__ == "__main__":
    if (ROOT / ".env").exists():
        sys.exit("make engine: the .env of this checkout would be the containers'; run it in another clone")
    bad = False
    for suite in (compose, systemd):
        for result in suite.run():
            bad |= result.pop("bad", False)
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
    sys.exit(bad)
