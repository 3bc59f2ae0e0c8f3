"""How many files a process may have open; each client that a front holds is one."""

from __future__ import annotations

import resource
import sys
from typing import Final

#: What a system lets a process have that names no limit: macOS' OPEN_MAX, Linux' fs.nr_open by default.
UNNAMED: Final = 1_048_576 if sys.platform == "linux" else 10_240


def allowed() -> int:
    """As many as it may have now."""
    return _named(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def possible() -> int:
    """As many as it may allow itself."""
    return _named(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def allow_all() -> None:
    """Allow itself what is possible: the usual limit is 1,024."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (possible(), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _named(limit: int) -> int:
    return UNNAMED if limit == resource.RLIM_INFINITY else limit
