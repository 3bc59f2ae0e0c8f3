"""`/webhooks/openai`: a signed word of the upstream makes its batch be looked at now, and nothing else."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from standardwebhooks import Webhook

from tests.integration import hasty
from tests.integration.hasty import Case, assert_all_right, post, post_many
from tests.integration.test_pipeline import batches_of
from tests.running import Stack, until
from tests.simulator.server import Simulator

SECRET, OLD_SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw==", "whsec_b2xk"


@pytest.fixture(scope="module")
def _stack() -> Iterator[tuple[Stack, Simulator]]:
    """Polling alone would take half a minute."""
    with hasty.hasty_stack(LLM_PROXY_POLL_MIN_SECONDS="30", LLM_PROXY_WEBHOOK_SECRETS=f"{SECRET},{OLD_SECRET}") as made:
        yield made


@pytest.fixture
def case(_stack: tuple[Stack, Simulator], api_key: str) -> Case:
    stack, upstream = _stack
    hasty.fresh(upstream)
    return stack, upstream, api_key


def event(batch_id: str, kind: str = "batch.completed") -> str:
    return json.dumps({"id": "evt_1", "object": "event", "type": kind, "created_at": 1, "data": {"id": batch_id}})


def send(
    stack: Stack, body: str, *, event_id: str, secret: str = SECRET, ago: timedelta = timedelta(), **changed: str
) -> requests.Response:
    at = datetime.now(UTC) - ago
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, at, body),
        **changed,
    }
    return requests.post(f"{stack.url}/webhooks/openai", data=body, headers=headers, timeout=10)


def test_an_event_makes_the_answer_immediate(case: Case) -> None:
    case[1].configure(webhook_url=f"{case[0].url}/webhooks/openai", webhook_secret=SECRET)
    began = time.monotonic()

    assert_all_right(post_many(case, "hooked", 5), "hooked")

    assert time.monotonic() - began < 10


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET])
def test_any_of_the_secrets_may_have_signed(case: Case, secret: str) -> None:
    answer = send(case[0], event("batch_of_somebody_else"), event_id=f"any-{len(secret)}", secret=secret)

    assert answer.status_code == 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "whsec_d3Jvbmc="},
        {"ago": timedelta(minutes=6)},
        {"ago": timedelta(minutes=-6)},
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "nonsense"},
        {"webhook-signature": "v1,\xff"},
        {"webhook-timestamp": "soon"},
        {"webhook-id": ""},
    ],
    ids=str,
)
def test_what_is_not_signed_rightly_and_lately_is_refused(case: Case, wrong: dict[str, Any]) -> None:
    answer = send(case[0], event("batch_x"), event_id=f"wrong-{len(str(wrong))}", **wrong)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_signature"


def test_a_replayed_event_is_refused(case: Case) -> None:
    assert send(case[0], event("batch_x"), event_id="twice").status_code == 200

    answer = send(case[0], event("batch_x"), event_id="twice")

    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "event_replayed"


@pytest.mark.parametrize("body", ["", "[]", "null", '{"type": 1', '{"data": {"id": "x"}}', "[" * 5000])
def test_what_is_no_event_is_refused(case: Case, body: str) -> None:
    assert send(case[0], body, event_id=f"none-{len(body)}").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        event("batch_x", "response.completed"),
        json.dumps({"type": "batch.completed"}),
        json.dumps({"type": "batch.completed", "data": {"id": 7}}),
        json.dumps({"type": "batch.completed", "data": []}),
    ],
)
def test_an_event_about_something_else_is_fine(case: Case, body: str) -> None:
    assert send(case[0], body, event_id=f"else-{len(body)}").status_code == 200


def test_an_early_event_costs_a_look_and_changes_nothing(case: Case) -> None:
    case[1].configure(ends=[{"model": "early", "stuck": "in_progress"}])
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(post, case, "early", "x")
        until(lambda: [b for b in batches_of(case[1], "early") if b["status"] == "in_progress"], "it runs")
        [batch] = batches_of(case[1], "early")

        def looked() -> int:
            return int(case[1].stats()["calls"].get("GET /v1/batches/{id}", 0))

        until(looked, "it was looked at")
        looks = looked()
        for n in range(3):
            assert send(case[0], event(str(batch["id"])), event_id=f"early {n}").status_code == 200
        until(lambda: looked() == looks + 3, "it is looked at")
        assert not job.done()

        case[1].finish()
        send(case[0], event(str(batch["id"])), event_id="at last")
        assert job.result().status_code == 200


def test_without_secrets_the_path_is_closed(stack: Stack, upstream: Simulator) -> None:
    answer = send(stack, event("batch_x"), event_id="closed")

    assert answer.status_code == 404
    assert "LLM_PROXY_WEBHOOK_SECRETS" in answer.json()["error"]["message"]
    assert not [entry for entry in upstream.log() if "webhooks" in entry["path"]]


def test_a_body_longer_than_any_event_is_refused_without_being_read(case: Case) -> None:
    answer = send(case[0], event("batch_x") + " " * 70_000, event_id="long")

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_an_event_that_trickles_is_given_up(case: Case) -> None:
    with socket.create_connection(("127.0.0.1", case[0].port), timeout=20) as connection:
        connection.sendall(b"POST /webhooks/openai HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{")

        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
