"""How counters, the event log and their upkeep are kept: the options of every part, in one place.

`config.options` makes them of the settings of the same names, which have their meaning and bounds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

MAX_LOG_PARTITIONS = 16
"""Streams of the event log, at most."""

CountBy = Mapping[str, Sequence[str]]
"""Event type -> the properties whose values are counted; joined by `+`, those counted together."""
Sums = Mapping[str, Mapping[str, int]]
"""Event type -> the properties whose numbers are summed -> how many decimals of them are kept."""
NO_SUMS: Sums = {}
MOST_DECIMALS = 9
TOGETHER = "+"
"""Between the names of properties whose values are counted together."""
DEFAULT_SUMS: Sums = {"time_on_page": {"seconds": 3}}


def split_name(name: str) -> list[str]:
    """The properties that are counted together under this name; usually one."""
    return name.split(TOGETHER)


@dataclass(frozen=True)
class EventLogOptions:
    """What is logged: see the settings of the same names with `event_log` before them.

    The bounds hold for each partition.
    """

    types: str | Collection[str] = "all"
    """`all`, `none`, or a collection of event types."""
    partitions: int = 1
    max_entries: int = 1_000_000
    max_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True)
class CounterOptions:
    """How counters are kept: see the settings of the same names."""

    count_by: CountBy = field(default_factory=dict)
    sums: Sums = field(default_factory=dict)
    values_cap: int = 10_000
    event_types_cap: int = 1_000
    dedup_window_s: int = 86_400
    counter_ttl_s: int = 0
    event_log: EventLogOptions = field(default_factory=EventLogOptions)
    user_id_secret: str = field(default="", repr=False)
    """HMAC secret for pseudonymising user ids; empty: they are stored as they come."""

    @cached_property
    def kept_properties(self) -> Mapping[str, Sequence[str]]:
        """Event type -> the properties that counters are made of: what is kept of an event whose
        user is erased."""
        kept: dict[str, dict[str, None]] = {
            name: dict.fromkeys(self.sums[name]) for name in self.sums
        }
        for event_type, names in self.count_by.items():
            of_type = kept.setdefault(event_type, {})
            of_type.update(dict.fromkeys(part for name in names for part in split_name(name)))
        return {event_type: list(names) for event_type, names in kept.items()}


@dataclass(frozen=True)
class PipelineOptions:
    """How one pipeline is kept: what workers, flushes, upkeep and reads work with."""

    prefix: str
    counters: CounterOptions
    flush_batch_size: int
    ledger_days: int
    partitions_ahead_months: int
    events_retention_days: int
    counters_retention_days: int
    flush_interval_s: float = 300.0
    appendfsync: str = "always"
    """What Redis must do with its append-only file."""
    postgres_schema: str | None = None
    """Schema of the tables; None: where `search_path` leads."""
