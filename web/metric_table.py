"""The one table of what /metrics shows; docs/metrics.md says the same, and a test compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

Seen = dict[str, Any]
Samples = Iterable[tuple[tuple[str, ...], float]]

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True)
class Declared:
    """One metric.

    Attributes:
        source: the path of a figure of `overview.read`, of a mapping with a label, or of a histogram; or a function.
    """

    name: str
    kind: str
    help: str
    source: str | Callable[[Seen], Samples]
    labels: tuple[str, ...] = ()

    def samples(self, seen: Seen) -> Samples:
        """Label values and value."""
        if callable(self.source):
            return self.source(seen)
        value: Any = seen
        for name in self.source.split("."):
            value = value[name]
        if isinstance(value, dict):
            return [((name,), float(n)) for name, n in value.items()]
        return [((), float(value))]


def _outcomes(seen: Seen) -> Samples:
    requests = seen["requests"]
    synthesized = requests["synthesized_error_responses"]
    yield ("successful",), requests["successful"]
    yield ("failed",), requests["failed"] - synthesized
    yield ("synthesized",), synthesized


def _ticks(seen: Seen) -> Samples:
    for name in ("collect", "sweep"):
        if seen["lag"][f"{name}_seconds"] is not None:
            yield (name,), seen["lag"][f"{name}_seconds"]


def _lines(seen: Seen) -> Samples:
    batches = seen["in_flight"]["by_batch"]
    completed, failed = (sum(batch[name] for batch in batches) for name in ("completed", "failed"))
    yield ("completed",), completed
    yield ("failed",), failed
    yield ("open",), seen["in_flight"]["requests"] - completed - failed


def _oldest_batch(seen: Seen) -> Samples:
    yield (), max((batch["age_seconds"] for batch in seen["in_flight"]["by_batch"]), default=0.0)


def _tokens(seen: Seen) -> Samples:
    for row in seen["models"]:
        for kind in ("input", "cached", "output", "reasoning"):
            yield (row["model"], row["endpoint"], kind), row[f"{kind}_tokens"]


def _money(name: str) -> Callable[[Seen], Samples]:
    return lambda seen: [((row["model"], row["endpoint"]), row[name]) for row in seen["models"] if row["price_known"]]


METRICS: Final = (
    Declared("llm_proxy_requests_total", COUNTER, "Requests accepted.", "requests.total"),
    Declared("llm_proxy_replies_total", COUNTER, "Final replies.", _outcomes, ("outcome",)),
    Declared("llm_proxy_replies_by_status_total", COUNTER, "Final replies by HTTP status.", "settled", ("class",)),
    Declared("llm_proxy_replies_by_lane_total", COUNTER, "Final replies by what was paid.", "lanes", ("lane",)),
    Declared("llm_proxy_request_duration_seconds", HISTOGRAM, "From acceptance to settlement.", "requests"),
    Declared("llm_proxy_requests_waiting", GAUGE, "Clients held open, over all web processes.", "waiting"),
    Declared("llm_proxy_requests_queued", GAUGE, "Requests that wait to be batched.", "queued.requests"),
    Declared("llm_proxy_requests_queued_synchronous", GAUGE, "Messages on the synchronous lane.", "queued.synchronous"),
    Declared("llm_proxy_groups_queued", GAUGE, "Groups with queued requests.", "queued.groups"),
    Declared("llm_proxy_queue_oldest_age_seconds", GAUGE, "Age of the oldest open group.", "lag.oldest_queued_seconds"),
    Declared("llm_proxy_batches_total", COUNTER, "Batches closed.", "batches.total"),
    Declared("llm_proxy_batches_ended_total", COUNTER, "Batches by how they ended.", "ends", ("end",)),
    Declared(
        "llm_proxy_batch_duration_seconds", HISTOGRAM, "From the closing of a batch to its end upstream.", "batches"
    ),
    Declared("llm_proxy_batches_in_flight", GAUGE, "Batches that are not done.", "in_flight.batches"),
    Declared(
        "llm_proxy_batch_lines", GAUGE, "Lines of batches in flight by the upstream's counts.", _lines, ("state",)
    ),
    Declared("llm_proxy_batch_oldest_age_seconds", GAUGE, "Age of the oldest batch in flight.", _oldest_batch),
    Declared(
        "llm_proxy_batch_overdue_seconds",
        GAUGE,
        "How long the next step of a batch is overdue; above 60 nobody works.",
        "lag.most_overdue_seconds",
    ),
    Declared(
        "llm_proxy_tick_age_seconds",
        GAUGE,
        "Since a clock's task last ran: collect every second, sweep every 30.",
        _ticks,
        ("task",),
    ),
    Declared("llm_proxy_requeued_total", COUNTER, "Requests queued again.", "exceptions.requeued"),
    Declared(
        "llm_proxy_fallbacks_total",
        COUNTER,
        "Requests of late batches, and of models that cannot be batched, sent synchronously.",
        "exceptions.fallbacks",
        ("lane",),
    ),
    Declared(
        "llm_proxy_possibly_double_paid_total",
        COUNTER,
        "Synchronous calls cut after they were sent; should be 0.",
        "exceptions.possibly_double_paid",
    ),
    Declared(
        "llm_proxy_over_quota_total",
        COUNTER,
        "Batches refused because the upstream's queue was full.",
        "exceptions.over_quota",
    ),
    Declared(
        "llm_proxy_unknown_statuses_total",
        COUNTER,
        "Looks at a batch whose status is unknown here.",
        "exceptions.unknown_statuses",
    ),
    Declared("llm_proxy_heartbeats_total", COUNTER, "Replies whose client was kept alive.", "heartbeats"),
    Declared("llm_proxy_attached_total", COUNTER, "Retries that were attached to what they repeat.", "attached"),
    Declared("llm_proxy_paused", GAUGE, "1 while nothing is submitted.", "paused"),
    Declared("llm_proxy_redis_memory_bytes", GAUGE, "Memory that Redis uses.", "redis.used_bytes"),
    Declared("llm_proxy_redis_memory_limit_bytes", GAUGE, "Its maxmemory; 0: none.", "redis.max_bytes"),
    Declared(
        "llm_proxy_month_tokens",
        GAUGE,
        "Tokens of the last 30 days; cached is part of input, reasoning of output.",
        _tokens,
        ("model", "endpoint", "kind"),
    ),
    Declared(
        "llm_proxy_month_cost_usd",
        GAUGE,
        "What they cost, where the price is known.",
        _money("cost_usd"),
        ("model", "endpoint"),
    ),
    Declared(
        "llm_proxy_month_standard_cost_usd",
        GAUGE,
        "What they would have cost synchronously.",
        _money("standard_cost_usd"),
        ("model", "endpoint"),
    ),
    Declared(
        "llm_proxy_month_unpriced_requests",
        GAUGE,
        "Requests of the last 30 days whose price is unknown.",
        "usage.unpriced_requests",
    ),
)
