"""Turns in a lane: a share for each credential, rotation among those that wait."""

from __future__ import annotations

import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original

from tasks import turns
from tasks.turns import Turns


@pytest.fixture(autouse=True)
def _greenlets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker, where threads are greenlets."""

    class Threading:
        Event = Event
        Lock = get_original("threading", "Lock")

    monkeypatch.setattr(turns, "threading", Threading)


class Lane:
    """Steps that last until they are told to end."""

    def __init__(self, most: int, share: int) -> None:
        self.turns = Turns(most=most, share=share)
        self.running: list[str] = []
        self.order: list[str] = []
        self.ends: dict[str, Event] = {}

    def start(self, name: str) -> gevent.Greenlet[..., None]:
        self.ends[name] = Event()
        job = gevent.spawn(self._step, name)
        gevent.sleep(0)
        return job

    def _step(self, name: str) -> None:
        with self.turns.turn(name[0]):
            self.running.append(name)
            self.order.append(name)
            self.ends[name].wait()
            self.running.remove(name)

    def end(self, name: str) -> None:
        self.ends[name].set()
        gevent.sleep(0.01)


def test_a_credential_has_its_share_and_leaves_room_for_others() -> None:
    lane = Lane(most=4, share=3)
    for n in range(6):
        lane.start(f"a{n}")
    assert lane.running == ["a0", "a1", "a2"]

    lane.start("b0")

    assert lane.running == ["a0", "a1", "a2", "b0"]


def test_those_that_wait_come_in_rotation_by_credential() -> None:
    lane = Lane(most=1, share=1)
    for name in ("a0", "a1", "a2", "a3", "b0", "b1", "c0"):
        lane.start(name)
    for _ in range(7):
        lane.end(lane.running[0])

    assert lane.order == ["a0", "a1", "b0", "c0", "a2", "b1", "a3"]


def test_one_that_gives_up_waiting_or_fails_leaves_no_turn_behind() -> None:
    lane = Lane(most=1, share=1)
    lane.start("a0")
    waits = lane.start("a1")
    lane.start("b0")
    waits.kill()
    with pytest.raises(ZeroDivisionError), Turns(most=1, share=1).turn("x"):
        raise ZeroDivisionError

    lane.end("a0")

    assert lane.running == ["b0"]
    lane.end("b0")
    assert not lane.turns._waiting
    assert not lane.turns._running
