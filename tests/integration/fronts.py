"""Web processes, as far as the store knows: what they ask for, and which of their clients depart."""

from __future__ import annotations

from typing import Any

import pytest

from tasks import batches, settle
from tasks.accept import Acceptor
from tasks.departures import Departures, How
from tasks.models import Attempt, Request
from tasks.presence import Presence
from tasks.settings import settings
from tests.integration.accepting import GROUP, make_request, ok

#: Nothing is accepted yet: ask again.
LATER = ""


class Web:
    """One web process, as far as the store knows."""

    def __init__(self) -> None:
        self.presence = Presence()
        self.departures = Departures(settings(), self.presence)
        self._acceptor = Acceptor(settings(), self.presence)
        self._acceptor.start()

    def ask(self, request: Request) -> str:
        return self._acceptor.accept(request, "Bearer sk-x")

    def retry(self, attempt: Attempt = Attempt.RETRY, **fields: Any) -> str:
        tries = fields.pop("tries", 0 if attempt is Attempt.FIRST else 1)
        return self.ask(make_request(attempt=attempt, tries=tries, **fields))

    def depart(self, request: Request, how: How, task_id: str = "") -> None:
        self.departures._publish([(task_id or request.id, request.digest, how)])


@pytest.fixture
def web(redis_client: Any) -> Web:
    """A web process on an empty Redis."""
    return Web()


@pytest.fixture
def request_(web: Web) -> Request:
    """A request whose client waits."""
    made = make_request()
    assert web.ask(made) == made.id
    return made


def answer(request: Request, status: int = 200) -> None:
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    reply = ok() if status == 200 else settle.error_reply(status, "no", code=None)
    assert settle.settle([(request.id, batch_id, reply)]) == 1
