"""How a stage of a batch is run: under its lease, with one answer to everything that can go wrong.

Trouble is waited out with back-off, without holding a worker, until the deadline of the oldest request. Then
the batch is given up: delivery answers its requests with the upstream's last refusal, or 504.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import redis

from tasks import leases, store
from tasks.batches import encode_refusal
from tasks.errors import (
    CredentialGone,
    NotOurTurn,
    SettingsError,
    StoreUnavailable,
    UpstreamRefused,
    UpstreamTrouble,
    VaultError,
)
from tasks.leases import Lease
from tasks.models import BatchState, Reply
from tasks.settle import error_reply
from tasks.turns import Turns

logger = logging.getLogger(__name__)

VAULT_SECONDS = 30.0
#: Tries to delete the files; after that their own expiry at the upstream does it.
CLEANING_TRIES = 20


#: Files are read and written whole: more at once would only take longer each.
TRANSFERS = Turns(most=12, share=8)
LOOKS = Turns(most=100, share=50)


def run(
    batch_id: str,
    *states: BatchState,
    work: Callable[[Lease], float | None],
    turns: Turns = TRANSFERS,
    early: bool = False,
) -> float | None:
    """Do one step of a batch that is in one of `states`, when it is its caller's turn.

    Returns:
        None when the next stage may begin, else the seconds after which to try again.

    Raises:
        NotOurTurn: somebody else works on it, or it is elsewhere.
        StoreUnavailable: the sweep takes it up.
    """
    with leases.lease(batch_id, *states, early=early) as held:
        try:
            with turns.turn(held.batch.group.credential):
                return work(held)
        except (NotOurTurn, StoreUnavailable, redis.RedisError):
            raise
        except UpstreamTrouble as error:
            return _later(held, str(error), error.retry_after_seconds, deadline_reply())
        except UpstreamRefused as error:
            # Not the batch is refused but our look at it: a revoked key, a file that is gone. It may come back.
            reply = Reply.of_upstream(error.status, error.headers, error.body)
            return _later(held, str(error), None, reply)
        except CredentialGone as error:
            return _later(held, str(error), None, credential_reply())
        except (VaultError, SettingsError) as error:
            return _later(held, str(error), VAULT_SECONDS, deadline_reply())
        except Exception:
            # A defect, or an upstream that is stranger than we thought. The traceback names code, not data.
            logger.exception("%s: a step failed", batch_id)
            return _later(held, "a step failed", None, deadline_reply())


def _later(held: Lease, why: str, retry_after_seconds: float | None, last_word: Reply) -> float | None:
    batch = held.batch
    if batch.state is BatchState.CLEANING:  # everybody is answered
        if batch.failures + 1 < CLEANING_TRIES:
            return held.back_off(why, retry_after_seconds)
        logger.error("%s: its files could not be deleted and will expire at the upstream: %s", batch.id, why)
        held.advance(BatchState.DONE, release=True)
    elif not batch.is_over(store.now_ms()):
        return held.back_off(why, retry_after_seconds)
    else:
        logger.error("%s is given up at its deadline: %s", batch.id, why)
        give_up(held, last_word)
    return None


def give_up(held: Lease, reply: Reply) -> None:
    """End a batch without results: delivery answers its requests with the reply."""
    ended = held.batch.state in {BatchState.ENDED, BatchState.DELIVERING}  # and was counted then
    held.advance(
        BatchState.ENDED,
        release=True,
        outcome="" if ended else "failed",
        end="given_up",
        refusal=encode_refusal(reply),
        unbatchable=0,
        failures=0,
    )


def deadline_reply() -> Reply:
    """What a request gets whose deadline has passed."""
    return error_reply(
        504, "The upstream did not answer within LLM_PROXY_REQUEST_DEADLINE_SECONDS.", code="batch_deadline"
    )


def credential_reply() -> Reply:
    """What a request gets whose key has left the store."""
    return error_reply(401, "The stored credential of this request is gone; send it again.", code="credential_lost")


def body_lost_reply() -> Reply:
    """What a request gets whose body has left the store, by hand or by an eviction."""
    return error_reply(502, "The stored body of this request is gone; send it again.", code="body_lost")
