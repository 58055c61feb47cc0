"""The alarms: the one list of them. A finding raises one, unless another explains it.

Prometheus' rules (`pipeline.watch.rules`), the metric `analytics_alarm`, `analytics watch` and the
pages in docs/guides/operating/alarms follow from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.upkeep.condition.findings import Finding, Gravity
from pipeline.upkeep.heartbeats import SEEN_WITHIN_S


@dataclass(frozen=True)
class Alarm:
    """An alarm: its name, how grave it is, what it says, and the `causes`: alarms that explain it,
    beside which it is not raised."""

    name: str
    gravity: Gravity
    what: str
    causes: frozenset[str] = frozenset()

    @property
    def page(self) -> str:
        """What it means, what to examine and what to do, in the project's tree."""
        return f"docs/guides/operating/alarms/{self.gravity}/{self.name}.md"


_SERVERS = frozenset({"redis_away", "broker_away", "redis_refuses"})
_STORING = _SERVERS | {"redis_went_back", "postgres_away", "postgres_unfit", "no_flush_worker"}
_UNSEEN = f"was seen for {SEEN_WITHIN_S} s"

METRICS_SILENT = Alarm("metrics_silent", "stopped", "no `analytics metrics` answers Prometheus")
"""Of Prometheus alone, which raises it where it has no metrics."""

ALARMS = (
    Alarm("books_off", "lost", "events are missing, or the books do not balance"),
    Alarm("audit_off", "lost", "the last audit or recount found that events and counters differ"),
    Alarm("redis_went_back", "lost", "Redis is older than what Postgres has stored"),
    Alarm("redis_away", "stopped", "Redis does not answer"),
    Alarm("broker_away", "stopped", "RabbitMQ does not answer"),
    Alarm("redis_refuses", "stopped", "Redis refuses new events"),
    Alarm("postgres_away", "stopped", "Postgres does not answer"),
    Alarm("postgres_unfit", "stopped", "the tables in Postgres are not those of this version"),
    Alarm("no_event_worker", "stopped", f"no event worker {_UNSEEN}", _SERVERS),
    Alarm("no_flush_worker", "stopped", f"no flush worker {_UNSEEN}", _SERVERS),
    Alarm("flush_late", "late", "a flush does not begin, fails, or stands still", _STORING),
    Alarm(
        "counters_waiting",
        "late",
        "the oldest counter waits to be stored for two minutes longer than it should",
        _STORING | {"flush_late"},
    ),
    Alarm("archive_late", "late", "the event log is archived too late", _STORING),
    Alarm("maintenance_late", "late", "maintenance does not begin, or does not end", _STORING),
    Alarm(
        "event_log_full",
        "late",
        "the event log has no room, or hardly any",
        _STORING | {"archive_late"},
    ),
    Alarm("queue_growing", "late", "the events queue grows", _SERVERS | {"no_event_worker"}),
    Alarm("redis_nearly_full", "late", "Redis uses nine tenths of its memory"),
    Alarm("redis_not_durable", "late", "Redis is not known to keep what it acknowledges"),
    Alarm("beat_silent", "late", f"no beat {_UNSEEN}", _SERVERS),
    Alarm("dead_letters", "late", "dead letters wait"),
    Alarm(
        "partitions_missing",
        "late",
        "Postgres has no partitions for the day after tomorrow",
        _STORING | {"maintenance_late"},
    ),
)
BY_NAME = {alarm.name: alarm for alarm in ALARMS}


def find_alarms(faults: Iterable[Finding]) -> dict[str, list[Finding]]:
    """The alarms that findings raise, by name, each with its findings; those that another explains
    are left out."""
    found: dict[str, list[Finding]] = {}
    for one in faults:
        if one.alarm:
            found.setdefault(one.alarm, []).append(one)
    return {
        name: findings
        for name, findings in found.items()
        if not BY_NAME[name].causes & found.keys()
    }
