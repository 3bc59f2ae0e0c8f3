"""Scripted ends of whole batches: how a batch of some model deviates from the documented happy path.

Each field is something that OpenAI or a server of its dialect has been seen doing (upstream-apis.md, 1.4-1.6, 7.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal

import msgspec


class Problem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item of a failed batch's `errors.data`."""

    code: str
    message: str = "Simulated failure."
    param: str | None = None
    line: int | None = None


class End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: the batches it applies to and what is odd about them. Defaults change nothing."""

    model: str = "*"  # the batch's model; * matches anything
    count: int | None = None  # only the first so many batches; None: all
    fail: tuple[Problem, ...] = ()  # validation fails with these
    stuck: str = ""  # never leaves this status, until POST /_control/finish
    rename_status: dict[str, str] = msgspec.field(default_factory=dict)  # true status -> reported status
    expire_after: float | None = None  # instead of the configuration's
    expire_frac: float | None = None  # instead of the configuration's
    enqueued_limit: int | None = None  # instead of the configuration's
    cancel_delay: float | None = None  # instead of the configuration's
    omit_unfinished: bool = False  # lines that did not run are in neither file
    drop: int = 0  # so many lines ran (and cost) but are in neither file
    garble: int = 0  # so many output lines are cut in the middle
    rename: int = 0  # so many output lines come under a custom_id that nobody has
    strangers: tuple[str, ...] = ()  # output lines under these custom_ids come first
    instead: str = ""  # each output line is this text, with ID in place of its custom_id
    surplus: int = 0  # so many lines more, under ids that nobody has, come first
    twice: bool = False  # each output line comes twice, the second time with another answer
    pad: int = 0  # so many blanks in the middle of each output line
    bom: bool = False  # the output file begins with a byte order mark
    crlf: bool = False  # output lines end in CR LF
    blank_lines: bool = False  # an empty line precedes each output line
    no_last_newline: bool = False  # the output file's last line has no end
    empty_output: bool = False  # lines ran (and cost), and the output file is there and empty
    errors_in_output: bool = False  # lines with a 4xx or 5xx are in the output file
    error_line: Literal["", "null_response", "no_response"] = ""  # shape of lines with a 4xx or 5xx
    body_as_string: bool = False  # response.body is JSON in a string
    html: bool = False  # the output file is a web page
    empty_files: bool = False  # both files exist, even with nothing in them
    blank_error_file_id: bool = False  # error_file_id is "" where null is meant
    omit_nulls: bool = False  # the batch object has no null fields
    request_counts: dict[str, int] | None = None  # reported at the end, whatever is true


class Ends:
    """The rules together with how many batches each has had."""

    def __init__(self, rules: Iterable[End]) -> None:
        self._rules = list(rules)
        self._had = [0] * len(self._rules)

    def pick(self, model: str) -> End:
        """The first rule for a new batch of this model, or one that changes nothing."""
        for index, rule in enumerate(self._rules):
            if fnmatchcase(model, rule.model) and (rule.count is None or self._had[index] < rule.count):
                self._had[index] += 1
                return rule
        return End()
