"""Submit: a claimed batch becomes an input file and a batch at the upstream.

    claimed -> uploading -> creating -> submitted          (or ended, when the upstream refuses it)

Each state is written before its effect. "create" is the step that costs money, and its answer
can be lost: a batch that is found in *creating* is looked for by the id in its metadata, and is
created anew only after its input file was deleted, which makes a late create fail.
"""

from __future__ import annotations

import logging
import tempfile
from typing import IO

from tasks import batches, connections, control, outcomes, sealing, settle, stage, store, unbatchable
from tasks.batches import Batch, encode_refusal
from tasks.errors import CredentialGone, UpstreamRefused, UpstreamTrouble
from tasks.leases import Lease
from tasks.models import BatchState, Reply
from tasks.providers import registry
from tasks.providers.dialect import Upstream
from tasks.unbatchable import REMEMBERED

logger = logging.getLogger(__name__)


def submit(batch_id: str) -> float | None:
    """Do what is left to do until the upstream has the batch; see `stage.run` for what comes back."""
    return stage.run(batch_id, BatchState.CLAIMED, BatchState.UPLOADING, BatchState.CREATING, work=_submit)


def _submit(held: Lease) -> float | None:
    try:
        upstream = registry.upstream(held.batch.group)
    except CredentialGone as error:
        if held.batch.state is BatchState.CREATING:
            raise  # it may run
        logger.error("%s cannot be submitted: %s", held.batch.id, error)
        refuse(held, stage.credential_reply())
        return None
    if held.batch.state is BatchState.CREATING:
        adopted, pause = _resolve_doubt(held, upstream)
        if adopted or pause:
            return pause
    if held.batch.must_stop(store.now_ms()):
        _end_unsubmitted(held)
        return None
    known = unbatchable.refusal(held.batch.group.id)
    if known is not None:
        refuse(held, known, unbatchable=REMEMBERED)
        return None
    if held.batch.state is BatchState.CLAIMED:
        held.advance(BatchState.UPLOADING)
    _upload_and_create(held, upstream)
    return None


def _end_unsubmitted(held: Lease) -> None:
    """Nothing of it has been run: it ends as if the upstream had cancelled it."""
    held.advance(BatchState.ENDED, release=True, outcome="failed", end="unsubmitted", upstream_status="cancelled")


def _upload_and_create(held: Lease, upstream: Upstream) -> None:
    batch, count = held.batch, 1
    try:
        with tempfile.TemporaryFile() as form:
            if not upstream.uploads:
                count = _write_form(form, upstream, batch)
            elif not batch.input_file:
                # Counted first: an upload whose answer is lost leaves a file that cleaning must look for.
                held.advance(BatchState.UPLOADING, uploads=batch.uploads + 1)
                count = _write_form(form, upstream, batch)
                if count:
                    held.advance(BatchState.UPLOADING, input_file=upstream.upload(form, batch))
            if not count or control.is_canceled(batch.id):  # the operator may have said so while it was uploaded
                _end_unsubmitted(held)
                return
            held.advance(BatchState.CREATING, create_at=store.now_ms())
            upstream_id = upstream.create(held.batch, form)
    except UpstreamRefused as error:
        _refused(held, error)
    except UpstreamTrouble as error:
        if error.answer is not None and outcomes.is_final(error.answer):
            _refused(held, error.answer)
            return
        if held.batch.state is BatchState.CREATING and not error.in_doubt:
            held.advance(BatchState.UPLOADING)
        raise
    else:
        _adopt(held, upstream_id)


def _refused(held: Lease, answer: UpstreamRefused) -> None:
    """The upstream will not take it: its queue is full, or it never batches such requests, or they are wrong."""
    if outcomes.is_queue_full(answer):
        held.advance(
            BatchState.ENDED, release=True, outcome="failed", end="refused", upstream_status="failed",
            errors=outcomes.errors_of(answer), failures=0,
        )  # fmt: skip
        return
    reply = Reply.of_upstream(answer.status, answer.headers, answer.body)
    refuse(
        held, reply, unbatchable=int(outcomes.is_unbatchable(answer, created=held.batch.state is BatchState.CREATING))
    )


def _adopt(held: Lease, upstream_id: str) -> None:
    batch = held.batch
    logger.info("%s is %s at the upstream, %d requests", batch.id, upstream_id, batch.count)
    held.advance(BatchState.SUBMITTED, release=True, upstream_id=upstream_id, failures=0)


def _resolve_doubt(held: Lease, upstream: Upstream) -> tuple[bool, float | None]:
    """Find out what became of a "create" whose answer was lost.

    Returns:
        Whether the batch was found and adopted, and seconds to wait, if it is too early to say.
    """
    batch = held.batch
    found = upstream.find(batch)
    if found is None:
        over_in = batch.create_at / 1000 + upstream.doubt_seconds - store.now_ms() / 1000
        if over_in > 0:
            held.advance(BatchState.CREATING, release=True, pause_seconds=over_in)
            return False, over_in
        if batch.input_file:
            # From here on a batch that turns up may fail for want of its file, and nobody is to blame for it.
            held.advance(BatchState.CREATING, file_deleted=1)
            upstream.delete(batch.input_file)
        found = upstream.find(batch)
    if found is not None:
        _adopt(held, found)
    else:
        held.advance(BatchState.UPLOADING, input_file="", file_deleted=0)
    return found is not None, None


def _write_form(form: IO[bytes], upstream: Upstream, batch: Batch) -> int:
    """Write what will be sent, to disk: bodies are read in pieces and never all held; returns how many lines."""
    form.write(upstream.head(batch))
    lost, count, separator = [], 0, b""
    for ids in store.by_size(batches.lines(batch.id)):
        for request_id, body in zip(ids, _bodies(ids), strict=True):
            if body is None:
                lost.append(request_id)
            else:
                count += 1
                form.write(separator + upstream.line(request_id, sealing.opened(request_id, body)))
                separator = upstream.separator
    form.write(upstream.tail)
    form.seek(0)
    settle.settle((request_id, batch.id, stage.body_lost_reply()) for request_id in lost)
    batches.drop_lines(batch.id, lost)
    return count


def _bodies(ids: list[str]) -> list[bytes | None]:
    bodies: list[bytes | None] = connections.client().mget([f"{store.PREFIX}body:{request_id}" for request_id in ids])
    return bodies


def refuse(held: Lease, reply: Reply, *, unbatchable: int = 0) -> None:
    """End a batch that the upstream will not take; delivery settles its requests with the reply."""
    logger.warning("%s was refused with status %d", held.batch.id, reply.status)
    held.advance(
        BatchState.ENDED,
        release=True,
        outcome="failed",
        end="refused",
        refusal=encode_refusal(reply),
        unbatchable=unbatchable,
        failures=0,
    )
