"""Unmodified SDKs whose patience is 2 s, and a batch that takes 20."""

from __future__ import annotations

import pytest

from tests.clients.asking import Front, node, python, python1
from tests.running import ROOT

BATCH_SECONDS = 20
TIMEOUT_SECONDS = 2


PROGRAMS = {
    "python-sync": python("sync"),
    "python-async": python("async"),
    "python1-sync": python1("sync"),
    "python1-async": python1("async"),
    "node6": node(6),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_sdk_with_its_defaults_gets_its_answer_from_one_paid_line(front: Front, name: str) -> None:
    front.upstream.configure(batch_delay=BATCH_SECONDS)
    report = front.run(PROGRAMS[name], name, "hello", TIMEOUT_SECONDS)

    assert report.get("content") == "echo:hello", report
    assert front.paid(name) == 1


def test_node_7_is_told_at_its_last_attempt_which_setting_to_change_and_finds_its_answer_later(front: Front) -> None:
    front.upstream.configure(batch_delay=BATCH_SECONDS)
    report = front.run(node(7), "node-7", "hello", TIMEOUT_SECONDS)

    assert report["status"] == 504, report
    assert "`timeout`" in report["message"]
    section = report["message"].partition("'")[2].partition("'")[0]
    assert f"## {section}\n" in (ROOT / "README.md").read_text()

    again = front.run(node(7), "node-7", "hello", 60)
    assert again.get("content") == "echo:hello", again
    assert front.paid("node-7") == 1


def test_node_7_finds_its_answer_with_a_retry_when_the_batch_is_done_in_time(front: Front) -> None:
    front.upstream.configure(batch_delay=1.2 * TIMEOUT_SECONDS)
    report = front.run(node(7), "node-7-in-time", "hello", TIMEOUT_SECONDS)

    assert report.get("content") == "echo:hello", report
    assert front.paid("node-7-in-time") == 1
