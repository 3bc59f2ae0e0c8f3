"""Result files line by line: what counts as an answer, what is doubted, and when a file is believed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tasks import delivery
from tasks.errors import CredentialGone, UpstreamRefused
from tasks.models import BatchState
from tasks.providers import registry
from tasks.settings import settings
from tests.integration.stages import Line


@dataclass
class Files:
    """A batch whose result files are what the test writes; everything else is the real upstream's."""

    line: Line
    batch: str
    ids: list[str]
    texts: dict[str, list[bytes]] = field(default_factory=dict)
    retrieved: dict[str, Any] = field(default_factory=dict)
    splits: bool = False
    refused: Exception | None = None

    @contextlib.contextmanager
    def content(self, file_id: str) -> Iterator[list[bytes]]:
        if self.refused:
            raise self.refused
        yield [b"\n".join(self.texts[file_id])]

    def retrieve(self, upstream_id: str) -> dict[str, Any]:
        return self.retrieved

    def deliver(self, *lines: bytes) -> float | None:
        """One step of delivery of a file with these lines."""
        self.texts["output"] = list(lines)
        self.line.redis.hset(f"lp:batch:{self.batch}", mapping={"output_file": "output", "error_file": ""})
        return self.line.deliver(self.batch)

    def answer(self, number: int, text: str = "yes") -> bytes:
        """The line that answers a request."""
        return result(self.ids[number], text)


def result(custom_id: str, text: str = "yes", status: int = 200) -> bytes:
    response = {"status_code": status, "body": {"text": text}}
    return json.dumps({"custom_id": custom_id, "response": response}).encode()


STRANGER = result("nobody's")


@pytest.fixture
def files(line: Line, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A batch of two requests that has ended."""
    batch = line.claim()
    line.end(batch)
    made = Files(line, batch, [request.id for request in line.requests])
    real = registry.upstream

    class Odd:
        """The upstream, but for its result files."""

        content, retrieve = made.content, made.retrieve

        def __init__(self, group: Any) -> None:
            self._real = real(group)

        @property
        def splits(self) -> bool:
            return made.splits

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(registry, "upstream", Odd)
    return made


@pytest.mark.parametrize("odd", [b"", b"  ", b"no JSON", b'{"custom_id": 7}', STRANGER], ids=str)
def test_an_odd_line_between_the_answers_changes_nothing(files: Files, odd: bytes) -> None:
    assert files.deliver(odd, files.answer(0), odd, odd, files.answer(1), odd) is None

    assert files.line.statuses() == [200, 200]
    assert files.line.record(files.batch)["state"] == BatchState.DONE
    assert files.line.counter("requests_requeued") == 0


def test_the_first_answer_to_a_question_counts(files: Files) -> None:
    again = result(files.ids[0], "second", 500)

    assert files.deliver(files.answer(0, "first"), again, files.answer(1)) is None

    assert [json.loads(body)["text"] for body in files.line.bodies()] == ["first", "yes"]
    assert files.line.counter("requests_requeued") == 0


def test_a_line_that_failed_for_the_moment_travels_again_once_however_often_it_is_told(files: Files) -> None:
    failed = result(files.ids[0], "busy", 500)

    assert files.deliver(failed, failed, files.answer(0), files.answer(1)) is None

    assert files.line.statuses() == [0, 200]
    assert files.line.request(0)["attempts"] == "1"
    assert files.line.counter("requests_requeued") == 1


def test_what_is_doubted_is_told_with_its_numbers(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    pause = files.deliver(files.answer(0), *[b"no JSON"] * (delivery.TOLD + 2))

    assert pause is not None
    told = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert told == [f"{files.batch}: result line {n} cannot be read" for n in range(2, 2 + delivery.TOLD)]
    assert f"1 lines and {delivery.TOLD + 2} broken ones leave 1 requests unanswered" in caplog.text
    assert files.line.record(files.batch)["reads"] == "1"


def test_a_file_without_broken_lines_is_doubted_if_it_has_fewer_than_the_upstream_counted(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    assert files.deliver(STRANGER) is not None

    assert "1 lines and 0 broken ones leave 2 requests unanswered" in caplog.text


def test_a_file_that_has_as_many_lines_as_were_counted_is_believed(files: Files) -> None:
    assert files.deliver(files.answer(0), STRANGER) is None

    assert files.line.statuses() == [200, 0]
    assert files.line.request(1)["missing"] == "1"


@pytest.mark.parametrize(("splits", "most"), [(False, 5), (True, 13)])
def test_a_file_that_does_not_end_is_read_no_further(
    files: Files, monkeypatch: pytest.MonkeyPatch, splits: bool, most: int
) -> None:
    monkeypatch.setattr(delivery, "MOST_SURPLUS_LINES", 1)
    files.splits = splits  # each request has as many lines as inputs
    for request_id in files.ids:
        files.line.redis.hset(f"lp:request:{request_id}", "inputs", 3)

    assert files.deliver(*[STRANGER] * (most - 1), files.answer(0), files.answer(1)) is not None

    assert files.line.statuses() == [200, 0]


def test_files_are_asked_for_anew_before_they_are_read_again(files: Files) -> None:
    assert files.deliver(files.answer(0)) is not None
    files.texts["later"] = [files.answer(0), files.answer(1)]
    files.retrieved = {"status": "completed", "output_file_id": "later", "request_counts": {"completed": 2}}

    assert files.line.deliver(files.batch) is None

    assert files.line.statuses() == [200, 200]


def test_a_batch_that_seems_to_run_again_keeps_the_files_that_it_had(files: Files) -> None:
    assert files.deliver(files.answer(0)) is not None
    files.retrieved = {"status": "in_progress", "output_file_id": "none"}

    assert files.line.deliver(files.batch) is not None

    assert files.line.record(files.batch)["output_file"] == "output"


def test_a_line_that_has_no_time_for_another_try_is_answered_as_it_failed(files: Files) -> None:
    files.line.age(files.batch, 25.9)

    assert files.deliver(result(files.ids[0], "busy", 500), files.answer(1)) is None

    assert files.line.statuses() == [500, 200]


@pytest.mark.parametrize(("fallback", "status"), [("flex", 0), ("off", 500)])
def test_a_line_that_failed_in_a_late_batch_takes_the_other_way_if_there_is_one(
    files: Files, monkeypatch: pytest.MonkeyPatch, fallback: str, status: int
) -> None:
    monkeypatch.setenv("LLM_PROXY_FALLBACK", fallback)
    settings.cache_clear()
    files.line.redis.hset(f"lp:batch:{files.batch}", "max_wait", 60)
    files.line.redis.hincrby(f"lp:batch:{files.batch}", "oldest", -61_000)

    assert files.deliver(result(files.ids[0], "busy", 500), files.answer(1)) is None

    assert files.line.statuses() == [status, 200]
    assert files.line.request(0)["lane"] == ("batch" if status else "flex")


def fails(files: Files, code: str) -> None:
    """Its upstream calls it failed, in these words, whatever its files hold."""
    errors = json.dumps([{"code": code, "message": "no"}])
    files.line.redis.hset(f"lp:batch:{files.batch}", mapping={"upstream_status": "failed", "errors": errors})


def test_a_failed_batch_whose_files_stay_doubtful_is_answered_with_its_errors(files: Files) -> None:
    fails(files, "model_not_found")
    steps = [files.deliver(files.answer(0), b"no JSON")]
    files.retrieved = {"status": "in_progress"}  # nothing new

    while steps[-1] is not None:
        steps.append(files.line.deliver(files.batch))

    assert len(steps) == delivery.READS
    assert files.line.statuses() == [200, 0]
    assert files.line.request(1)["lane"] == "sync"  # as UNBATCHABLE says, not asked for once more


@pytest.mark.parametrize("error", [UpstreamRefused(404, b"{}", {}), CredentialGone("gone")], ids=["no file", "no key"])
def test_a_failed_batch_whose_files_cannot_be_read_is_answered_with_its_errors_at_once(
    files: Files, error: Exception
) -> None:
    fails(files, "invalid_request")
    files.refused = error

    assert files.deliver() is None

    assert files.line.statuses() == [400, 400]
    assert '"no"' in files.line.bodies()[0]
