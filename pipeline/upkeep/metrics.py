"""Every metric: its name with its unit, its type and its meaning.

All are read from `Services.status` at each scrape. Nothing is counted in this process,
so none is lost with it, and one process answers for all of a pipeline.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.errors import PipelineError

Status = Mapping[str, Any]
PREFIX = "analytics_"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StatusMetric:
    """A metric and where it stands in the status: `path` is the names that lead to it. A counter is
    called `…_total` and only grows."""

    name: str
    meaning: str
    path: tuple[str, ...]
    metric_type: Literal["gauge", "counter"] = "gauge"


def _book(name: str, meaning: str) -> StatusMetric:
    return StatusMetric(f"{name}_events", meaning, ("books", name), "counter")


def _log(name: str, field: str, meaning: str) -> StatusMetric:
    return StatusMetric(f"event_log_{name}", meaning, ("event_log", field))


STATUS_METRICS = (
    StatusMetric("queue_messages", "messages that wait in the events queue", ("queue_depth",)),
    StatusMetric("unacknowledged_messages", "messages that workers have", ("unacknowledged",)),
    StatusMetric("delayed_messages", "messages that wait for their eta", ("delayed",)),
    StatusMetric("pending_counters", "counters not yet stored in Postgres", ("pending_counters",)),
    StatusMetric(
        "oldest_pending_seconds",
        "how long a counter may have waited to be stored, at most, batches left behind included",
        ("oldest_pending_s",),
    ),
    StatusMetric("inflight_batches", "batches claimed and not settled", ("inflight_batches",)),
    StatusMetric("dead_letters", "dead letters, in Redis and Postgres", ("dead_letters",)),
    _book("published", "events that our producers have published"),
    _book("consumed", "events taken from the queue"),
    _book("counted", "events counted"),
    _book("duplicate", "events not counted, since their id was seen before"),
    _book("dead", "events that became dead letters"),
    _book("forgotten", "events dropped, since their user was forgotten"),
    _book("expired", "events dropped, since they came after their `expires`"),
    _book("unlogged", "events counted for which the event log had no room"),
    StatusMetric("claims", "claims of flushes", ("books", "claims"), "counter"),
    StatusMetric(
        "expired_counters",
        "counters that expired before they were stored",
        ("books", "expired_counters"),
        "counter",
    ),
    StatusMetric(
        "repaired_counters",
        "counters that maintenance made pending again",
        ("books", "repaired_counters"),
        "counter",
    ),
    StatusMetric(
        "missing_messages",
        "messages published and neither consumed nor waiting; above 0 something is lost",
        ("books", "missing_messages"),
    ),
    StatusMetric("books_balanced", "1 while the books balance, else 0", ("books", "balanced")),
    StatusMetric(
        "audit_drift",
        "events by which archive and counters differed at the last audit",
        ("books", "audit_drift"),
    ),
    StatusMetric(
        "redis_durable",
        "1 while Redis says that it keeps what it acknowledges, else 0",
        ("redis_durable",),
    ),
    _log("entries", "entries", "entries of the event log not archived yet"),
    _log("events", "events", "events in these entries"),
    _log("bytes", "bytes", "bytes of these entries, compressed"),
    _log("pending_entries", "pending", "entries that a consumer has and has not finished"),
    _log("lag_entries", "lag", "entries that no consumer has got yet"),
    _log("oldest_seconds", "oldest_s", "age of the oldest entry not archived"),
)
LANE_METRICS = (
    ("requests_waiting", "waiting", "requests for a run that wait, by lane"),
    ("requests_waiting_seconds", "waiting_s", "how long the oldest of them has waited, by lane"),
    ("run_seconds", "running_s", "how long the run under way takes so far, by lane; 0: none"),
    ("behind_seconds", "behind_s", "how long counters or raw events have waited, by lane"),
)
WARNINGS = ("warnings", "lines of `analytics status` about what falls behind")
UP = ("up", "1 when Redis and Postgres answer, else 0")
CONSUMER_IDLE = ("event_log_consumer_idle_seconds", "how long a consumer of the log was idle")


class StatusCollector(Collector):
    """The metrics of a pipeline, asked for anew at every scrape."""

    def __init__(self, status: Callable[[], Status]) -> None:
        """`status` is `Services.status`; while it raises, `up` is the only metric."""
        self._status = status

    def collect(self) -> Iterable[Metric]:
        """What a scrape is answered."""
        try:
            status = self._status()
        except PipelineError as error:
            logger.warning("no metrics but `up`: %s", error)
            return [_family(*UP, 0)]
        found = [_family(*UP, 0 if "postgres" in status else 1)]
        status = {**status, "redis_durable": "redis" not in status}
        for metric in STATUS_METRICS:
            value = _at(status, metric.path)
            if value is not None:  # RabbitMQ does not say what workers have
                found.append(_family(metric.name, metric.meaning, value, metric.metric_type))
        idle = GaugeMetricFamily(
            PREFIX + CONSUMER_IDLE[0], CONSUMER_IDLE[1], labels=["partition", "consumer"]
        )
        for one in status["event_log"]["consumers"]:
            idle.add_metric([str(one["partition"]), one["name"]], one["idle_s"])
        found.append(_family(*WARNINGS, len(status["warnings"])))
        return [*found, *_families_of_lanes(status["lanes"]), idle]


def make_registry(status: Callable[[], Status]) -> CollectorRegistry:
    """A registry with these metrics only, for prometheus_client to serve."""
    # Not described beforehand: that would ask the servers before the first scrape.
    found = CollectorRegistry(auto_describe=False)
    found.register(StatusCollector(status))
    return found


def _families_of_lanes(lanes: Mapping[str, Status]) -> Iterable[Metric]:
    for name, field, meaning in LANE_METRICS:
        family = GaugeMetricFamily(PREFIX + name, meaning, labels=["lane"])
        for lane, status in lanes.items():
            if (value := status[field]) is not None or field == "running_s":
                family.add_metric([lane], value or 0)
        yield family


def _family(name: str, meaning: str, value: float, metric_type: str = "gauge") -> Metric:
    family = CounterMetricFamily if metric_type == "counter" else GaugeMetricFamily
    return family(PREFIX + name, meaning, value=float(value))


def _at(status: Status, path: tuple[str, ...]) -> float | None:
    found: Any = status
    for name in path:
        found = found[name]
    return None if found is None else float(found)
