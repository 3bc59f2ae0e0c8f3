"""Asks for known vulnerabilities of what a lock file names: `make lint`'s last step.

pip-audit asks PyPI, or OSV where PyPI cannot be reached. Without a network it would find nothing and look content; this
says plainly that nobody was asked, and does not fail: a checkout must pass the same checks everywhere.
"""

from __future__ import annotations

import json
import subprocess  # nosec B404 # it runs pip-audit
import sys
from pathlib import Path
from typing import Any

SERVICES = ("pypi", "osv")
SECONDS = 180


def ask(lock: str, service: str) -> list[dict[str, Any]]:
    """What a service says of each package; nothing if it cannot be reached."""
    command = [
        str(Path(sys.executable).parent / "pip-audit"), "--requirement", lock, "--no-deps", "--disable-pip",
        "--format=json", "--progress-spinner=off", "--timeout=10", f"--vulnerability-service={service}",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS)  # noqa: S603 - our own words  # nosec B603
        return [each for each in json.loads(done.stdout)["dependencies"] if "skip_reason" not in each]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []


def main(lock: str) -> int:
    """Print what is known; 1 when a package has a known vulnerability."""
    for service in SERVICES:
        if not (asked := ask(lock, service)):
            continue
        bad = [each for each in asked if each["vulns"]]
        for each in bad:
            fixes = {fix for vuln in each["vulns"] for fix in vuln["fix_versions"]}
            ids = ", ".join(vuln["id"] for vuln in each["vulns"])
            print(f"pip-audit: {each['name']} {each['version']}: {ids}; mended in {', '.join(sorted(fixes)) or '?'}")  # noqa: T201
        print(f"pip-audit: {len(asked)} packages of {lock} asked of {service}, {len(bad)} with known vulnerabilities")  # noqa: T201
        return 1 if bad else 0
    print(f"pip-audit: {lock} was NOT AUDITED: neither PyPI nor OSV can be reached from here")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
