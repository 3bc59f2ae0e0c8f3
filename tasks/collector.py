"""Collect: close the groups that are full or old enough, each into one or more batches."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tasks import batches, connections, control, message, stage, store
from tasks.errors import CredentialGone, StoreUnavailable

logger = logging.getLogger(__name__)


def collect() -> Iterator[str]:
    """Close what is due; yields the id of each new batch, for the chain to be started.

    Ticks pile up in Redis while no worker runs, so the first one answers for all of them.
    A batch whose chain is never started, because the worker dies here, is the sweep's.
    """
    connections.client().delete(message.COLLECT_QUEUE)
    store.tick("collect")
    due = batches.open_groups()
    while due:  # a batch of each and then the next of each: who has many does not come before who has one
        again = []
        for group_id in due:
            try:
                batch_id = batches.claim(group_id)
            except CredentialGone as error:
                count = control.end_queue(group_id, stage.credential_reply())
                logger.error("%d requests cannot be sent: %s", count, error)
                continue
            except StoreUnavailable:
                logger.exception("group %s could not be closed; the others are", group_id)
                continue
            if batch_id:
                logger.info("%s claimed from group %s", batch_id, group_id)
                again.append(group_id)
                yield batch_id
        due = again
