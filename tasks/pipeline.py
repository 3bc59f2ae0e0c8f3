"""The Celery tasks: what is published, in the order in which a request meets them.

    request                       one HTTP request; collected in bulk, or executed on queue `sync`
    collect ─▶ submit ─▶ poll ─▶ deliver        one chain for each batch
    look                          polls now, because the upstream said so
    sweep                         sets going again what stands still

Each is a few lines around a function that knows nothing of Celery. Arguments are ids only.
A stage that must wait returns the seconds, and its task repeats itself with that countdown:
no worker slot is held.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import redis
from celery import Task, chain, shared_task
from celery.exceptions import Ignore

from tasks import budgets, collector, delivery, events, message, polling, store, submission, sweeper, sync
from tasks.errors import NotOurTurn, StoreUnavailable
from tasks.models import BatchState
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: How often a hint waits for a look that is under way.
LOOK_RETRIES = 3
#: The stage that works on a batch in each state; the stages after it follow in the chain.
STAGE = {
    BatchState.CLAIMED: "submit",
    BatchState.UPLOADING: "submit",
    BatchState.CREATING: "submit",
    BatchState.SUBMITTED: "poll",
    BatchState.ENDED: "deliver",
    BatchState.DELIVERING: "deliver",
    BatchState.CLEANING: "deliver",
}


def _step(task: Task[Any, Any], step: Callable[[], float | None]) -> None:
    """Run a stage once; repeat the task later, or end its chain quietly, as the stage says."""
    try:
        pause = step()
    except NotOurTurn as error:
        raise Ignore(f"not our turn: {error.state}") from None
    except (StoreUnavailable, redis.RedisError) as error:
        logger.warning("%s is left to the sweep: %s", task.request.args, type(error).__name__)
        raise Ignore("the store is away") from error
    if pause is not None:
        raise task.retry(countdown=pause)


@shared_task(name=message.REQUEST_TASK, bind=True, max_retries=None)
def request(self: Task[Any, Any], request_id: str) -> None:
    """Send one request to the upstream synchronously and settle it."""
    _step(self, lambda: sync.send(request_id))


@shared_task(name=message.COLLECT_TASK, bind=True, send_events=False)  # 86,400 a day: nobody wants to see them
def collect(self: Task[Any, Any]) -> None:
    """Start a chain for every group that is full or old enough."""
    for batch_id in collector.collect():
        start(batch_id)
        events.received(self.app, batch_id)


@shared_task(name="tasks.submit", bind=True, max_retries=None)
def submit(self: Task[Any, Any], batch_id: str) -> None:
    """Upload the input file and create the batch."""
    _step(self, lambda: submission.submit(batch_id))


@shared_task(name="tasks.poll", bind=True, max_retries=None)
def poll(self: Task[Any, Any], batch_id: str) -> None:
    """Look at the batch until it is terminal."""
    _step(self, lambda: polling.poll(batch_id))


@shared_task(name=message.LOOK_TASK, bind=True, max_retries=None)
def look(self: Task[Any, Any], batch_id: str) -> None:
    """Look at the batch now; if it has ended, go on from there at once."""
    try:
        if polling.look(batch_id):
            start(batch_id, BatchState.ENDED)
    except NotOurTurn as error:
        if error.state == "held" and self.request.retries < LOOK_RETRIES:
            # The look that is under way may have been answered before the batch ended.
            raise self.retry(countdown=0.5) from None
        raise Ignore(f"not our turn: {error.state}") from None
    except (StoreUnavailable, redis.RedisError) as error:
        raise Ignore("the store is away: the batch is polled anyway") from error


@shared_task(name="tasks.deliver", bind=True, max_retries=None)
def deliver(self: Task[Any, Any], batch_id: str) -> None:
    """Settle every request of the batch."""
    with events.delivery(self.app, batch_id):
        _step(self, lambda: delivery.deliver(batch_id))


@shared_task(name=message.SWEEP_TASK)
def sweep() -> None:
    """Set going again whatever stands still, and add up what has been spent."""
    store.tick("sweep")
    for batch_id, state in sweeper.standing_batches():
        start(batch_id, state)
    sweeper.standing_requests()
    sweeper.settled_messages()
    sweeper.trim_stream()
    budgets.note(settings())


def start(batch_id: str, state: BatchState = BatchState.CLAIMED) -> None:
    """Publish the chain of a batch from the stage that its state calls for."""
    stages = {"submit": submit, "poll": poll, "deliver": deliver}
    names = list(stages)
    chain(*(stages[name].si(batch_id) for name in names[names.index(STAGE[state]) :])).apply_async()
