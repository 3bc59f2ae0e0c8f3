"""The simulator makes trouble exactly as scripted, and shows a test what happened to it."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import requests
from openai import OpenAI

from tests.simulator.server import Simulator, serve
from tests.unit.simulator_calls import CHAT, KEY, call, create, download, finished, line, look, ten, upload

SECRET = "whsec_c2VjcmV0"


@pytest.fixture
def upstream() -> Iterator[Simulator]:
    with serve() as simulator:
        yield simulator


def fault(upstream: Simulator, path: str, kind: str, **more: Any) -> None:
    upstream.configure(faults=[{"path": path, "kind": kind, **more}])


def models(upstream: Simulator) -> requests.Response:
    return call(upstream, "GET /v1/models")


@pytest.mark.parametrize("status", ["401", "404", "429", "500", "503"])
def test_a_status_fault_strikes_as_often_as_it_says(upstream: Simulator, status: str) -> None:
    fault(upstream, "GET /v1/models", status, count=2, skip=1, retry_after="7")
    answers = [models(upstream) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, int(status), int(status), 200]
    assert answers[1].headers["retry-after"] == "7"
    assert set(answers[1].json()["error"]) == {"message", "type", "param", "code"}


def test_a_rate_strikes_the_same_calls_every_time(upstream: Simulator) -> None:
    def outcomes() -> list[int]:
        fault(upstream, "GET /v1/*", "500", rate=0.5, seed=3)
        return [models(upstream).status_code for _ in range(20)]

    first = outcomes()
    assert set(first) == {200, 500}
    assert outcomes() == first


def test_a_reset_before_has_no_effect_and_a_reset_after_has(upstream: Simulator) -> None:
    for kind, files in (("reset_before", 0), ("reset_after", 1)):
        fault(upstream, "POST /v1/files", kind, count=1)
        with pytest.raises(requests.ConnectionError):
            upload(upstream, line("a"))
        assert upstream.stats()["files_live"] == files


def test_a_truncated_download_ends_in_the_middle(upstream: Simulator) -> None:
    file_id = upload(upstream, "x" * 300_000)
    fault(upstream, "GET /v1/files/*/content", "truncate")
    answer = call(upstream, f"GET /v1/files/{file_id}/content", stream=True)
    assert answer.headers["content-length"] == "300000"
    received = 0
    with pytest.raises(requests.exceptions.ChunkedEncodingError):  # noqa: PT012 - it breaks while being read
        for piece in answer.iter_content(1000):
            received += len(piece)
    assert 100_000 < received <= 150_000


def test_a_call_that_hangs_is_not_answered_and_a_slow_one_is(upstream: Simulator) -> None:
    fault(upstream, "GET /v1/models", "hang")
    with pytest.raises(requests.ReadTimeout):
        call(upstream, "GET /v1/models", timeout=0.1)
    fault(upstream, "GET /v1/models", "slow", seconds=0.1)
    begun = time.monotonic()
    assert models(upstream).status_code == 200
    assert time.monotonic() - begun >= 0.1


def test_a_batch_can_fail_with_a_given_code(upstream: Simulator) -> None:
    problem = {"code": "billing_hard_limit_reached", "message": "Pay.", "param": None, "line": 3}
    upstream.configure(ends=[{"model": "gpt-*", "count": 1, "fail": [problem]}])
    assert finished(upstream, line("a"))["errors"]["data"] == [problem]
    assert finished(upstream, line("a"))["status"] == "completed"


def test_a_batch_can_be_stuck_under_an_unknown_status(upstream: Simulator) -> None:
    upstream.configure(ends=[{"stuck": "validating", "rename_status": {"validating": "scheduling"}, "expire_after": 0}])
    assert finished(upstream, line("a"))["status"] == "scheduling"
    upstream.advance(200_000)
    batch = upstream.stats()["batches"][0]
    assert batch["status"] == "validating"
    upstream.finish()
    assert look(upstream, batch)["status"] == "completed"


@pytest.mark.parametrize(
    ("end", "holds"),
    [
        ({"drop": 2}, lambda batch, output, errors: len(output) == 8 and batch["request_counts"]["completed"] == 10),
        ({"expire_after": 3, "expire_frac": 0.2}, lambda batch, output, errors: (len(output), len(errors)) == (2, 8)),
        ({"expire_after": 3, "omit_unfinished": True}, lambda _, output, errors: (len(output), errors) == (5, None)),
        ({"blank_error_file_id": True}, lambda batch, output, errors: batch["error_file_id"] == ""),
        ({"empty_files": True}, lambda batch, output, errors: errors == []),
        ({"omit_nulls": True}, lambda batch, output, errors: "error_file_id" not in batch),
        ({"body_as_string": True}, lambda _, output, errors: json.loads(output[0]["response"]["body"])["choices"]),
        (
            {"request_counts": {"total": 10, "completed": 1, "failed": 0}},
            lambda batch, output, errors: batch["request_counts"]["completed"] == 1 and len(output) == 10,
        ),
    ],
)
def test_a_batch_can_end_oddly(upstream: Simulator, end: dict[str, Any], holds: Callable[..., bool]) -> None:
    upstream.configure(ends=[end])
    batch = finished(upstream, *ten())
    output, errors = (
        download(upstream, batch[name]) if batch.get(name) else None for name in ("output_file_id", "error_file_id")
    )
    assert holds(batch, output, errors)


@pytest.mark.parametrize(
    ("end", "file", "keys"),
    [
        ({}, "error_file_id", {"response": dict, "error": type(None)}),
        ({"error_line": "null_response"}, "error_file_id", {"response": type(None), "error": dict}),
        ({"error_line": "no_response"}, "error_file_id", {"error": dict}),
        ({"errors_in_output": True}, "output_file_id", {"response": dict, "error": type(None)}),
    ],
)
def test_failed_lines_take_the_shapes_seen_in_the_wild(
    upstream: Simulator, end: dict[str, Any], file: str, keys: dict[str, type]
) -> None:
    upstream.configure(ends=[end])
    entries = download(upstream, finished(upstream, *ten(model="fail-429"))[file])
    assert len(entries) == 10
    assert {name: type(entries[0][name]) for name in entries[0] if name in ("response", "error")} == keys


@pytest.mark.parametrize(("end", "broken"), [({"garble": 3}, 3), ({"html": True}, 1)])
def test_output_can_be_other_than_jsonl(upstream: Simulator, end: dict[str, Any], broken: int) -> None:
    upstream.configure(ends=[end])
    file_id = finished(upstream, *ten())["output_file_id"]
    rows = call(upstream, f"GET /v1/files/{file_id}/content").text.splitlines()
    assert sum(not re.fullmatch(r"\{.*\}", row) for row in rows) == broken


def test_errors_have_openais_shape_and_every_answer_a_request_id(upstream: Simulator) -> None:
    cases: list[tuple[str, dict[str, str], int, str | None]] = [
        ("GET /v1/models", {}, 401, None),
        ("GET /v1/models", {"authorization": "Basic x"}, 401, None),
        ("GET /v1/models", {"authorization": "Bearer bad-key"}, 401, "invalid_api_key"),
        ("GET /v1/nothing", KEY, 404, "unknown_url"),
        ("GET /v1//models", KEY, 404, "unknown_url"),
        ("PUT /v1/batches", KEY, 405, "method_not_supported"),
        (f"POST {CHAT}", KEY, 400, None),
        ("GET /v1/models/no-such", KEY, 404, "model_not_found"),
    ]
    for request, headers, status, code in cases:
        answer = call(upstream, request, headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers["x-request-id"].startswith("req_")


def test_flex_capacity_can_be_away(upstream: Simulator) -> None:
    upstream.configure(flex_unavailable=True)
    with OpenAI(base_url=upstream.base_url, api_key="sk-alice", max_retries=0) as client:
        raw = client.chat.completions.with_raw_response
        body = {"model": "m", "messages": [], "service_tier": "flex"}
        answer = call(upstream, f"POST {CHAT}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "resource_unavailable")
        headers = {"OpenAI-Beta": "x=1"}
        sent = raw.create(model="m", messages=[], service_tier="priority", extra_headers=headers)
        assert sent.headers["x-echo-openai-beta"] == "x=1"
        assert sent.parse().service_tier == "priority"


def test_the_echo_shows_exactly_what_arrived(upstream: Simulator) -> None:
    body = bytes(range(256)) * 8
    headers = KEY | {"X-Odd": "é".encode()}
    seen = call(upstream, "PATCH /v1/echo/a%2Fb//c?x=%20&&y", headers, data=iter([body[:700], body[700:]])).json()
    assert (seen["method"], seen["target"]) == ("PATCH", "/v1/echo/a%2Fb//c?x=%20&&y")
    assert (seen["query"], seen["body_length"]) == ("x=%20&&y", 2048)
    assert seen["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert ["Transfer-Encoding", "chunked"] in seen["headers"]
    assert call(upstream, "GET /v1/echo/x?status=418").status_code == 418
    stream = call(upstream, "GET /v1/echo/stream?n=3&delay=0.01")
    assert stream.text.count("data: ") == 4
    count = call(upstream, "GET /v1/echo/bytes?n=100001")
    assert count.headers["content-length"] == "100001"
    assert count.content == (bytes(range(256)) * 391)[:100_001]


def test_downloads_are_compressed_when_configured(upstream: Simulator) -> None:
    file_id = upload(upstream, "x" * 100_000)
    upstream.configure(gzip=True)
    headers = KEY | {"accept-encoding": "gzip"}
    with call(upstream, f"GET /v1/files/{file_id}/content", headers, stream=True) as answer:
        raw = answer.raw.read(decode_content=False)
    assert len(raw) < 1000
    assert gzip.decompress(raw) == b"x" * 100_000


def test_calls_are_counted_by_route_and_logged_with_their_headers(upstream: Simulator) -> None:
    batch = finished(upstream, line("a"))
    call(upstream, "GET /v1/batches?limit=1", KEY | {"X-Mine": "1"})
    calls = upstream.stats()["calls"]
    assert calls == {"POST /v1/files": 1, "POST /v1/batches": 1, "GET /v1/batches/{id}": 1, "GET /v1/batches": 1}
    last = upstream.log()[-1]
    assert (last["path"], last["query"]) == ("/v1/batches", "limit=1")
    assert ["X-Mine", "1"] in last["headers"]
    described = upstream.stats()["batches"][0]
    assert (described["id"], described["lines"], described["status"]) == (batch["id"], 1, "completed")


def test_an_unknown_setting_is_refused(upstream: Simulator) -> None:
    for patch in ({"batch_dealy": 1}, {"batch_delay": -1}, {"faults": [{"path": "x", "kind": "odd"}]}):
        assert call(upstream, "POST /_control/config", json=patch).status_code == 400
    assert upstream.configure(batch_delay=1)["batch_delay"] == 1
    assert upstream.configure(batch_delay=None)["batch_delay"] == 5


def test_webhooks_are_signed_and_sent_again_until_taken(upstream: Simulator) -> None:
    events: list[tuple[bytes, dict[str, str]]] = []
    taken = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            events.append(
                (
                    self.rfile.read(int(self.headers["content-length"])),
                    {name.lower(): text for name, text in self.headers.items()},
                )
            )
            self.send_response(200 if len(events) > 1 else 500)
            self.end_headers()
            if len(events) > 1:
                taken.set()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{receiver.server_port}/hook"
        upstream.configure(webhook_url=url, webhook_secret=SECRET)
        batch = create(upstream, line("a"))
        upstream.advance(10)
        assert taken.wait(10)
        receiver.shutdown()
    with OpenAI(api_key="x", webhook_secret=SECRET) as client:
        event = client.webhooks.unwrap(events[1][0], events[1][1])
    assert event.type == "batch.completed"
    assert event.data.id == batch["id"]
    assert events[0][1]["webhook-id"] == events[1][1]["webhook-id"]


def test_many_connections_are_served_at_once_and_kept_alive(upstream: Simulator) -> None:
    upstream.configure(sync_delay=0.3)

    def ask(number: int) -> list[str]:
        body: Any = {"model": "m", "messages": [{"role": "user", "content": str(number)}]}
        with requests.Session() as session:
            answers = [session.post(upstream.url + CHAT, json=body, headers=KEY) for _ in range(2)]
        assert all(answer.headers.get("connection", "").lower() != "close" for answer in answers)
        return [answer.json()["choices"][0]["message"]["content"] for answer in answers]

    begun = time.monotonic()
    with ThreadPoolExecutor(60) as pool:
        answers = list(pool.map(ask, range(60)))
    assert answers == [[f"echo:{number}"] * 2 for number in range(60)]
    assert time.monotonic() - begun < 5  # one after another would take 36 s


def test_the_program_prints_its_url_and_serves_until_sigterm() -> None:
    command = [sys.executable, "-m", "tests.simulator", "--port", "0", "--batch-delay", "0", "--faults", "[]"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": "."}) as program:
        assert program.stdout
        upstream = Simulator(program.stdout.readline().strip())
        assert upstream.configure()["batch_delay"] == 0
        program.send_signal(signal.SIGTERM)
        assert program.wait(10) == 0
