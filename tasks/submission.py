"""Submit: a claimed batch becomes an input file and a batch at the upstream.

    claimed -> uploading -> creating -> submitted          (or ended, when the upstream refuses it)

Each state is written before its effect. "create" is the step that costs money, and its answer
can be lost: a batch that is found in *creating* is looked for by the id in its metadata, and is
created anew only after its input file was deleted, which makes a late create fail.
"""

from __future__ import annotations

import base64
import logging
import tempfile
from typing import IO

import msgspec

from tasks import batches, connections, jsonl, store
from tasks.batches import Lease
from tasks.errors import CredentialGone, UpstreamRefused, UpstreamTrouble
from tasks.models import BatchState, Reply
from tasks.providers.openai import CALL_SECONDS, FILE_LIFETIME_SECONDS, OpenAI, input_filename
from tasks.settle import error_reply

logger = logging.getLogger(__name__)


def submit(batch_id: str) -> float | None:
    """Do what is left to do until the upstream has the batch.

    Returns:
        None when the next stage may begin, else the seconds after which to try again.

    Raises:
        NotOurTurn: somebody else works on it, or it is further on.
    """
    with batches.lease(batch_id, BatchState.CLAIMED, BatchState.UPLOADING, BatchState.CREATING) as held:
        try:
            upstream = OpenAI(held.batch.group)
            if held.batch.state is BatchState.CREATING:
                try:
                    pause = _resolve_doubt(held, upstream)
                except UpstreamRefused as error:
                    # Not the batch is refused but our look at it: it may run and cost, so it stays in doubt.
                    raise UpstreamTrouble(str(error), in_doubt=True) from error
                if pause:
                    held.advance(BatchState.CREATING, release=True, pause_seconds=pause)
                    return pause
            if held.batch.state is BatchState.CLAIMED:
                held.advance(BatchState.UPLOADING)
            if held.batch.state is BatchState.UPLOADING:
                _upload_and_create(held, upstream)
        except UpstreamRefused as error:
            refuse(held, Reply.of_upstream(error.status, error.headers, error.body))
        except CredentialGone as error:
            logger.error("%s cannot be submitted: %s", batch_id, error)
            refuse(held, error_reply(401, "The stored credential of this request is gone.", code="credential_lost"))
        except UpstreamTrouble as error:
            return held.back_off(error)
    return None


def _upload_and_create(held: Lease, upstream: OpenAI) -> None:
    batch = held.batch
    if not batch.input_file:
        # Counted first: an upload whose answer is lost leaves a file that cleaning must look for.
        held.advance(BatchState.UPLOADING, uploads=batch.uploads + 1)
        with tempfile.TemporaryFile() as form:
            _write_form(form, batch.id, batch.group.endpoint)
            input_file = upstream.upload(form, jsonl.CONTENT_TYPE)
        held.advance(BatchState.UPLOADING, input_file=input_file)
    held.advance(BatchState.CREATING, create_at=store.now_ms())
    try:
        upstream_id = upstream.create(batch.id, held.batch.input_file, batch.group.endpoint)
    except UpstreamTrouble as error:
        if not error.in_doubt:
            held.advance(BatchState.UPLOADING)
        raise
    _adopt(held, upstream_id)


def _adopt(held: Lease, upstream_id: str) -> None:
    logger.info("%s is %s at the upstream, %d requests", held.batch.id, upstream_id, held.batch.count)
    held.advance(BatchState.SUBMITTED, release=True, upstream_id=upstream_id, failures=0)


def _resolve_doubt(held: Lease, upstream: OpenAI) -> float | None:
    """Find out what became of a "create" whose answer was lost; returns seconds to wait, if it is too early to say."""
    batch = held.batch
    found = upstream.find(batch.id, batch.since_seconds)
    if found is None:
        over_in = batch.create_at / 1000 + CALL_SECONDS - store.now_ms() / 1000
        if over_in > 0:
            return over_in
        upstream.delete(batch.input_file)
        found = upstream.find(batch.id, batch.since_seconds)
    if found is not None:
        _adopt(held, found)
    else:
        held.advance(BatchState.UPLOADING, input_file="")
    return None


def _write_form(form: IO[bytes], batch_id: str, endpoint: str) -> None:
    """Write the multipart form with the input file; bodies are read in pieces and never all held."""
    form.write(
        jsonl.form_head(
            input_filename(batch_id),
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": str(FILE_LIFETIME_SECONDS),
            },
        )
    )
    gone = []
    for ids in store.by_size(batches.lines(batch_id)):
        for request_id, body in zip(ids, _bodies(ids), strict=True):
            if body is None:  # it is settled already
                gone.append(request_id)
            else:
                form.write(jsonl.line(request_id, endpoint, body))
    form.write(jsonl.FORM_TAIL)
    form.seek(0)
    batches.drop_lines(batch_id, gone)


def _bodies(ids: list[str]) -> list[bytes | None]:
    bodies: list[bytes | None] = connections.client().mget([f"{store.PREFIX}body:{request_id}" for request_id in ids])
    return bodies


def refuse(held: Lease, reply: Reply) -> None:
    """End a batch that the upstream will not take; delivery settles its requests with the reply."""
    logger.warning("%s was refused with status %d", held.batch.id, reply.status)
    held.advance(BatchState.ENDED, release=True, outcome="failed", refusal=encode_refusal(reply), failures=0)


def encode_refusal(reply: Reply) -> str:
    """A reply as text for the batch record."""
    return msgspec.json.encode(
        [reply.status, reply.headers, base64.b64encode(reply.body).decode(), reply.outcome]
    ).decode()
