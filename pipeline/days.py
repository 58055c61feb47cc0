"""Days, ranges of days and months, all of them UTC, as everything is counted. Pure."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache

UTC = timezone.utc
"""`datetime.UTC`, which Python 3.10 does not have: an application there sends events."""

MOST_DAYS = 3_660
"""Ten years. A read asks Redis for every day of its range in one step, which holds up every other
command."""


def today() -> date:
    """Today in UTC."""
    return datetime.now(UTC).date()


def parse_day(text: str) -> date:
    """The day of a text `YYYY-MM-DD`. Raises ValueError for anything else."""
    day = date.fromisoformat(text)
    if day.isoformat() != text:  # Python also reads 20260131 and 2026-W05-6
        raise ValueError(f"{text!r} is not written as YYYY-MM-DD")
    return day


def check_range(first: date, last: date, most: int = MOST_DAYS) -> None:
    """Raise ValueError unless `last` follows `first` within `most` days, both included; the message
    goes on from the first day."""
    if first > last:
        raise ValueError(f"is after the last day, {last}; give the earlier day first")
    days = count_days(first, last)
    if days > most:
        raise ValueError(f"is {days} days before the end; ask for at most {most} days at a time")


def count_days(first: date, last: date) -> int:
    """How many days there are from `first` to `last`, both included."""
    return (last - first).days + 1


def list_days(first: date, last: date) -> list[date]:
    """The days from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def begin_day(day: date) -> datetime:
    """The moment at which a day begins."""
    return datetime.combine(day, time(), UTC)


def bound_days(first: date, last: date) -> tuple[datetime, datetime]:
    """The moments at which the first day begins and the last one has ended."""
    if last == date.max:
        return begin_day(first), datetime.max.replace(tzinfo=UTC)
    return begin_day(first), begin_day(last + timedelta(days=1))


def begin_month(day: date) -> date:
    """The first day of the month."""
    return day.replace(day=1)


def begin_next_month(day: date) -> date:
    """The first day of the month after."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def hour_text(at: datetime) -> str:
    """`YYYY-MM-DD:HH` of a UTC time."""
    return quarter_text(at)[:13]


def quarter_text(at: datetime) -> str:
    """`YYYY-MM-DD:HH:MM` of the quarter hour of a UTC time."""
    return _quarter_text(at.date(), at.hour, at.minute // 15)


# Made anew for each event, it would be a third of the time that adding up takes.
@lru_cache(maxsize=16_384)
def _quarter_text(day: date, hour: int, quarter: int) -> str:
    # strftime would not pad the years before 1000
    return f"{day.isoformat()}:{hour:02}:{15 * quarter:02}"
