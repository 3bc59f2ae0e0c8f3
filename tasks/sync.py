"""The synchronous lane: one request is sent to the upstream now, at full price or by flex.

It is the body of `tasks.request`. The queue that its message lies in decides the lane: on
`sync` a worker runs it, on `batch.<group>` the collector takes it up in bulk.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from tasks import backoff, batches, connections, flex, leases, message, sealing, settle, stage, store
from tasks.errors import CredentialGone, NotOurTurn, SettingsError, StoreUnavailable, UpstreamTrouble, VaultError
from tasks.models import Group, Lane, Reply, new_id
from tasks.providers import registry
from tasks.providers.dialect import Upstream
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: Between two tries to store a reply: sooner than a sweep finds that nobody renews the lease any more.
SETTLE_SECONDS = 1.0
#: Answers that may come from something between us and a model that runs all the same.
CUT_SHORT = frozenset({408, 502, 504})


def send(request_id: str) -> float | None:
    """Send one request and settle it.

    Returns:
        None when it is settled, else the seconds after which to try again.

    Raises:
        NotOurTurn: it is settled, in a batch, being sent, or waiting for a place among its credential's calls, or
            somebody else has taken it meanwhile.
    """
    token = new_id()
    run = functools.partial(_run, request_id, token)
    taken = run("take")
    if len(taken) < 2:
        if taken:
            store.say_newer("request", request_id)
        raise NotOurTurn
    failures, lane, accepted, *parts = (part.decode() for part in taken)
    names = ("credential", "endpoint", "model", "organization", "project", "provider", "extra")
    group = Group(**dict(zip(names, parts, strict=True)))
    credential = group.credential
    left = (int(accepted) + batches.deadline_ms() - store.now_ms()) / 1000
    began = time.monotonic()
    try:
        if left <= 0:
            reply = stage.deadline_reply()
        elif int(failures) >= settings().max_line_attempts:
            reply = settle.error_reply(502, "The workers that were to send this request died.", code="workers_died")
        else:
            with leases.renewing(lambda: bool(run("renew"))):
                reply = _call(request_id, group, Lane(lane), left, lambda: bool(run("send")))
    except UpstreamTrouble as error:
        if int(failures) + 1 < settings().max_line_attempts:
            return _again(request_id, token, credential, int(failures), error)
        reply = _last_word(error)
    except (VaultError, SettingsError) as error:
        logger.error("%s waits for the operator: %s", request_id, error)
        settle.release(request_id, token, stage.VAULT_SECONDS, counter="")
        return stage.VAULT_SECONDS
    except CredentialGone as error:
        logger.error("%s cannot be sent: %s", request_id, error)
        reply = stage.credential_reply()
    _settle(request_id, token, reply, began + left)
    _admit(credential, request_id)
    return None


def _run(request_id: str, token: str, step: str) -> Any:
    length = int(leases.LEASE_SECONDS * 1000)
    return store.run("run", request_id, token, length, step, settings().sync_concurrency)


def _call(request_id: str, group: Group, lane: Lane, left_seconds: float, may_send: Callable[[], bool]) -> Reply:
    upstream = registry.upstream(group)
    stored = connections.client().get(f"{store.PREFIX}body:{request_id}")
    if stored is None:
        return stage.body_lost_reply()
    body = sealing.opened(request_id, stored)
    if not may_send():
        raise NotOurTurn  # our lease had run out, and somebody else has taken it
    return _send(upstream, body, lane, left_seconds)


def _send(upstream: Upstream, body: bytes, lane: Lane, left_seconds: float) -> Reply:
    """One call; two, when flex is not to be had."""
    seconds = min(settings().upstream_timeout_seconds, left_seconds)
    cheap = upstream.flex(body) if lane is Lane.FLEX else None
    if cheap is None:
        return _by(Lane.SYNC, upstream.send(body, seconds))
    try:
        reply = upstream.send(cheap, seconds)
        if not _may_be_standard(reply.status, reply.body):
            return _by(Lane.FLEX, reply)
    except UpstreamTrouble as error:
        if error.answer is None or not _may_be_standard(error.answer.status, error.answer.body):
            raise
    return _by(Lane.SYNC, upstream.send(body, seconds))


def _may_be_standard(status: int, answer: bytes) -> bool:
    return flex.is_unavailable(status, answer) and settings().fallback != "off"


def _again(request_id: str, token: str, credential: str, failures: int, error: UpstreamTrouble) -> float:
    """Give the request back; returns the seconds after which it is sent again."""
    pause = backoff.seconds(failures, error.retry_after_seconds)
    logger.warning("%s is sent again in %.1f s: %s", request_id, pause, error)
    if error.in_doubt and (error.answer is None or error.answer.status in CUT_SHORT):
        store.run("count", "possibly_double_paid")
    settle.release(request_id, token, pause)
    # What a 429 says to one call it says to all of this credential.
    limited = error.answer is not None and error.answer.status == 429
    _admit(credential, request_id, pause_seconds=pause * 0.9 if limited else 0.0)
    return pause


def _admit(credential: str, request_id: str, *, pause_seconds: float = 0.0) -> None:
    """Let the next ones take the place of a call that has ended. If we die before that, the sweep calls them."""
    length, pause = int(leases.LEASE_SECONDS * 1000), int(pause_seconds * 1000)
    store.run("admit", credential, request_id, settings().sync_concurrency, length, message.request_template(), pause)


def _settle(request_id: str, token: str, reply: Reply, until: float) -> None:
    """Settle, and again while Redis is away, until nobody waits any more: the reply was paid, and is only here."""
    while True:
        try:
            settle.settle([(request_id, token, reply)])
        except StoreUnavailable:
            if time.monotonic() > until:
                logger.error("%s: its reply could not be stored until its deadline", request_id)
                return
            time.sleep(SETTLE_SECONDS)
        else:
            return


def _last_word(error: UpstreamTrouble) -> Reply:
    if error.answer is None:
        return settle.error_reply(502, "The upstream could not be reached.", code="upstream_unreachable")
    return _by(Lane.SYNC, Reply.of_upstream(error.answer.status, error.answer.headers, error.answer.body))


def _by(lane: Lane, reply: Reply) -> Reply:
    headers = {**reply.headers, "x-batch-lane": str(lane)}
    return Reply(status=reply.status, headers=headers, body=reply.body, outcome=reply.outcome)
