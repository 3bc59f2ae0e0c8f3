"""The simulator's downloads can be cut, slow, endless and odd, and its errors untrue, as scripted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.simulator.server import Simulator, serve
from tests.unit.simulator_calls import call, finished, line, ten, upload


@pytest.fixture
def upstream() -> Iterator[Simulator]:
    with serve() as simulator:
        yield simulator


def fault(upstream: Simulator, kind: str, **more: Any) -> None:
    upstream.configure(faults=[{"path": "GET /v1/files/*/content", "kind": kind, **more}])


@pytest.mark.parametrize("part", [0.01, 0.25, 0.99])
def test_a_download_is_cut_where_the_rule_says(upstream: Simulator, part: float) -> None:
    file_id = upload(upstream, "x" * 300_000)
    fault(upstream, "truncate", part=part)
    received = 0
    with pytest.raises(requests.exceptions.ChunkedEncodingError):  # noqa: PT012 - it breaks while being read
        with call(upstream, f"GET /v1/files/{file_id}/content", stream=True) as answer:
            for piece in answer.iter_content(1000):
                received += len(piece)
    assert 300_000 * part - 1000 <= received <= 300_000 * part


def test_a_body_can_dribble_and_is_whole(upstream: Simulator) -> None:
    file_id = upload(upstream, "x" * 300_000)
    fault(upstream, "dribble", seconds=0.05)
    begun = time.monotonic()
    answer = call(upstream, f"GET /v1/files/{file_id}/content")
    assert answer.content == b"x" * 300_000
    assert time.monotonic() - begun >= 0.2


def test_a_body_can_have_no_end(upstream: Simulator) -> None:
    file_id = upload(upstream, "x" * 1000)
    fault(upstream, "endless")
    with call(upstream, f"GET /v1/files/{file_id}/content", stream=True) as answer:
        assert "content-length" not in answer.headers
        read = answer.raw.read(1_000_000)
    assert read == b"x" * 1000 + b" " * 999_000


@pytest.mark.parametrize(
    ("end", "holds"),
    [
        ({"rename": 2}, lambda raw, ids: sum(i.startswith("nobody-") for i in ids) == 2 and len(ids) == 10),
        ({"strangers": ["a", "b"]}, lambda raw, ids: ids[:2] == ["a", "b"] and len(ids) == 12),
        ({"twice": True}, lambda raw, ids: len(ids) == 20 and len(set(ids)) == 10 and raw.count(b'"second-') == 10),
        ({"pad": 5000}, lambda raw, ids: all(len(row) > 5000 for row in raw.splitlines()) and len(ids) == 10),
        ({"bom": True}, lambda raw, ids: raw.startswith(b"\xef\xbb\xbf{") and len(ids) == 10),
        ({"crlf": True}, lambda raw, ids: raw.count(b"\r\n") == raw.count(b"\n") == 10),
        ({"blank_lines": True}, lambda raw, ids: raw.startswith(b"\n{") and raw.count(b"\n") == 20),
        ({"no_last_newline": True}, lambda raw, ids: raw.endswith(b"}") and raw.count(b"\n") == 9),
        ({"empty_output": True}, lambda raw, ids: raw == b""),
    ],
)
def test_an_output_file_can_be_odd(upstream: Simulator, end: dict[str, Any], holds: Callable[..., bool]) -> None:
    upstream.configure(ends=[end])
    batch = finished(upstream, *ten())
    raw = call(upstream, f"GET /v1/files/{batch['output_file_id']}/content").content
    ids = [json.loads(row)["custom_id"] for row in raw.decode("utf-8-sig").split("\n") if row.strip()]
    assert holds(raw, ids)
    assert batch["request_counts"] == {"total": 10, "completed": 10, "failed": 0}
    assert upstream.stats()["billed"]["requests"] == 10


def test_an_error_after_the_effect_is_a_500_that_is_not_true(upstream: Simulator) -> None:
    upstream.configure(faults=[{"path": "POST /v1/files", "kind": "error_after", "count": 1}])
    answer = call(upstream, "POST /v1/files", files={"file": ("in.jsonl", line("a"))}, data={"purpose": "batch"})
    assert answer.status_code == 500
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert upstream.stats()["files_live"] == 1
