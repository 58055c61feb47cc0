"""The metrics of a pipeline's state: each with its unit, type and meaning.

All are read anew at each scrape (`read_state`). Nothing is counted in this process, so none is lost
with it, and one process answers for all of a pipeline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

State = Mapping[str, Any]
PREFIX = "analytics_"
EACH = "*"


@dataclass(frozen=True)
class StateMetric:
    """A metric and where it is in the state: `path` is the names that lead to it; `EACH` in it
    stands for every name there, which is the value of `label`. A counter's name ends in `_total`,
    and it only grows."""

    name: str
    meaning: str
    path: tuple[str, ...]
    label: str = ""

    @property
    def metric_type(self) -> Literal["gauge", "counter"]:
        """Its type."""
        return "counter" if self.name.endswith("_total") else "gauge"


def _book(name: str, meaning: str) -> StateMetric:
    return StateMetric(f"{name}_events_total", meaning, ("books", name))


def _log(name: str, field: str, meaning: str) -> StateMetric:
    return StateMetric(f"event_log_{name}", meaning, ("event_log", field))


def _lane(name: str, field: str, meaning: str) -> StateMetric:
    return StateMetric(name, f"{meaning}, by lane", ("lanes", EACH, field), "lane")


def _redis(name: str, meaning: str) -> StateMetric:
    return StateMetric(f"redis_{name}", meaning, ("redis_server", name))


STATE_METRICS = (
    StateMetric("up", "1 when Redis and Postgres answer, else 0", ("up",)),
    StateMetric("redis_up", "1 when Redis answers, else 0", ("redis_up",)),
    StateMetric("postgres_up", "1 when Postgres answers, else 0", ("postgres_up",)),
    StateMetric(
        "build_info", "1; `version` is that of this process's package", ("build", EACH), "version"
    ),
    StateMetric(
        "findings",
        "what is wrong, as `analytics status` says, by gravity: `lost`, `stopped`, `late`",
        ("findings", EACH),
        "gravity",
    ),
    StateMetric(
        "alarm",
        "1 while this alarm is raised, else 0: see docs/guides/operating/alarms",
        ("alarms", EACH),
        "alarm",
    ),
    StateMetric(
        "warnings", "lines of `analytics status` about what falls behind", ("warnings_number",)
    ),
    StateMetric("queue_messages", "messages that wait in the events queue", ("queue_depth",)),
    StateMetric("unacknowledged_messages", "messages that workers have", ("unacknowledged",)),
    StateMetric("delayed_messages", "messages that wait for their eta", ("delayed",)),
    StateMetric("pending_counters", "counters not yet stored in Postgres", ("pending_counters",)),
    StateMetric(
        "oldest_pending_seconds",
        "how long a counter may have waited to be stored, at most, batches left behind included",
        ("oldest_pending_s",),
    ),
    StateMetric("inflight_batches", "batches claimed and not settled", ("inflight_batches",)),
    StateMetric("dead_letters", "dead letters, in Redis and Postgres", ("dead_letters",)),
    _book("published", "events that our producers have published"),
    _book("consumed", "events taken from the queue"),
    _book("counted", "events counted"),
    _book("duplicate", "events not counted, since their id was seen before"),
    _book("dead", "events that became dead letters"),
    _book("forgotten", "events dropped, since their user was forgotten"),
    _book("expired", "events dropped, since they came after their `expires`"),
    _book("unlogged", "events counted for which the event log had no room"),
    StateMetric("claims_total", "claims of flushes", ("books", "claims")),
    StateMetric(
        "expired_counters_total",
        "counters that expired before they were stored",
        ("books", "expired_counters"),
    ),
    StateMetric(
        "repaired_counters_total",
        "counters that maintenance made pending again",
        ("books", "repaired_counters"),
    ),
    StateMetric(
        "missing_messages",
        "messages published and neither consumed nor waiting; above 0 something is lost",
        ("books", "missing_messages"),
    ),
    StateMetric("books_balanced", "1 while the books balance, else 0", ("books", "balanced")),
    StateMetric(
        "audit_drift",
        "events by which archive and counters differed at the last audit",
        ("books", "audit_drift"),
    ),
    StateMetric(
        "recount_differences",
        "counters that differed from the events of their day at the last recount",
        ("recount", "differences"),
    ),
    StateMetric(
        "workers",
        "workers seen within the last 45 seconds, by kind: `events`, `flush`",
        ("workers", EACH),
        "kind",
    ),
    StateMetric(
        "beat_last_tick_timestamp_seconds",
        "when beat last asked what is due, every five seconds or more often (Unix time)",
        ("beat_ticked_s",),
    ),
    StateMetric(
        "task_last_done_timestamp_seconds",
        "when a run last ended well, by task (Unix time)",
        ("last_done_s", EACH),
        "task",
    ),
    _lane("requests_waiting", "waiting", "requests for a run that wait"),
    _lane("requests_waiting_seconds", "waiting_s", "how long the oldest of them has waited"),
    _lane("run_seconds", "running_s", "how long the run under way takes so far; 0: none"),
    _lane(
        "run_tried_seconds",
        "tried_s",
        "for how long runs have begun and none ended well, or stored anything; 0: the last one did",
    ),
    _lane("behind_seconds", "behind_s", "how long counters or raw events have waited"),
    _log("entries", "entries", "entries of the event log not archived yet"),
    _log("events", "events", "events in these entries"),
    _log("bytes", "bytes", "bytes of these entries, compressed"),
    _log("pending_entries", "pending", "entries that a consumer has and has not finished"),
    _log("lag_entries", "lag", "entries that no consumer has got yet"),
    _log("oldest_seconds", "oldest_s", "age of the oldest entry not archived"),
    _log("consumers", "consumers_number", "consumers of the event log: archive runs under way"),
    _log("consumer_idle_seconds", "idle_s", "how long the consumer idle for longest has been so"),
    StateMetric(
        "redis_durable",
        "1 while Redis says that it keeps what it acknowledges, else 0: also where it refuses "
        "`INFO` or `CONFIG GET`",
        ("redis_durable",),
    ),
    StateMetric(
        "redis_takes_events",
        "1 while Redis takes new events; 0 while it is full, a replica, or cannot write to disk",
        ("redis_takes_events",),
    ),
    StateMetric(
        "redis_went_back",
        "1 while Redis is older than what Postgres has stored, and flushes stand still, else 0",
        ("went_back",),
    ),
    _redis("memory_used_bytes", "memory that Redis uses, as it counts against its limit"),
    _redis("memory_limit_bytes", "`maxmemory` of Redis; 0: none"),
    _redis("aof_enabled", "1 while Redis has an append-only file, else 0"),
    _redis("aof_last_write_ok", "1 while the last write to it was well, else 0"),
    _redis("aof_bytes", "size of the append-only file"),
    StateMetric(
        "ledger_batches",
        "batches in the ledger of flushes, as Postgres estimates",
        ("ledger", "batches"),
    ),
    StateMetric(
        "ledger_newest_timestamp_seconds",
        "when the newest of them was stored (Unix time)",
        ("ledger", "newest_s"),
    ),
    StateMetric(
        "partitions_ahead_seconds",
        "for how long from now each table has partitions, without a gap",
        ("partitions_ahead_s", EACH),
        "table",
    ),
)


class StateCollector(Collector):
    """The metrics of a pipeline, asked for anew at every scrape."""

    def __init__(self, read: Callable[[], State]) -> None:
        """`read` returns the state."""
        self._read = read
        self._lock = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        """What a scrape is answered. What is not known is left out."""
        with self._lock:  # scrapes that come faster than they are answered ask one after the other
            state = self._read()
        yield from make_families(STATE_METRICS, state)


def make_registry(read: Callable[[], State]) -> CollectorRegistry:
    """A registry with these metrics only, for prometheus_client to serve."""
    # Not described beforehand: that would ask the servers before the first scrape.
    found = CollectorRegistry(auto_describe=False)
    found.register(StateCollector(read))
    return found


def make_families(metrics: Iterable[StateMetric], state: State) -> Iterator[Metric]:
    """The metrics that are known in this state."""
    for metric in metrics:
        samples = list(_find(state, metric.path))
        if samples:
            yield _make_family(metric, samples)


def _make_family(metric: StateMetric, samples: Iterable[tuple[str, float]]) -> Metric:
    family = CounterMetricFamily if metric.metric_type == "counter" else GaugeMetricFamily
    labels = [metric.label] if metric.label else []
    found = family(PREFIX + metric.name, metric.meaning, labels=labels)
    for label, value in samples:
        found.add_metric([label] if labels else [], value)
    return found


def _find(state: Any, path: tuple[str, ...], label: str = "") -> Iterator[tuple[str, float]]:
    """The values of a metric, each with that of its label."""
    if not path:
        if state is not None:
            yield label, float(state)
        return
    name, *rest = path
    if name == EACH:
        for each, inside in state.items():
            yield from _find(inside, tuple(rest), each)
    elif name in state:
        yield from _find(state[name], tuple(rest), label)
