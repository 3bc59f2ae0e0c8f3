"""A browser for the dashboard's tests: Debian's chromium, or another one that the machine has.

`python -m tests.browser` (a part of `make test`) sets one up where there is none: with apt-get where that may be
used, else one of Playwright's own. So no test is left out for want of a browser.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
#: The library is what Playwright's own program needs, and small systems have not.
PACKAGES = ("chromium", "libatomic1")
INSTALL = ("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES)


def drives() -> bool:
    """Whether Playwright's own program starts here."""
    return subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True).returncode == 0


def find() -> str | None:
    """The path of one that is there, where it can be driven."""
    if not drives():
        return None
    for name in NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def commands() -> list[tuple[str, ...]]:
    """What would bring one."""
    if not shutil.which("apt-get") or not _is_root():
        return [(sys.executable, "-m", "playwright", "install", "chromium")]
    prefix = () if os.geteuid() == 0 else ("sudo", "-n")
    return [(*prefix, "apt-get", "update", "--quiet"), (*prefix, *INSTALL)]


def _is_root() -> bool:
    """Or may be without being asked for a password."""
    if os.geteuid() == 0:
        return True
    return bool(shutil.which("sudo")) and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0


def main() -> int:
    """Bring one, if need be."""
    if find():
        return 0
    print("llm-proxy: the dashboard's tests need a browser: setting one up")  # noqa: T201 - a command
    for command in commands():
        subprocess.run(command, check=False)
    if find():
        return 0
    sys.stderr.write(f"llm-proxy: no browser could be set up: apt-get install {' '.join(PACKAGES)}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
