"""Sends `batch.completed` and its kin, signed by Standard Webhooks.

Statuses are computed when somebody looks, so while a URL is configured this looks itself, often.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
import urllib.error
import urllib.request
import uuid

from tests.simulator.greenlets import in_thread, sleep, spawn
from tests.simulator.state import State

LOOK_SECONDS = 0.05
ATTEMPTS = 4
TIMEOUT_SECONDS = 10.0


class Webhooks:
    """The sender of one simulator."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._running = False

    def ensure_running(self) -> None:
        """Start to look, if a URL is configured and nobody looks yet. Called with every request: none, no batches."""
        if self._state.config.webhook_url and not self._running:
            self._running = True
            spawn(self._run)

    def _run(self) -> None:
        state = self._state
        while state.config.webhook_url:
            state.look_at(state.batches.values())
            while state.events:
                spawn(self._deliver, *state.events.popleft())
            sleep(LOOK_SECONDS)
        self._running = False

    def _deliver(self, kind: str, batch_id: str) -> None:
        """Send one event until it is taken; a real thread waits, for the receiver may ask us something first."""
        event_id = f"evt_{uuid.uuid4().hex}"
        event = {
            "id": event_id,
            "object": "event",
            "created_at": int(self._state.now()),
            "type": kind,
            "data": {"id": batch_id},
        }
        body = json.dumps(event).encode()
        for attempt in range(ATTEMPTS):
            config = self._state.config
            if not config.webhook_url or in_thread(post, config.webhook_url, config.webhook_secret, event_id, body):
                return
            sleep(2.0**attempt)


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The `webhook-signature` header."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def post(url: str, secret: str, event_id: str, body: bytes) -> bool:
    """Send one event; True if the receiver answered 2xx."""
    timestamp = str(int(time.time()))
    headers = {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(secret, event_id, timestamp, body),
    }
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - the URL is the tester's own
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=TIMEOUT_SECONDS) as answer:
            return bool(answer.status < 300)
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return False
    except (urllib.error.URLError, http.client.HTTPException, OSError):
        return False
