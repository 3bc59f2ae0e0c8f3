"""Clean: delete the upstream's copies of prompts and answers, those of lost uploads included."""

from __future__ import annotations

import logging

from tasks.batches import Batch
from tasks.errors import CredentialGone, UpstreamRefused, UpstreamTrouble, VaultError
from tasks.providers.openai import OpenAI

logger = logging.getLogger(__name__)

#: Tries to delete the files; after that their own expiry at the upstream does it.
TRIES = 5


def clean(batch: Batch) -> None:
    """Delete a batch's files.

    Raises:
        LlmProxyError: it did not work, and is worth another try.
    """
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
    except (UpstreamTrouble, UpstreamRefused, CredentialGone, VaultError) as error:
        if batch.failures < TRIES:
            raise
        logger.error("%s: its files could not be deleted and will expire at the upstream: %s", batch.id, error)
