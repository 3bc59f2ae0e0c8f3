"""Validates an input file the way OpenAI does: after the batch was created, so errors appear on a later GET."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import NamedTuple

from tests.simulator.config import Config
from tests.simulator.content import Content, parse, spans
from tests.simulator.ends import Problem
from tests.simulator.greenlets import breathe
from tests.simulator.prompts import EMBEDDINGS, Body, carries, failure, inputs_of, missing, model_of

MAX_PROBLEMS = 100


class Line(NamedTuple):
    """One request of a batch: where it stands in the file and the status it will get."""

    custom_id: str
    start: int
    end: int
    status: int


@dataclass
class Checked:
    """What validation found: the problems, or the lines in the order in which they will be worked off."""

    model: str = ""
    stuck: bool = False  # some line carries the in-band control "stuck"
    problems: list[Problem] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)  # [k]: how many of the first k lines get an error

    def add(self, code: str, message: str, param: str | None = None, line: int | None = None) -> None:
        """Note a problem, up to a limit."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(code, message, param, line))


class Refused(Exception):
    """A line is not acceptable."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def first_model(content: Content, endpoint: str) -> str:
    """The model of the first line, without validating anything; empty when there is none."""
    for start, end in spans(content):
        try:
            return model_of(endpoint, parse(content[start:end])["body"])
        except (ValueError, TypeError, KeyError, AttributeError):
            break
    return ""


def check(content: Content, endpoint: str, config: Config, seed: str) -> Checked:
    """Validate a whole file and fix the order in which its lines will be answered."""
    found = Checked()
    if len(content) > config.max_file_bytes:
        found.add("file_too_large", "The batch input file is larger than the 200 MB maximum.", "input_file_id")
        return found
    rows = list(spans(content))
    while rows and not content[slice(*rows[-1])].strip():
        rows.pop()
    if not rows:
        found.add("empty_file", "The input file is empty. It must contain at least one request.", "input_file_id")
        return found
    if len(rows) > config.max_requests:
        found.add(
            "too_many_tasks", f"The batch has more than the maximum of {config.max_requests} requests.", "input_file_id"
        )
        return found
    known: set[str] = set()
    inputs = 0
    for number, (start, end) in enumerate(rows, 1):
        breathe(number)
        try:
            custom_id, body = _read(content[start:end], endpoint, known)
            found.model = found.model or model_of(endpoint, body)
            _same_model(model_of(endpoint, body), found.model)
        except Refused as refused:
            found.add(refused.code, refused.message, refused.param, number)
            continue
        outcome = failure(endpoint, body, batched=True)
        if endpoint == EMBEDDINGS and not missing(endpoint, body):
            inputs += len(inputs_of(body))
        found.stuck = found.stuck or carries(body, "stuck")
        found.lines.append(Line(custom_id, start, end, outcome[0] if outcome else 200))
    if inputs > config.max_requests:
        found.add("too_many_tasks", f"The batch has more than {config.max_requests} embedding inputs.", "input_file_id")
    Random(seed).shuffle(found.lines)
    found.failures = list(accumulate((line.status != 200 for line in found.lines), initial=0))
    return found


def _read(text: bytes, endpoint: str, known: set[str]) -> tuple[str, Body]:
    """The custom_id and body of one line; `known` holds the ids seen so far."""
    try:
        line = parse(text)
    except ValueError:
        raise Refused("invalid_json_line", "This line is not parseable as valid JSON.") from None
    if not isinstance(line, dict):
        raise Refused("invalid_json_line", "This line is not a JSON object.")
    custom_id, url, body = line.get("custom_id"), line.get("url"), line.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise Refused("missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id")
    if custom_id in known:
        message = f"The custom_id '{custom_id}' for this request is a duplicate of another request."
        raise Refused("duplicate_custom_id", message, "custom_id")
    known.add(custom_id)
    if line.get("method") != "POST":
        raise Refused("invalid_method", "The method for this request must be POST.", "method")
    if url != endpoint:
        message = f"The URL '{url}' of this request does not match the batch endpoint '{endpoint}'."
        raise Refused("mismatched_endpoint", message, "url")
    if not isinstance(body, dict):
        raise Refused("missing_required_parameter", "Missing required parameter: 'body'.", "body")
    if missing(endpoint, body) == "model":
        raise Refused("missing_required_parameter", "Missing required parameter: 'model'.", "body.model")
    return custom_id, body


def _same_model(model: str, first: str) -> None:
    if model != first:
        message = f"The provided model '{model}' does not match the model '{first}' of the first request."
        raise Refused("mismatched_model", message, "body.model")
    if model.startswith("no-such"):
        message = f"The provided model '{model}' is not supported by the Batch API."
        raise Refused("model_not_found", message, "body.model")
