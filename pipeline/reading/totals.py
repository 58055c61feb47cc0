"""The books: what came in, what became of it, and whether the two agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pipeline.contract import TAG_PREFIX
from pipeline.counting.batch import OUTCOMES

_FIELDS = ("published", "consumed", *OUTCOMES)


def books(
    totals: Mapping[bytes, bytes], waiting: int, unacked: Collection[bytes]
) -> dict[str, Any]:
    """The running totals of events, in all and by event type, JSON-ready.

    `totals` is the hash as Redis holds it, `waiting` the number of messages in the events queue and
    `unacked` the delivery tags of those being worked on, all of one instant. `balanced` says that
    consumed = counted + duplicate + dead + forgotten, in all and of every type (what names none is
    `__unknown__`), and that no message of our producers is missing:
    `missing_messages` = published - consumed - waiting - unacknowledged. That number is below zero
    while messages of other producers wait in the queue.
    """
    numbers = {name.decode(): int(value) for name, value in totals.items()}
    found: dict[str, Any] = {field: numbers.get(field, 0) for field in _FIELDS}
    by_type: dict[str, dict[str, int]] = {}
    for name, value in sorted(numbers.items()):
        field, _, event_type = name.partition(":")
        if event_type:
            by_type.setdefault(event_type, {})[field] = value
    ours = sum(tag.startswith(TAG_PREFIX.encode()) for tag in unacked)
    missing = (
        numbers.get("published_messages", 0) - numbers.get("consumed_messages", 0) - waiting - ours
    )
    return found | {
        "by_type": by_type,
        "claims": numbers.get("claims", 0),
        "expired_counters": numbers.get("expired_counters", 0),
        "repaired_counters": numbers.get("repaired_counters", 0),
        "unlogged": numbers.get("unlogged", 0),
        "audit_drift": numbers.get("audit_drift", 0),
        "missing_messages": missing,
        "balanced": all(map(_agree, (found, *by_type.values()))) and missing <= 0,
    }


def _agree(row: Mapping[str, int]) -> bool:
    outcomes = (row.get(outcome, 0) for outcome in OUTCOMES)
    return row.get("consumed", 0) == sum(outcomes)
