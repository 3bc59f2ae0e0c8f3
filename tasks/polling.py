"""Poll: one look at a submitted batch; the task repeats itself until the batch is terminal."""

from __future__ import annotations

import logging
import time
from typing import Any

import msgspec

from tasks import batches
from tasks.batches import Batch
from tasks.errors import CredentialGone, NotOurTurn, UpstreamRefused, UpstreamTrouble
from tasks.models import BatchState
from tasks.providers.openai import RUNNING, TERMINAL, OpenAI
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: States in which there is nothing left to look for: delivery takes over.
PAST: frozenset[str] = frozenset({BatchState.ENDED, BatchState.DELIVERING, BatchState.CLEANING, BatchState.DONE})
#: Part of a batch's age that passes between two looks.
PAUSE_PER_AGE = 0.05


def poll(batch_id: str) -> float | None:
    """Look once.

    Returns:
        None when the batch has ended, else the seconds until the next look.

    Raises:
        NotOurTurn: another loop looks after it.
    """
    try:
        with batches.lease(batch_id, BatchState.SUBMITTED) as held:
            try:
                answer = OpenAI(held.batch.group).retrieve(held.batch.upstream_id)
            except UpstreamTrouble as error:
                return held.back_off(error)
            except (UpstreamRefused, CredentialGone) as error:
                # A revoked key or a lost batch: the results may come back into reach.
                return held.back_off(UpstreamTrouble(str(error), in_doubt=False))
            status = str(answer.get("status") or "").lower()
            progress = _progress(answer)
            if status not in TERMINAL:
                if status not in RUNNING:
                    logger.warning("%s has the unknown status %r and is polled on", batch_id, status)
                pause = pause_seconds(held.batch)
                held.advance(
                    BatchState.SUBMITTED,
                    release=True,
                    pause_seconds=pause,
                    upstream_status=status,
                    failures=0,
                    **progress,
                )
                return pause
            logger.info("%s is %s after %.1f s", batch_id, status, age_seconds(held.batch))
            held.advance(
                BatchState.ENDED,
                release=True,
                outcome="successful" if status == "completed" else "failed",
                upstream_status=status,
                output_file=answer.get("output_file_id") or "",
                error_file=answer.get("error_file_id") or "",
                errors=_errors(answer),
                failures=0,
                **progress,
            )
    except NotOurTurn as error:
        if error.state not in PAST:
            raise
    return None


def age_seconds(batch: Batch) -> float:
    """Time since the upstream took the batch."""
    return max(0.0, time.time() - batch.submitted / 1000)


def pause_seconds(batch: Batch) -> float:
    """A twentieth of the batch's age, within the configured bounds."""
    config = settings()
    return min(config.poll_max_seconds, max(config.poll_min_seconds, age_seconds(batch) * PAUSE_PER_AGE))


def _progress(answer: dict[str, Any]) -> dict[str, Any]:
    counts = answer.get("request_counts") or {}
    return {f"progress_{name}": int(counts.get(name) or 0) for name in ("total", "completed", "failed")}


def _errors(answer: dict[str, Any]) -> str:
    errors = answer.get("errors")
    items = errors.get("data") if isinstance(errors, dict) else errors
    return msgspec.json.encode(items if isinstance(items, list) else []).decode()
