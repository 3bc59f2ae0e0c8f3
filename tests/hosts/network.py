"""Hosts of a small network: Linux network namespaces on one bridge. Needs root and `ip`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

BRIDGE = "llmproxy0"
#: RFC 2544 keeps these for measurements.
OUTSIDE = "198.18.77.1"


@dataclass(frozen=True)
class Host:
    """A namespace with a cable to the bridge."""

    name: str
    address: str

    @property
    def space(self) -> str:
        """Its namespace, as in `ip netns exec`."""
        return f"llmproxy-{self.name}"

    def command(self, *words: str) -> list[str]:
        """A command that runs there."""
        return ["ip", "netns", "exec", self.space, *words]

    def kill(self) -> None:
        """kill -9 everything that runs there."""
        for pid in subprocess.check_output(["ip", "netns", "pids", self.space], text=True).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def unplug(self) -> None:
        """Pull its cable: nobody hears of it, and it hears of nobody."""
        _ip("link", "set", _cable(self), "down")

    def plug_in(self) -> None:
        """Put its cable back."""
        _ip("link", "set", _cable(self), "up")


@contextlib.contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Hosts for one `with`; the caller is a host, too, at OUTSIDE."""
    hosts = [Host(name, f"198.18.77.{10 + number}") for number, name in enumerate(names)]
    with contextlib.ExitStack() as undo:
        _ip("link", "add", BRIDGE, "type", "bridge")
        undo.callback(_ip, "link", "del", BRIDGE)
        _ip("address", "add", f"{OUTSIDE}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for host in hosts:
            _ip("netns", "add", host.space)
            undo.callback(_ip, "netns", "del", host.space)
            _ip("link", "add", _cable(host), "type", "veth", "peer", "name", "eth0", "netns", host.space)
            undo.callback(_ip, "link", "del", _cable(host))
            undo.callback(host.kill)
            _ip("link", "set", _cable(host), "master", BRIDGE, "up")
            for words in ("address add {} dev eth0", "link set eth0 up", "link set lo up"):
                _ip("-n", host.space, *words.format(f"{host.address}/24").split())
        yield hosts


def _cable(host: Host) -> str:
    return f"lp-{host.name}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
