"""What all vendors have in common behind their wire formats: files, jobs, how they end, and what they were paid for."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: How long a job runs.
RUN_SECONDS = 0.2

Body = dict[str, Any]


@dataclass
class End:
    """How a job is to end.

    Attributes:
        how: "completed", "failed", "expired" or "stuck", which is until somebody cancels it.
        share: how much of it has run by then.
        error: what a failed one says.
        hold: seconds that it runs at least.
    """

    how: str = "completed"
    share: float = 1.0
    error: dict[str, Any] = field(default_factory=dict)
    hold: float = RUN_SECONDS


@dataclass
class Line:
    """One request of a job: its result is there once it has run."""

    key: str
    body: Body
    url: str = ""
    status: int = 0
    answer: Any = None


@dataclass
class Job:
    """A batch."""

    id: str
    created: float
    end: End
    lines: list[Line]
    key: str
    about: dict[str, Any]
    cancelled_at: float = 0.0
    ended: bool = False
    files: dict[str, str] = field(default_factory=dict)

    def has_run(self) -> list[Line]:
        """The lines with a result."""
        return [line for line in self.lines if line.status]

    def has_not_run(self) -> list[Line]:
        """The others."""
        return [line for line in self.lines if not line.status]


@dataclass
class File:
    """A file, whose owner is known by key."""

    id: str
    key: str
    name: str
    content: bytes
    created: float


Answerer = Callable[[str, Body], tuple[int, Any]]


class Vendor:
    """One vendor's memory.

    Attributes:
        answerer: writes the answer to a request, given as where it was sent and its body.
        ends: how the next jobs end, in the order of their creation.
        trouble: calls that are to be struck: (part of "METHOD path", kind); see server.py.
        paid: how often each prompt was answered successfully.
        seen: (method, path, query, headers) of every call.
    """

    def __init__(self, name: str, answerer: Answerer) -> None:
        self.name = name
        self.answerer = answerer
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.files: dict[str, File] = {}
        self.jobs: dict[str, Job] = {}
        self.ends: list[End] = []
        self.trouble: list[tuple[str, str]] = []
        self.paid: Counter[str] = Counter()
        self.tries: Counter[str] = Counter()
        self.seen: list[tuple[str, str, str, dict[str, str]]] = []

    def store(self, key: str, name: str, content: bytes, prefix: str = "file-") -> File:
        """Keep a file."""
        with self.lock:
            file = File(prefix + uuid.uuid4().hex[:24], key, name, content, time.time())
            self.files[file.id] = file
            return file

    def create(self, key: str, lines: list[Line], job_id: str, **about: Any) -> Job:
        """Begin a job."""
        with self.lock:
            end = self.ends.pop(0) if self.ends else End()
            job = Job(job_id, time.time(), end, lines, key, about)
            self.jobs[job.id] = job
            return job

    def job(self, key: str, job_id: str) -> Job | None:
        """A job as it is now."""
        with self.lock:
            job = self.jobs.get(job_id)
            if job is None or job.key != key:
                return None
            self._run(job)
            return job

    def jobs_of(self, key: str) -> list[Job]:
        """A caller's jobs as they are now, newest first."""
        with self.lock:
            found = [job for job in self.jobs.values() if job.key == key]
            for job in found:
                self._run(job)
            return found[::-1]

    def cancel(self, job: Job) -> None:
        """Stop a job."""
        with self.lock:
            job.cancelled_at = job.cancelled_at or time.time()

    def state(self, job: Job) -> str:
        """ "running", "cancelling", "completed", "failed", "expired" or "cancelled"."""
        if not job.ended:
            return "cancelling" if job.cancelled_at else "running"
        if job.cancelled_at and job.end.how == "stuck":
            return "cancelled"
        return job.end.how

    def run_now(self, url: str, body: Body) -> tuple[int, Any]:
        """A synchronous call."""
        with self.lock:
            return self._answer(Line("", body, url))

    def _run(self, job: Job) -> None:
        over = time.time() - job.created >= job.end.hold if job.end.how != "stuck" else bool(job.cancelled_at)
        if job.ended or not over:
            return
        job.ended = True
        if job.end.how != "failed":
            for line in job.lines[: round(len(job.lines) * job.end.share)]:
                line.status, line.answer = self._answer(line)

    def _answer(self, line: Line) -> tuple[int, Any]:
        status, answer = self.answerer(line.url, line.body)
        text = prompt(line.body)
        self.tries[text] += 1
        if "once" in text and self.tries[text] > 1 and status != 200:
            status, answer = self.answerer(line.url, {**line.body, "_well": True})
        if status == 200:
            self.paid[text] += 1
        return status, answer


def prompt(body: Body) -> str:
    """What a request asks, whatever its dialect."""
    found: list[str] = []

    def walk(value: Any, name: str = "") -> None:
        if isinstance(value, str) and name in {"text", "content", "input"}:
            found.append(value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key not in {"system", "systemInstruction", "tools"}:
                    walk(inner, key)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, name)

    walk(body)
    return found[-1] if found else ""


def wanted_status(body: Body) -> int:
    """`fail-429` in a prompt asks for that status."""
    text = prompt(body)
    if "fail-" not in text or "_well" in body:
        return 200
    return int(text.split("fail-")[1][:3])
