"""Redis does what it was asked, and its answer is lost on the way."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
import redis

from tasks import batches, message, settle, store
from tasks.errors import StoreUnavailable
from tasks.results import Results
from tests.integration.accepting import GROUP, accept, make_request, ok


@pytest.fixture(autouse=True)
def _redis(redis_client: Any) -> None:
    pass


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the answers of a script be lost, so many times."""
    script = store._script
    left: dict[str, int] = {}

    def lossy(name: str) -> Any:
        def run(**options: Any) -> Any:
            answer = script(name)(**options)
            if left.get(name, 0) > 0:
                left[name] -= 1
                raise redis.ConnectionError("the answer was lost")
            return answer

        return run

    monkeypatch.setattr(store, "_script", lossy)
    return left


def test_a_script_whose_answer_was_lost_is_run_again_and_does_nothing_twice(losing: Any, redis_client: Any) -> None:
    request = make_request()
    losing.update(accept=1, claim=1, settle=1)

    assert accept(request) == [request.id]
    assert redis_client.llen(message.group_queue(GROUP.id)) == 1
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    assert [request_id for request_id, _ in batches.lines(batch_id)] == [request.id]
    settle.settle([(request.id, batch_id, ok())])

    assert losing == {"accept": 0, "claim": 0, "settle": 0}
    stats = redis_client.hgetall("lp:stats")
    assert (stats[b"requests_total"], stats[b"batches_total"], stats[b"requests_successful"]) == (b"1", b"1", b"1")


def test_an_answer_that_is_lost_twice_is_an_error_and_nothing_was_done_twice(losing: Any, redis_client: Any) -> None:
    accept(make_request())
    losing.update(claim=2)

    with pytest.raises(StoreUnavailable):
        batches.claim(GROUP.id)

    assert redis_client.zcard("lp:batches") == 1  # the sweep goes on with it


def test_a_reply_that_was_settled_while_the_reader_was_cut_off_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    request = make_request()
    accept(request)
    batch_id = batches.claim(GROUP.id)
    assert batch_id
    results = Results()
    waiter = results.register(request.id)
    cut_off: list[str] = []

    def reading() -> None:
        if cut_off:
            raise gevent.GreenletExit  # it has looked for everything: no stream will tell it more
        cut_off.append("once")
        settle.settle([(request.id, batch_id, ok(b'"found"'))])
        raise redis.ConnectionError("the connection was lost")

    monkeypatch.setattr(results, "_read", reading)
    results.start()

    reply = waiter.wait(5)
    assert reply is not None
    assert reply.body == b'"found"'
