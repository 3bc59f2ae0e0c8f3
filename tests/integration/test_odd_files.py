"""Result files that are cut anywhere, endless, huge, or full of things that nobody asked for."""

from __future__ import annotations

import concurrent.futures
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests import ground
from tests.ground import Ground
from tests.integration.test_delivery_doubts import ask_many
from tests.integration.test_pipeline import ask, batches_of
from tests.running import until
from tests.simulator.server import Simulator

CONTENT = "GET /v1/files/*/content"
#: Longer than the piece in which downloads are read, so that a cut meets every place in a line.
REPLY_BYTES = 300_000
PAGE_BYTES = resource.getpagesize()


@pytest.fixture(scope="module")
def own() -> Iterator[Ground]:
    """A stack whose patience is short enough to be waited for."""
    with ground.opened() as opened:
        yield opened


@pytest.fixture
def sdk(own: Ground, api_key: str) -> Iterator[openai.OpenAI]:
    own.upstream.reset()
    with openai.OpenAI(base_url=f"{own.stack.url}/v1", api_key=api_key, max_retries=0) as made:
        yield made


@pytest.fixture
def upstream(own: Ground) -> Simulator:
    return own.upstream


def paid(upstream: Simulator) -> tuple[int, list[str]]:
    """How many requests were paid, and which of them twice."""
    billed = upstream.stats()["billed"]
    return billed["requests"], billed["more_than_once"]


@pytest.mark.parametrize("part", [0.001, 0.2, 0.333, 0.5, 0.667, 0.9, 0.999999])
def test_a_download_that_breaks_off_anywhere_is_read_again_and_nothing_is_paid_twice(
    sdk: openai.OpenAI, upstream: Simulator, part: float
) -> None:
    upstream.configure(
        reply_bytes=REPLY_BYTES, faults=[{"path": CONTENT, "kind": "truncate", "count": 2, "part": part}]
    )

    ask_many(sdk, f"cut-{part}", 3)

    assert paid(upstream) == (3, [])


@pytest.mark.parametrize("gzip", [False, True])
def test_a_compressed_download_is_as_good_as_any_and_a_cut_one_is_read_again(
    sdk: openai.OpenAI, upstream: Simulator, gzip: bool
) -> None:
    upstream.configure(gzip=gzip, reply_bytes=1000, faults=[{"path": CONTENT, "kind": "truncate", "count": 1}])

    ask_many(sdk, f"gzip-{gzip}", 5)

    assert paid(upstream) == (5, [])


def test_a_body_that_comes_slowly_outlives_the_lease_and_is_read_once(sdk: openai.OpenAI, upstream: Simulator) -> None:
    upstream.configure(faults=[{"path": CONTENT, "kind": "dribble", "count": 1, "seconds": 0.7}])

    ask_many(sdk, "dribble", 5)

    assert paid(upstream) == (5, [])
    assert upstream.stats()["calls"]["GET /v1/files/{id}/content"] == 1


#: More than a worker needs; much less than an upstream can send in the half hour that a transfer may take.
MOST_BYTES = 300_000_000


def memory_of(own: Ground, name: str) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{own.stack.processes[name].popen.pid}/statm").read_text().split()[1]) * PAGE_BYTES


def test_a_body_without_an_end_is_given_up_before_it_fills_the_memory(
    own: Ground, sdk: openai.OpenAI, upstream: Simulator
) -> None:
    upstream.configure(faults=[{"path": CONTENT, "kind": "endless", "count": 1}])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, sdk, "first", "endless")
        try:
            until(lambda: asked.done() or memory_of(own, "worker-transfer") > MOST_BYTES, "it is given up or grows", 60)
            assert memory_of(own, "worker-transfer") <= MOST_BYTES
        finally:  # its successor delivers
            own.stack.kill("worker-transfer")
            own.stack.start("worker-transfer")
        assert asked.result(30) == "echo:first"


@pytest.mark.parametrize(
    "end",
    [
        {"bom": True},
        {"crlf": True},
        {"blank_lines": True},
        {"no_last_newline": True},
        {"crlf": True, "blank_lines": True, "no_last_newline": True},
    ],
)
def test_a_file_in_another_dialect_is_read_and_nothing_is_paid_twice(
    sdk: openai.OpenAI, upstream: Simulator, end: dict[str, bool]
) -> None:
    model = f"dialect-{'-'.join(end)}"
    upstream.configure(ends=[{"model": model, **end}])

    ask_many(sdk, model)

    assert paid(upstream) == (5, [])


def test_the_first_answer_to_a_request_counts_and_a_second_one_changes_nothing(
    sdk: openai.OpenAI, upstream: Simulator
) -> None:
    upstream.configure(ends=[{"model": "twice", "twice": True}])

    ask_many(sdk, "twice")

    assert paid(upstream) == (5, [])


def test_a_line_of_many_megabytes_reaches_its_caller(sdk: openai.OpenAI, upstream: Simulator) -> None:
    upstream.configure(reply_bytes=20_000_000, ends=[{"model": "huge", "pad": 5_000_000}])

    ask_many(sdk, "huge", 2)

    assert paid(upstream) == (2, [])


def test_an_answer_under_anothers_id_settles_nothing_of_another_batch(
    own: Ground, sdk: openai.OpenAI, upstream: Simulator
) -> None:
    upstream.configure(ends=[{"model": "victim", "stuck": "in_progress"}])
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        victim = pool.submit(ask, sdk, "mine", "victim")
        until(lambda: batches_of(upstream, "victim"), "the victim's batch is at the upstream")
        [line] = upstream.lines(str(batches_of(upstream, "victim")[0]["id"]))
        found = re.search(rb'"custom_id":"(\w+)"', line)
        assert found
        upstream.configure(ends=[{"model": "liar", "strangers": [found[1].decode(), "nobody", ""]}])

        ask_many(sdk, "liar", 3)

        assert not victim.done()
        assert own.redis.client.hget(f"lp:request:{found[1].decode()}", "state") == b"batched"
        upstream.finish()
        assert victim.result(timeout=30) == "echo:mine"
    assert paid(upstream) == (4, [])


def test_an_answer_under_nobodys_id_is_asked_once_more(sdk: openai.OpenAI, upstream: Simulator) -> None:
    upstream.configure(ends=[{"model": "renamed", "count": 1, "rename": 1}])

    ask_many(sdk, "renamed")

    assert [batch["lines"] for batch in batches_of(upstream, "renamed")] == [5, 1]


def test_an_empty_file_in_spite_of_the_counts_is_not_believed_at_once(sdk: openai.OpenAI, upstream: Simulator) -> None:
    upstream.configure(ends=[{"model": "empty", "count": 1, "empty_output": True}])

    ask_many(sdk, "empty")

    assert upstream.stats()["calls"]["GET /v1/files/{id}/content"] >= 6  # five times the empty one, then the next
    assert [batch["lines"] for batch in batches_of(upstream, "empty")] == [5, 5]
