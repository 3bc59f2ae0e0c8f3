"""Clean: delete the upstream's copies of prompts and answers, those of lost uploads included."""

from __future__ import annotations

from tasks.batches import Batch
from tasks.providers import registry


def clean(batch: Batch) -> None:
    """Delete a batch's files.

    Raises:
        LlmProxyError: it did not work, and is worth another try.
    """
    files = {batch.output_file, batch.error_file, batch.input_file} - {""}
    strays = batch.uploads > bool(batch.input_file)
    if not files and not strays:
        return
    upstream = registry.upstream(batch.group)
    if strays:
        files.update(upstream.find_input_files(batch))
    for file_id in sorted(files):
        upstream.delete(file_id)
