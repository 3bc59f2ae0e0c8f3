"""The parts that all held clients share: the clock, the look at their sockets, the reading of bodies."""

from __future__ import annotations

import socket
import time

import gevent
import pytest

from tasks.errors import BodyTooLarge, BodyTooSlow, ClientGone
from tasks.results import Waiter
from web import bodies, sockets
from web.alarms import TICK_SECONDS, Alarms
from web.sockets import Sockets


def test_an_alarm_nudges_in_time_and_a_cleared_one_never() -> None:
    alarms = Alarms()
    alarms.start()
    waiters = [Waiter(str(n)) for n in range(3)]
    began = time.monotonic()
    for waiter in waiters:
        alarms.set(waiter, began + 0.3)
    alarms.clear(waiters[1])
    alarms.set(waiters[2], began + 60)

    assert waiters[0].wait(5) is None
    assert 0.3 <= time.monotonic() - began < 0.3 + 5 * TICK_SECONDS
    gevent.sleep(2 * TICK_SECONDS)
    assert not any(waiter._awake.is_set() for waiter in waiters)
    alarms.clear(waiters[2])
    assert not alarms._due


def test_a_client_that_is_gone_wakes_its_waiter_and_no_other() -> None:
    held = Sockets()
    gone, here, eager = Waiter("gone"), Waiter("here"), Waiter("eager")
    pairs = [socket.socketpair() for _ in range(3)]
    for (ours, _), waiter in zip(pairs, (gone, here, eager), strict=True):
        held.watch(ours, waiter)
    pairs[0][1].close()
    pairs[2][1].send(b"GET /next")

    held.sweep()

    with pytest.raises(ClientGone):
        gone.wait(1)
    assert here.wait(0.01) is None
    assert eager.wait(0.01) is None
    assert [sockets.gone(ours) for ours, _ in pairs] == [True, False, False]
    held.unwatch(pairs[0][0].fileno())
    held.sweep()
    for pair in pairs:
        for sock in pair:
            sock.close()
    assert sockets.gone(pairs[1][0])


class Source:
    """A body that comes in pieces, with pauses."""

    def __init__(self, pieces: list[bytes], pause: float = 0.0) -> None:
        self._pieces = pieces
        self._pause = pause

    def read(self, size: int, /) -> bytes:
        gevent.sleep(self._pause)
        return self._pieces.pop(0) if self._pieces else b""


def test_a_body_is_read_whole_or_refused() -> None:
    assert bodies.read(Source([b"ab", b"c"]), 3, 1_000_000, "1 MB") == b"abc"
    assert bodies.read(Source([b"ab", b"c"]), None, 1_000_000, "1 MB") == b"abc"
    assert bodies.read(Source([]), 0, 1_000_000, "1 MB") == b""
    with pytest.raises(BodyTooLarge):
        bodies.read(Source([b"x" * 1_000_001]), None, 1_000_000, "1 MB")
    with pytest.raises(BodyTooLarge):
        bodies.read(Source([]), 1_000_001, 1_000_000, "1 MB")
    with pytest.raises(ClientGone):
        bodies.read(Source([b"ab"]), 3, 1_000_000, "1 MB")


def test_a_body_that_trickles_is_given_up_and_one_that_flows_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.2)
    with pytest.raises(BodyTooSlow):
        bodies.read(Source([b"x"] * 100, pause=0.05), 100, 1_000_000, "1 MB")

    flowing = bodies.read(Source([b"x" * 5000] * 10, pause=0.05), 50_000, 1_000_000, "1 MB")
    assert len(flowing) == 50_000
