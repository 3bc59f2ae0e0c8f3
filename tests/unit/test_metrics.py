"""Metrics are declared once: what is shown, documented and drawn is the table, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tasks import stats
from tests.unit.test_stats import bucket
from web.metric_table import COUNTER, HISTOGRAM, METRICS
from web.metrics import BOUNDS, folded

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "examples/grafana"


def test_the_documents_table_is_the_declared_one() -> None:
    rows = re.findall(r"^\| `(llm_proxy_\w+)` \| (\w+) \|(.*)\| (.*) \|$", (ROOT / "docs/metrics.md").read_text(), re.M)

    assert [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), help_) for name, kind, labels, help_ in rows] == [
        (metric.name, metric.kind, metric.labels, metric.help) for metric in METRICS
    ]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_prometheus_conventions(metric: object) -> None:
    name, kind = getattr(metric, "name", ""), getattr(metric, "kind", "")

    assert re.fullmatch(r"llm_proxy(_[a-z]+)+", name)
    assert name.endswith("_total") == (kind == COUNTER)
    assert "_ms" not in name
    if kind == HISTOGRAM:
        assert name.endswith("_seconds")


@pytest.mark.parametrize("file", ["llm-proxy.json", "alerts.yml"])
def test_what_is_drawn_and_alerted_on_exists(file: str) -> None:
    suffixes = ("", "_bucket", "_sum", "_count")
    known = {metric.name + suffix for metric in METRICS for suffix in (suffixes if metric.kind == HISTOGRAM else ("",))}

    used = set(re.findall(r"\bllm_proxy_\w+", (GRAFANA / file).read_text()))

    assert used
    assert used <= known


def test_the_dashboard_of_grafana_can_be_read_and_refers_to_the_provisioned_source() -> None:
    board = json.loads((GRAFANA / "llm-proxy.json").read_text())
    source = re.search(r"uid: (\w+)", (GRAFANA / "provisioning/datasources/prometheus.yml").read_text())

    assert source
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source[1]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_our_buckets_fold_into_cumulative_ones() -> None:
    histogram = {bucket(700): 3, bucket(45_000): 2, bucket(200_000_000): 1}

    found = dict(folded(histogram))

    assert found["0.5"] == 0
    assert found["1"] == 3
    assert found["30"] == 3
    assert found["60"] == 5
    assert found["86400"] == 5
    assert found["+Inf"] == 6
    assert len(found) == len(BOUNDS) + 1
    assert stats.GROWTH > 0
