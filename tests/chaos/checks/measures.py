"""The measures beside counts, as Postgres and readers have them: quarter hours and
amounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime

from sqlalchemy import text

from pipeline.reading.stats import Stats
from pipeline.reading.sums import PropertySum
from pipeline.services import Services
from tests.chaos.checks.account import PROPERTY, Key
from tests.chaos.checks.amounts import AMOUNT, DECIMALS

_PARTS = {"count": "numbers", "not_numbers": "no numbers"}
_MINUTES = "%Y-%m-%dT%H:%M"


def stored_measures(services: Services, when: Callable[[str, str], str]) -> Counter[Key]:
    """What Postgres has of quarter hours and amounts; `when` names the time of an event type."""
    counts: Counter[Key] = Counter()
    with services.engine.connect() as connection:
        for name, at, n in connection.execute(
            text("SELECT event_type, quarter, count FROM analytics_quarter_hourly")
        ):
            counts["quarter", name, when(name, _show(at))] += n
        for name, at, part, n in connection.execute(
            text("SELECT event_type, quarter, part, count FROM analytics_sums")
        ):
            counts[_PARTS.get(part, "sum"), name, when(name, _show(at))] += n * _unit(part)
        for name, value, day, part, n in connection.execute(
            text(
                "SELECT event_type, value, date, part, count FROM analytics_value_sums "
                "WHERE part LIKE 'e%'"
            )
        ):
            counts["value sum", name, value, when(name, f"{day}")] += n * _unit(part)
        for name, day, number, n in connection.execute(
            text("SELECT event_type, date, bin, count FROM analytics_distributions")
        ):
            counts["bin", name, when(name, f"{day}"), f"{number}"] += n
    return counts


def _unit(part: str) -> int:
    """How many hundredths a part of a sum is in; 1 for what is no part of it."""
    return 1 if part in _PARTS else 10 ** (int(part[1:]) + DECIMALS)


def read_measures(stats: Stats, event_type: str, day: date) -> dict[Key, int]:
    """Quarter hours and amounts of a type on a day, as readers get them at any moment."""
    return {key: n for read in READS for key, n in read(stats, event_type, day).items()}


def read_quarters(stats: Stats, event_type: str, day: date) -> dict[Key, int]:
    """Its quarter hours; none of its hours may be known as a whole only."""
    found = stats.quarter_counts(event_type, day, day)
    counts: dict[Key, int] = {
        ("quarter", event_type, f"{at:%Y-%m-%dT%H} unsplit"): n for at, n in found.unsplit.items()
    }
    return counts | {("quarter", event_type, _show(at)): n for at, n in found.quarters.items()}


def read_sums(stats: Stats, event_type: str, day: date) -> dict[Key, int]:
    """The sums of its amounts, and how many were numbers."""
    counts: dict[Key, int] = {}
    for at, one in stats.sums.read_quarter_sums(event_type, AMOUNT, day, day).items():
        counts["sum", event_type, _show(at)] = in_hundredths(one)
        counts["numbers", event_type, _show(at)] = one.count
        counts["no numbers", event_type, _show(at)] = one.not_numbers
    return counts


def read_bins(stats: Stats, event_type: str, day: date) -> dict[Key, int]:
    """How many of its amounts were of each size."""
    bins = stats.sums.read_distribution(event_type, AMOUNT, day, day).bins
    return {("bin", event_type, f"{day}", f"{number}"): n for number, n in bins.items()}


def read_users(stats: Stats, event_type: str, day: date) -> dict[Key, int]:
    """Its distinct users, as of the last flush."""
    return {("users", event_type, f"{day}"): stats.users([event_type], day, day).users}


READS = (read_quarters, read_sums, read_bins)


def read_value_sums(stats: Stats, event_type: str, day: date) -> dict[Key, int]:
    """The sums of each publish."""
    found = stats.sums.read_value_sums((event_type, AMOUNT, PROPERTY), day, day)
    return {
        ("value sum", event_type, value, f"{day}"): in_hundredths(one)
        for value, one in found.items()
    }


def in_hundredths(one: PropertySum) -> int:
    """The sum as the account has it."""
    hundredths = one.sum.scaleb(DECIMALS)
    assert hundredths == int(hundredths)
    return int(hundredths)


def _show(at: datetime) -> str:
    return f"{at.astimezone(UTC):{_MINUTES}}"
