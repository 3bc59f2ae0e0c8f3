"""Requests that a test accepts by itself, without a front."""

from __future__ import annotations

from typing import Any

import gevent

from tasks.accept import Acceptor
from tasks.models import Group, Reply, Request
from tasks.settings import settings

GROUP = Group(credential="c" * 24, endpoint="/v1/chat/completions", model="m")


def make_request(**fields: Any) -> Request:
    """A request of `GROUP`, but for the fields that are given."""
    return Request(**{"group": GROUP, "body": b'{"model":"m"}', "fingerprint": "f1", **fields})


def accept(*requests: Request) -> list[str]:
    """Accept requests as a front does, all at once; returns the ids under which they run."""
    acceptor = Acceptor(settings())
    acceptor.start()
    jobs = [gevent.spawn(acceptor.accept, request, "Bearer sk-x") for request in requests]
    gevent.joinall(jobs, timeout=10)
    return [job.get() for job in jobs]


def ok(body: bytes = b"{}") -> Reply:
    """An upstream's good answer."""
    return Reply.of_upstream(200, {}, body)
