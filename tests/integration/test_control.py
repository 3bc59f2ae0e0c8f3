"""What an operator cancels, beside what happens at the same moment."""

from __future__ import annotations

from typing import Any

import pytest

from tasks import batches, control
from tasks.models import Group, Lane, Reply
from tests.integration.accepting import GROUP, accept, make_request

OTHER = Group(credential="c" * 24, endpoint="/v1/chat/completions", model="another")


def test_what_the_collector_claims_while_a_group_is_canceled_is_canceled_as_a_batch(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(make_request(), make_request())
    end_queue = control.end_queue

    def claimed_first(group_id: str, reply: Reply) -> int:
        assert batches.claim(group_id)
        return end_queue(group_id, reply)

    monkeypatch.setattr(control, "end_queue", claimed_first)

    assert control.cancel_group(GROUP.id) == {"requests": 0, "batches": 1}


def test_a_groups_synchronous_requests_are_canceled_with_it_and_no_others(redis_client: Any) -> None:
    mine, others = make_request(lane=Lane.SYNC), make_request(lane=Lane.SYNC, group=OTHER)
    accept(mine, others)

    assert control.cancel_group(GROUP.id) == {"requests": 1, "batches": 0}
    assert redis_client.hget(f"lp:request:{mine.id}", "state") == b"settled"
    assert redis_client.hget(f"lp:request:{others.id}", "state") == b"queued"
