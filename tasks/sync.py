"""The synchronous lane: one request is sent to the upstream now, at full price.

It is the body of `tasks.request`. The queue that its message lies in decides the lane: on
`sync` a worker runs it, on `batch.<group>` the collector takes it up in bulk.
"""

from __future__ import annotations

import logging
import time

from tasks import backoff, batches, connections, settle, store
from tasks.errors import CredentialGone, NotOurTurn, StoreUnavailable, UpstreamTrouble
from tasks.models import Group, Reply, new_id
from tasks.providers.openai import OpenAI
from tasks.settings import settings

logger = logging.getLogger(__name__)

SETTLE_TRIES = 20


def send(request_id: str) -> float | None:
    """Send one request and settle it.

    Returns:
        None when it is settled, else the seconds after which to try again.

    Raises:
        NotOurTurn: it is settled, in a batch, or being sent.
    """
    token = new_id()
    length = int(batches.LEASE_SECONDS * 1000)
    taken = store.run("run", request_id, token, length, "take")
    if not taken:
        raise NotOurTurn
    failures, *parts = (part.decode() for part in taken)
    credential, endpoint, model, organization, project = parts
    group = Group(credential=credential, endpoint=endpoint, model=model, organization=organization, project=project)
    try:
        if int(failures) >= settings().max_line_attempts:
            raise UpstreamTrouble("its workers died too often", in_doubt=True)
        with batches.renewing(lambda: bool(store.run("run", request_id, token, length, "renew"))):
            body = connections.client().get(f"{store.PREFIX}body:{request_id}")
            reply = OpenAI(group).send(endpoint, body, settings().upstream_timeout_seconds)
    except UpstreamTrouble as error:
        if int(failures) + 1 < settings().max_line_attempts:
            pause = backoff.seconds(int(failures), error.retry_after_seconds)
            logger.warning("%s is sent again in %.1f s: %s", request_id, pause, error)
            if error.in_doubt and error.answer is None:
                connections.client().hincrby(f"{store.PREFIX}stats", "possibly_double_paid")
            settle.release(request_id, token, pause)
            return pause
        reply = _last_word(error)
    except CredentialGone as error:
        logger.error("%s cannot be sent: %s", request_id, error)
        reply = settle.error_reply(401, "The stored credential of this request is gone.", code="credential_lost")
    _settle(request_id, token, _on_sync_lane(reply))
    return None


def _settle(request_id: str, token: str, reply: Reply) -> None:
    """Settle, and again while Redis is away: the reply was paid, and is only here."""
    for _ in range(SETTLE_TRIES):
        try:
            settle.settle([(request_id, token, reply)])
        except StoreUnavailable:
            time.sleep(1)
        else:
            return
    logger.error("%s: its reply could not be stored in %d s", request_id, SETTLE_TRIES)


def _last_word(error: UpstreamTrouble) -> Reply:
    if error.answer is None:
        return settle.error_reply(502, "The upstream could not be reached.", code="upstream_unreachable")
    return Reply.of_upstream(error.answer.status, error.answer.headers, error.answer.body)


def _on_sync_lane(reply: Reply) -> Reply:
    headers = {**reply.headers, "x-batch-lane": "sync"}
    return Reply(status=reply.status, headers=headers, body=reply.body, outcome=reply.outcome)
