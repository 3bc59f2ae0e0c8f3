"""GET /metrics: the same figures for Prometheus, right from any process, because all of them lie in Redis.

What it shows is declared in metric_table.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Final

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from tasks import overview, stats
from web import access
from web.metric_table import COUNTER, HISTOGRAM, METRICS

bp = Blueprint("metrics", __name__)

#: Upper bounds in seconds: a batch takes minutes to a day.
BOUNDS: Final = (0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400)
MODELS: Final = 50


class Figures(Collector):
    """Reads Redis at each scrape."""

    def collect(self) -> Iterator[Metric]:
        """Every declared metric."""
        seen = {**overview.read(), "models": overview.usage_by("model")[:MODELS]}
        histograms = stats.histograms()
        for declared in METRICS:
            if declared.kind == HISTOGRAM:
                buckets, total_ms = histograms[str(declared.source)]
                yield HistogramMetricFamily(
                    declared.name, declared.help, buckets=folded(buckets), sum_value=total_ms / 1000
                )
                continue
            family = CounterMetricFamily if declared.kind == COUNTER else GaugeMetricFamily
            metric = family(declared.name, declared.help, labels=declared.labels)
            for labels, value in declared.samples(seen):
                metric.add_metric(labels, value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        """Nothing: Redis is not asked before somebody scrapes."""
        return ()


def folded(histogram: dict[int, int]) -> list[tuple[str, float]]:
    """Our buckets of 3 % as cumulative ones; one of ours belongs where its middle is."""
    counts = [0] * (len(BOUNDS) + 1)
    for bucket, n in histogram.items():
        seconds = (math.exp((bucket + 0.5) * stats.GROWTH) - 1) / 1000
        counts[sum(seconds > bound for bound in BOUNDS)] += n
    found, seen = [], 0
    for bound, n in zip((*BOUNDS, math.inf), counts, strict=True):
        seen += n
        found.append((f"{bound:g}" if bound < math.inf else "+Inf", float(seen)))
    return found


registry = CollectorRegistry()
registry.register(Figures())


@bp.get("/metrics", provide_automatic_options=False)
@access.guarded
def show() -> Response:
    """Prometheus' text format."""
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)
