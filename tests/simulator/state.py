"""Everything a simulator remembers: files and batches per API key, the ledger, the log, and the clock they live by."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

from tests.simulator.config import Config
from tests.simulator.content import Content
from tests.simulator.ends import Ends, Problem
from tests.simulator.faults import Script
from tests.simulator.files import StoredFile
from tests.simulator.ledger import Ledger
from tests.simulator.lifecycle import Batch, Status
from tests.simulator.results import write
from tests.simulator.validation import first_model

#: Memory is bounded: beyond these the oldest files, ended batches and log entries are forgotten.
MAX_FILES = 20_000
MAX_BATCHES = 10_000
MAX_LOG = 2_000

FILE_SECONDS = 30 * 86_400


class State:
    """The simulator's memory. `reset` puts it back to the moment of its start."""

    def __init__(self, config: Config) -> None:
        self._initial = config
        self.reset()

    def reset(self) -> None:
        """Forget everything, the changes of the configuration and of the clock included."""
        self.offset = 0.0
        self.files: dict[str, StoredFile] = {}
        self.batches: dict[str, Batch] = {}
        self.ledger = Ledger()
        self.log: deque[dict[str, Any]] = deque(maxlen=MAX_LOG)
        self.calls: Counter[str] = Counter()
        self.sync_requests = 0
        self.sync_now = self.sync_most = 0  # synchronous calls under way, and the most there ever were
        self.events: deque[tuple[str, str]] = deque(maxlen=MAX_LOG)  # (type, batch id), webhooks to send
        self.config = self._initial
        self.script = Script(self.config.faults)
        self.ends = Ends(self.config.ends)

    def configure(self, patch: Mapping[str, Any]) -> None:
        """Change the configuration; rules that are given start to count anew, others count on."""
        self.config = self.config.merged(patch)
        if "faults" in patch:
            self.script = Script(self.config.faults)
        if "ends" in patch:
            self.ends = Ends(self.config.ends)

    def now(self) -> float:
        """The time by the clock that `POST /_control/advance` moves."""
        return time.time() + self.offset

    def add_file(
        self, key: str, filename: str, purpose: str, content: Content, seconds: int | None, created: float
    ) -> StoredFile:
        """Store a file for a number of seconds, or for the usual time."""
        file = StoredFile(
            id=f"file-{uuid.uuid4().hex[:24]}",
            key=key,
            filename=filename,
            purpose=purpose,
            content=content,
            created_at=created,
            expires_at=created + (seconds or FILE_SECONDS),
        )
        self.files[file.id] = file
        while len(self.files) > MAX_FILES:
            del self.files[next(iter(self.files))]
        return file

    def file(self, key: str, file_id: str) -> StoredFile | None:
        """A file, if the key owns it and it has not expired."""
        file = self.files.get(file_id)
        if file is None or file.key != key:
            return None
        if file.expires_at <= self.now():
            del self.files[file_id]
            return None
        return file

    def add_batch(
        self, file: StoredFile, endpoint: str, metadata: dict[str, str] | None, output_seconds: int | None
    ) -> Batch:
        """Create a batch; whether its input is acceptable comes to light later."""
        batch = Batch(
            id=f"batch_{uuid.uuid4().hex}",
            key=file.key,
            endpoint=endpoint,
            input=file,
            metadata=metadata,
            output_seconds=output_seconds,
            config=self.config,
            end=self.ends.pick(first_model(file.content, endpoint)),
            created_at=self.now(),
        )
        self.batches[batch.id] = batch
        if len(self.batches) > MAX_BATCHES and (old := next((b for b in self.batches.values() if b.ended), None)):
            del self.batches[old.id]
        return batch

    def batch(self, key: str, batch_id: str) -> Batch | None:
        """A batch as it is now, if the key owns it."""
        batch = self.batches.get(batch_id)
        if batch is None or batch.key != key:
            return None
        if (
            self.config.enqueued_limit or batch.end.enqueued_limit
        ):  # what the key's other batches still hold decides about this one
            self.look_at(other for other in self.batches.values() if other.key == key)
        self.look_at([batch])
        return batch

    def batches_of(self, key: str) -> list[Batch]:
        """All batches of a key as they are now, newest first."""
        found = [batch for batch in self.batches.values() if batch.key == key]
        self.look_at(found)
        return found[::-1]

    def look_at(self, batches: Iterable[Batch]) -> None:
        """Bring batches up to the present: enter every status that has become due, with the moment it was due."""
        for batch in list(batches):
            if batch.ended:
                continue
            with batch.lock:
                while (step := batch.due())[1] <= self.now():
                    self._enter(batch, *step)

    def cancel(self, batch: Batch) -> None:
        """Cancel an unfinished batch."""
        if batch.status != Status.CANCELLING:
            batch.enter(Status.CANCELLING, self.now())

    def finish(self) -> int:
        """End all waiting, that of stuck batches included; how many batches that concerned."""
        waiting = [batch for batch in self.batches.values() if not batch.ended]
        for batch in waiting:
            batch.released_at = self.now()
        self.look_at(waiting)
        return len(waiting)

    def _enter(self, batch: Batch, status: Status, at: float) -> None:
        if status == Status.IN_PROGRESS:
            self._hold_to_limit(batch, at)
        elif status in (Status.COMPLETED, Status.EXPIRED, Status.CANCELLED):
            batch.ran = batch.done(at)
            self._write_results(batch, status, at)
        batch.enter(status, at)
        if batch.ended:
            self.events.append((f"batch.{batch.status}", batch.id))

    def _hold_to_limit(self, batch: Batch, at: float) -> None:
        """Refuse a batch that would hold more lines than its key and model may have in unfinished batches."""
        limit = self.config.enqueued_limit if batch.end.enqueued_limit is None else batch.end.enqueued_limit
        lines = len(batch.checked.lines)
        if not limit or batch.checked.problems:
            return
        held = sum(
            len(other.checked.lines)
            for other in self.batches.values()
            if other is not batch
            and other.key == batch.key
            and other.at.get(Status.IN_PROGRESS, math.inf) <= at
            and (not other.ended or other.at[other.status] > at)
            and other.checked.model == batch.checked.model
        )
        if held + lines > limit:
            message = (
                f"Enqueued token limit reached for {batch.checked.model} in organization org-simulator. "
                f"Limit: {limit} enqueued tokens. Please try again once some in_progress batches have been completed."
            )
            batch.checked.problems.append(Problem("token_limit_exceeded", message))

    def _write_results(self, batch: Batch, status: Status, at: float) -> None:
        """Answer the lines that ran; an empty file is not stored and has no id."""
        results = write(batch, status, at, self.ledger.bill)
        batch.input_tokens, batch.output_tokens = results.input_tokens, results.output_tokens
        for kind, content in (("output", results.output), ("error", results.error)):
            if content or batch.end.empty_files or (kind == "output" and batch.end.empty_output):
                name = f"{batch.id}_{kind}.jsonl"
                file = self.add_file(batch.key, name, "batch_output", content, batch.output_seconds, at)
                setattr(batch, f"{kind}_file_id", file.id)
