"""Files that are cut, garbled or no files at all, and creates that may or may not have happened."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Iterator

import openai
import pytest

from tests import ground
from tests.ground import Ground
from tests.integration.test_pipeline import ask, batches_of
from tests.running import until
from tests.simulator.server import Simulator

Case = tuple[openai.OpenAI, Simulator]


@pytest.fixture(scope="module")
def doubtful() -> Iterator[Ground]:
    """A stack whose patience is short enough to be waited for."""
    with ground.opened() as opened:
        yield opened


@pytest.fixture
def case(doubtful: Ground, api_key: str) -> Iterator[Case]:
    doubtful.upstream.reset()
    with openai.OpenAI(base_url=f"{doubtful.stack.url}/v1", api_key=api_key, max_retries=0) as sdk:
        yield sdk, doubtful.upstream


def ask_many(sdk: openai.OpenAI, model: str, count: int = 5) -> None:
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda n: ask(sdk, f"q{n}", model), range(count)))
    assert answers == [f"echo:q{n}" for n in range(count)]


def test_a_download_that_breaks_off_is_read_again_and_nothing_is_asked_twice(case: Case) -> None:
    sdk, upstream = case
    upstream.configure(faults=[{"path": "GET /v1/files/*/content", "kind": "truncate", "count": 2}])

    ask_many(sdk, "cut")

    assert len(batches_of(upstream, "cut")) == 1
    assert upstream.stats()["billed"]["more_than_once"] == []


def test_a_broken_line_costs_that_line_only(case: Case) -> None:
    sdk, upstream = case
    upstream.configure(ends=[{"model": "garbled", "count": 1, "garble": 1}])

    ask_many(sdk, "garbled")

    assert [batch["lines"] for batch in batches_of(upstream, "garbled")] == [5, 1]


def test_a_web_page_in_place_of_the_results_is_not_believed_at_once(case: Case) -> None:
    sdk, upstream = case
    upstream.configure(ends=[{"model": "page", "count": 1, "html": True}])

    ask_many(sdk, "page")

    downloads = upstream.stats()["calls"]["GET /v1/files/{id}/content"]
    assert downloads >= 6  # five times the page, then the second batch's file
    assert len(batches_of(upstream, "page")) == 2


def test_a_line_that_is_in_no_file_is_asked_once_more_and_then_is_an_error(case: Case) -> None:
    sdk, upstream = case
    with pytest.raises(openai.InternalServerError) as caught:
        ask(sdk, "lost", "drop")

    assert caught.value.status_code == 502
    assert caught.value.code == "result_missing"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(batches_of(upstream, "drop")) == 2


def test_a_look_that_is_refused_while_a_create_is_in_doubt_settles_nothing(case: Case) -> None:
    sdk, upstream = case
    upstream.configure(
        faults=[
            {"path": "POST /v1/batches", "kind": "reset_after", "count": 1},
            {"path": "GET /v1/batches", "kind": "403", "count": 2},
        ]
    )

    ask_many(sdk, "looked")

    assert len(batches_of(upstream, "looked")) == 1


@pytest.mark.parametrize("kind", ["reset_after", "error_after"])
@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches"])
def test_a_call_that_took_effect_in_spite_of_its_answer_is_not_paid_twice(case: Case, path: str, kind: str) -> None:
    sdk, upstream = case
    upstream.configure(faults=[{"path": path, "kind": kind, "count": 1}])

    ask_many(sdk, f"effect-{kind}", 3)

    assert len(batches_of(upstream, f"effect-{kind}")) == 1
    assert upstream.stats()["billed"]["more_than_once"] == []
    until(lambda: upstream.stats()["files_live"] == 0, "no file is left")


def test_a_create_that_takes_effect_long_after_it_was_given_up_finds_no_input(case: Case) -> None:
    sdk, upstream = case
    late = 3.0  # a "create" is given up after one second here
    upstream.configure(
        faults=[{"path": "POST /v1/batches", "kind": "slow", "count": 1, "seconds": late}],
        # The batch runs longer than that: its cleaning would delete the first input file as well.
        ends=[{"model": "late", "stuck": "in_progress"}],
    )
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask_many, sdk, "late", 3)
        until(lambda: time.monotonic() - began > late + 1.5, "the late create has come")
        until(lambda: batches_of(upstream, "late"), "there is a batch")
        assert len(batches_of(upstream, "late")) == 1
        upstream.finish()
        asked.result(60)

    assert upstream.stats()["calls"]["POST /v1/batches"] == 2
    assert upstream.stats()["billed"]["more_than_once"] == []


def test_a_create_that_takes_effect_between_the_look_and_the_deletion_is_found(case: Case) -> None:
    sdk, upstream = case
    upstream.configure(
        faults=[  # given up after 1 s, looked for at about 1.2 s; the deletion lasts from then to 2.1 s
            {"path": "POST /v1/batches", "kind": "slow", "count": 1, "seconds": 1.65},
            {"path": "DELETE /v1/files/*", "kind": "slow", "count": 1, "seconds": 0.9},
        ]
    )

    ask_many(sdk, "between", 3)

    assert len(batches_of(upstream, "between")) == 1
    assert upstream.stats()["billed"]["more_than_once"] == []


@pytest.mark.parametrize("kind", ["500", "503", "429", "reset_before"])
@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/*", "DELETE /v1/files/*"])
def test_a_call_that_fails_for_a_moment_is_repeated(case: Case, path: str, kind: str) -> None:
    sdk, upstream = case
    upstream.configure(faults=[{"path": path, "kind": kind, "count": 1}])

    ask_many(sdk, f"again-{kind}", 1)

    assert upstream.stats()["billed"]["requests"] == 1
    until(lambda: upstream.stats()["files_live"] == 0, "no file is left")


@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches"])
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_of_upload_or_create_comes_back_at_once_with_its_words(case: Case, path: str, status: int) -> None:
    sdk, upstream = case
    upstream.configure(faults=[{"path": path, "kind": str(status), "message": "not with this key"}])

    with pytest.raises(openai.APIStatusError, match="not with this key") as caught:
        ask(sdk, "no", f"refused-{status}")

    assert caught.value.status_code == status
    upstream.configure(faults=[])
    until(lambda: upstream.stats()["files_live"] == 0, "no file is left")
