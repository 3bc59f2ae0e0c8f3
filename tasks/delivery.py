"""Deliver: read both result files, settle every line, deal with the rest, delete the files.

    ended -> delivering -> cleaning -> done

Everything here may run twice: a settled request stays as it is, a requeued one is not ours any
more. Files are deleted only after *cleaning* is written, so no restart looks for a deleted file.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from tasks import batches, cleaning, jsonl, outcomes, quota, rest, settle, stage, unbatchable
from tasks.batches import Batch
from tasks.errors import CredentialGone, UpstreamRefused
from tasks.jsonl import ResultLine
from tasks.leases import Lease
from tasks.models import BatchState, Lane, Reply
from tasks.outcomes import LineEnd
from tasks.providers import registry
from tasks.providers.dialect import TERMINAL, Upstream
from tasks.settings import settings

logger = logging.getLogger(__name__)

#: Downloads that must agree before lines that a file ought to have are given up.
READS = 5
READ_AGAIN_SECONDS = 60.0
#: Lines beyond those that were asked for, before a file is taken to have no end.
MOST_SURPLUS_LINES = 10_000
#: Broken lines that are told of one by one.
TOLD = 5


def deliver(batch_id: str) -> float | None:
    """Do what is left to do until every request of the batch is settled or queued again; see `stage.run`."""
    return stage.run(batch_id, BatchState.ENDED, BatchState.DELIVERING, BatchState.CLEANING, work=_deliver)


def _deliver(held: Lease) -> float | None:
    if held.batch.state is not BatchState.CLEANING:
        if held.batch.state is BatchState.ENDED:
            held.advance(BatchState.DELIVERING)
        if held.batch.reads:
            _retrieve_again(held)
        delivery = _Delivery(held.batch)
        delivery.run()
        if delivery.suspicious and held.batch.reads < READS - 1:
            return held.back_off(delivery.suspicious, READ_AGAIN_SECONDS, reads=held.batch.reads + 1)
        delivery.finish()
        held.advance(BatchState.CLEANING, failures=0)
    cleaning.clean(held.batch)
    held.advance(BatchState.DONE, release=True)
    return None


def _retrieve_again(held: Lease) -> None:
    """The files of a batch that was doubted may have been completed since."""
    answer = registry.upstream(held.batch.group).retrieve(held.batch.upstream_id)
    if outcomes.status(answer) in TERMINAL:
        held.advance(BatchState.DELIVERING, **outcomes.batch_fields(answer))


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
            reply = batches.decode_refusal(batch.refusal)
            self._refused(
                reply, unbatchable_=bool(batch.unbatchable), remembered=batch.unbatchable == unbatchable.REMEMBERED
            )
            return
        files = [file_id for file_id in (batch.output_file, batch.error_file) if file_id]
        if batch.upstream_status != "failed":
            self._read(files)
            return
        try:
            self._read(files)
        except (UpstreamRefused, CredentialGone) as error:
            logger.warning("%s has failed, and its files cannot be read: %s", batch.id, error)
        else:
            if files and self.suspicious and batch.reads < READS - 1:
                return
        self._failed()  # what the files have answered is not ours any more

    def _read(self, files: Sequence[str]) -> None:
        if not files:
            return
        upstream = registry.upstream(self._batch.group)
        for file_id in files:
            with upstream.content(file_id) as chunks:
                settle.settle(self._replies(upstream, chunks))
        rest.submit_again(self._batch, self._again, counter="attempts")

    def _replies(self, upstream: Upstream, chunks: Iterator[bytes]) -> Iterator[tuple[str, str, Reply]]:
        expected = sum(rest.numbers(self._ids, "inputs").values()) if upstream.splits else len(self._ids)
        for number, text in enumerate(jsonl.split_lines(chunks), 1):
            if number > 2 * expected + MOST_SURPLUS_LINES:
                logger.warning("%s: a result file does not end with line %d", self._batch.id, number)
                self._broken += 1
                return
            if not text.strip():
                continue
            try:
                line = upstream.parse(text)
                end = self._end(line) if line else None
            except (ValueError, RecursionError):
                self._broken += 1
                if self._broken <= TOLD:
                    logger.warning("%s: result line %d cannot be read", self._batch.id, number)
                continue
            self._lines += 1
            if line is None or end is None or line.custom_id not in self._unseen:
                continue  # a part of an answer, a second answer, or one to somebody else's question
            if end.retry and line.custom_id not in self._out_of_attempts():
                self._unseen.discard(line.custom_id)
                self._again.append(line.custom_id)
            elif end.reply is not None:
                self._unseen.discard(line.custom_id)
                yield line.custom_id, self._batch.id, end.reply

    def _end(self, line: ResultLine) -> LineEnd:
        return outcomes.line_end(line, upstream_id=self._batch.upstream_id, upstream_status=self._batch.upstream_status)

    def _out_of_attempts(self) -> set[str]:
        """Requests whose next failure is their answer."""
        if self._exhausted is None:
            if rest.has_no_other_way(self._batch):
                self._exhausted = set(self._ids)
            else:
                attempts = rest.numbers(self._ids, "attempts")
                self._exhausted = {i for i in self._ids if attempts[i] + 1 >= settings().max_line_attempts}
        return self._exhausted

    def _refused(self, reply: Reply, *, unbatchable_: bool, remembered: bool = False) -> None:
        self._unseen.clear()  # nobody is missing: there are no files
        if unbatchable_ and not remembered:  # else it would be remembered for ever
            unbatchable.remember(self._batch.group.id, reply)
        if unbatchable_ and settings().unbatchable == "sync":
            rest.send_synchronously(self._batch, self._ids, Lane.SYNC)
        else:
            settle.settle((request_id, self._batch.id, reply) for request_id in self._ids)

    def _failed(self) -> None:
        plan = outcomes.failed_batch(self._batch.errors)
        named = {self._ids[n - 1]: reply for n, reply in plan.lines.items() if 1 <= n <= len(self._ids)}
        if self._batch.file_deleted:
            rest.submit_again(self._batch, self._ids)  # it failed for want of the file that we took away
        elif plan.queue_full:
            quota.refused(self._batch.id)
            rest.submit_again(self._batch, self._ids)
        elif plan.all is not None:
            self._refused(plan.all, unbatchable_=plan.unbatchable)
        elif not named:
            self._refused(next(iter(plan.lines.values())), unbatchable_=False)
        else:
            settle.settle((request_id, self._batch.id, reply) for request_id, reply in named.items())
            rest.submit_again(self._batch, [request_id for request_id in self._ids if request_id not in named])
        self._unseen.clear()

    @property
    def _short(self) -> bool:
        return self._lines < self._batch.progress_completed + self._batch.progress_failed

    @property
    def suspicious(self) -> str:
        """Why these may not have been the whole files: a request that is taken for missing is paid again."""
        if not self._unseen or not (self._broken or self._short):
            return ""
        return f"{self._lines} lines and {self._broken} broken ones leave {len(self._unseen)} requests unanswered"

    def finish(self) -> None:
        """Deal with the requests that no file answers: run by nobody after an early end, else lost by the upstream."""
        ids = [request_id for request_id in self._ids if request_id in self._unseen]
        if self._batch.upstream_status in {"expired", "cancelled"} and not (self._broken or self._short):
            rest.submit_again(self._batch, ids)
        elif ids:
            logger.warning("%s: %d of %d lines are in no result file", self._batch.id, len(ids), len(self._ids))
            rest.submit_lost_again(self._batch, ids)
