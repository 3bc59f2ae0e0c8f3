"""Where the slowest callers spent their time: told from the request's and its last batch's records, and the logs."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

from tests.chaos.clients import Story
from tests.chaos.probe import Probe
from tests.running import Stack

STATES = ("claimed", "uploading", "creating", "submitted", "ended", "delivering", "cleaning")
LOG_LINES = 12


def told(stories: list[Story], client: Any, stack: Stack, probe: Probe, most: int = 3) -> list[dict[str, Any]]:
    """The slowest, with the seconds between what is known to have happened to each."""
    logs = stack.logs().splitlines()
    return [_told(story, client, logs, probe) for story in sorted(stories, key=lambda s: -s.seconds)[:most]]


def _told(story: Story, client: Any, logs: list[str], probe: Probe) -> dict[str, Any]:
    request = _record(client, f"lp:request:{story.task_id}")
    batch_id = request.get("owner", "")
    batch = _record(client, f"lp:batch:{batch_id}")
    events = [(story.began, "asked"), *((at, f"in vain: {what}") for at, what in story.tries)]
    events += [(int(request[name]) / 1000, name) for name in ("accepted", "queued", "settled") if name in request]
    events += [(int(batch[name]) / 1000, name) for name in STATES if name in batch]
    if story.ended:
        events += [(story.connected, "connected"), (story.ended - story.held_seconds, "the front has it")]
    events.append((story.ended or story.began, "answered" if story.ended else "never answered"))
    events.sort()
    pauses = [
        (round(later - earlier, 1), f"{before} -> {after}") for (earlier, before), (later, after) in pairwise(events)
    ]
    return {
        "caller": story.key,
        "seconds": round(story.seconds, 1),
        "front_away_seconds": round(probe.away_seconds(story.began, story.ended or time.time()), 1),
        "tries_in_vain": len(story.tries),
        "counters": {name: request[name] for name in ("attempts", "missing") if name in request},
        "longest": [f"{seconds} s {what}" for seconds, what in sorted(pauses, reverse=True)[:4]],
        "log": [line[-160:] for line in logs if batch_id and batch_id in line][-LOG_LINES:],
    }


def _record(client: Any, key: str) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in client.hgetall(key).items()}
