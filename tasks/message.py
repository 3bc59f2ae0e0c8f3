"""The messages that Redis scripts push into Celery queues, in kombu's own format.

kombu publishes one message at a time, each with a body in base64 inside an envelope of 1 kB,
and has no bulk publish; under gevent it reached 100 to 300 requests a second. So the
scripts push messages themselves, many at once and atomically with our own keys. They hold
ids only: a worker with `-Q batch.<group>` executes them like any other.
"""

from __future__ import annotations

import re

REQUEST_TASK = "tasks.request"
COLLECT_TASK = "tasks.collect"
SWEEP_TASK = "tasks.sweep"
LOOK_TASK = "tasks.look"
TICKS = frozenset({COLLECT_TASK, SWEEP_TASK})
#: A request's or batch's id where a task's arguments are shown.
ID_PATTERN = re.compile(r"[0-9a-f]{32}")
COLLECT_QUEUE = "collect"
CONTROL_QUEUE = "control"
SYNC_QUEUE = "sync"


def group_queue(group_id: str) -> str:
    """The Celery queue in which a group's requests wait."""
    return f"batch.{group_id}"


def request_message(request_id: str, queue: str) -> str:
    """The message of `tasks.request(request_id)`; task id and custom_id are the same."""
    return _message(REQUEST_TASK, request_id, queue, f'[[\\"{request_id}\\"],{{}},{{}}]', f"('{request_id}',)")


def request_template() -> str:
    """The message of `tasks.request` with ID, QUEUE and NOW in place of its id, queue and the time (ms)."""
    return request_message("ID", "QUEUE").replace('"properties":{', '"properties":{"pushed":NOW,', 1)


def look_template(task_id: str) -> str:
    """The message of `tasks.look(batch_id)` with ID in place of the batch's id."""
    return _message(LOOK_TASK, task_id, CONTROL_QUEUE, '[[\\"ID\\"],{},{}]', "('ID',)")


def collect_message(task_id: str) -> str:
    """The message of `tasks.collect()`."""
    return _message(COLLECT_TASK, task_id, COLLECT_QUEUE, "[[],{},{}]", "()")


def _message(task: str, task_id: str, queue: str, body: str, argsrepr: str) -> str:
    # The scripts find the task id as correlation_id, and it must stay the first match.
    # What Celery and kombu need and no more: a message lies in Redis for each waiting request.
    return (
        f'{{"body":"{body}","content-encoding":"utf-8","content-type":"application/json",'
        f'"properties":{{"correlation_id":"{task_id}","delivery_mode":2,'
        f'"delivery_info":{{"exchange":"","routing_key":"{queue}"}},"priority":0,"delivery_tag":"{task_id}"}},'
        f'"headers":{{"lang":"py","task":"{task}","id":"{task_id}","retries":0,'
        f'"argsrepr":"{argsrepr}","kwargsrepr":"{{}}","ignore_result":true}}}}'
    )
