"""Deliver: read both result files, settle every line, queue the rest again, delete the files.

    ended -> delivering -> cleaning -> done

Everything here may run twice: a settled request stays as it is, a requeued one is not ours any
more. Files are deleted only after *cleaning* is written, so no restart looks for a deleted file.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator

import msgspec

from tasks import batches, connections, jsonl, message, outcomes, settle, store
from tasks.batches import Batch
from tasks.errors import CredentialGone, UpstreamRefused, UpstreamTrouble
from tasks.models import BatchState, Outcome, Reply
from tasks.providers.openai import OpenAI
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: Pause of a group after the upstream said that its queue is full.
QUEUE_FULL_SECONDS = 30.0
#: Tries to delete a file; after that its own expiry at the upstream does it.
CLEANING_TRIES = 5
MISSING_TRIES = 1
#: Downloads that must agree before lines that a file ought to have are given up.
READS = 5
READ_AGAIN_SECONDS = 60.0


def deliver(batch_id: str) -> float | None:
    """Do what is left to do until every request of the batch is settled or queued again.

    Returns:
        None when done, else the seconds after which to try again.

    Raises:
        NotOurTurn: somebody else works on it, or it is done.
    """
    with batches.lease(batch_id, BatchState.ENDED, BatchState.DELIVERING, BatchState.CLEANING) as held:
        try:
            if held.batch.state is not BatchState.CLEANING:
                if held.batch.state is BatchState.ENDED:
                    held.advance(BatchState.DELIVERING)
                delivery = _Delivery(held.batch)
                delivery.run()
                if delivery.suspicious and held.batch.reads < READS - 1:
                    held.advance(BatchState.DELIVERING, reads=held.batch.reads + 1)
                    raise UpstreamTrouble(delivery.suspicious, in_doubt=False, retry_after_seconds=READ_AGAIN_SECONDS)
                delivery.finish()
                held.advance(BatchState.CLEANING, failures=0)
            _clean(held.batch)
            held.advance(BatchState.DONE, release=True)
        except UpstreamTrouble as error:
            return held.back_off(error)
        except (UpstreamRefused, CredentialGone) as error:
            return held.back_off(UpstreamTrouble(str(error), in_doubt=False))
    return None


class _Delivery:
    """One pass over an ended batch."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch
        self._ids = [request_id for request_id, _ in batches.lines(batch.id)]
        self._unseen = set(self._ids)
        self._again: list[str] = []
        self._exhausted: set[str] | None = None
        self._lines = 0
        self._broken = 0

    def run(self) -> None:
        batch = self._batch
        if batch.refusal:
            self._settle_all(_decode_refusal(batch.refusal))
        elif batch.upstream_status == "failed":
            self._failed()
        else:
            upstream = OpenAI(batch.group)
            for file_id in filter(None, (batch.output_file, batch.error_file)):
                with upstream.content(file_id) as chunks:
                    settle.settle(self._replies(chunks))
            self._queue_again(self._again, counter="attempts")

    def _replies(self, chunks: Iterator[bytes]) -> Iterator[tuple[str, str, Reply]]:
        for number, text in enumerate(jsonl.split_lines(chunks), 1):
            if not text.strip():
                continue
            try:
                line = jsonl.parse_result(text)
                end = outcomes.line_end(
                    line, upstream_id=self._batch.upstream_id, upstream_status=self._batch.upstream_status
                )
            except (ValueError, RecursionError):
                logger.warning("%s: result line %d cannot be read", self._batch.id, number)
                self._broken += 1
                continue
            self._lines += 1
            if line.custom_id not in self._unseen:
                continue  # a second answer, or one to somebody else's question
            if end.retry and line.custom_id not in self._out_of_attempts():
                self._unseen.discard(line.custom_id)
                self._again.append(line.custom_id)
            elif end.reply is not None:
                self._unseen.discard(line.custom_id)
                yield line.custom_id, self._batch.id, end.reply

    def _out_of_attempts(self) -> set[str]:
        if self._exhausted is None:
            attempts = _request_counts(self._ids, "attempts")
            self._exhausted = {i for i in self._ids if attempts[i] + 1 >= settings().max_line_attempts}
        return self._exhausted

    def _failed(self) -> None:
        self._unseen.clear()  # nobody is missing: there are no files
        plan = outcomes.failed_batch(self._batch.errors)
        named = {self._ids[n - 1]: reply for n, reply in plan.lines.items() if 1 <= n <= len(self._ids)}
        if plan.queue_full:
            self._queue_again(self._ids, delay_seconds=QUEUE_FULL_SECONDS)
        elif plan.all is not None:
            self._settle_all(plan.all)
        elif not named:
            self._settle_all(next(iter(plan.lines.values())))
        else:
            settle.settle((request_id, self._batch.id, reply) for request_id, reply in named.items())
            self._queue_again([request_id for request_id in self._ids if request_id not in named])

    @property
    def suspicious(self) -> str:
        """Why these may not have been the whole files: a request that is taken for missing is paid again."""
        short = self._lines < self._batch.progress_completed + self._batch.progress_failed
        if not self._unseen or not (self._broken or short):
            return ""
        return f"{self._lines} lines and {self._broken} broken ones leave {len(self._unseen)} requests unanswered"

    def finish(self) -> None:
        """Deal with the requests that no file answers."""
        self._missing([request_id for request_id in self._ids if request_id in self._unseen])

    def _missing(self, ids: list[str]) -> None:
        """Lines that no file answers: run by nobody after an early end, else lost by the upstream."""
        if self._batch.upstream_status in {"expired", "cancelled"}:
            self._queue_again(ids)
            return
        if not ids:
            return
        logger.warning("%s: %d of %d lines are in no result file", self._batch.id, len(ids), len(self._ids))
        missed = _request_counts(ids, "missing")
        self._queue_again([i for i in ids if missed[i] < MISSING_TRIES], counter="missing")
        lost = settle.error_reply(502, "The upstream returned no result for this request.", code="result_missing")
        settle.settle((i, self._batch.id, lost) for i in ids if missed[i] >= MISSING_TRIES)

    def _settle_all(self, reply: Reply) -> None:
        self._unseen.clear()
        settle.settle((request_id, self._batch.id, reply) for request_id in self._ids)

    def _queue_again(self, ids: list[str], *, counter: str = "", delay_seconds: float = 0.0) -> None:
        if ids:
            queue = message.group_queue(self._batch.group.id)
            count = settle.requeue(ids, self._batch.id, queue, counter=counter, delay_seconds=delay_seconds)
            logger.info("%s: %d requests queued again", self._batch.id, count)


def _request_counts(ids: list[str], name: str) -> dict[str, int]:
    pipeline = connections.client().pipeline(transaction=False)
    for request_id in ids:
        pipeline.hget(f"{store.PREFIX}request:{request_id}", name)
    return {request_id: int(value or 0) for request_id, value in zip(ids, pipeline.execute(), strict=True)}


def _decode_refusal(text: str) -> Reply:
    status, headers, body, outcome = msgspec.json.decode(text)
    return Reply(status=status, headers=headers, body=base64.b64decode(body), outcome=Outcome(outcome))


def _clean(batch: Batch) -> None:
    """Delete the upstream's copies of prompts and answers."""
    files = {batch.output_file, batch.error_file, batch.input_file} - {""}
    strays = batch.uploads > bool(batch.input_file)
    if not files and not strays:
        return
    try:
        upstream = OpenAI(batch.group)
        if strays:
            files.update(upstream.find_input_files(batch.id, batch.since_seconds))
        for file_id in sorted(files):
            upstream.delete(file_id)
    except (UpstreamTrouble, UpstreamRefused, CredentialGone) as error:
        if batch.failures < CLEANING_TRIES:
            raise
        logger.error("%s: its files could not be deleted and will expire at the upstream: %s", batch.id, error)
