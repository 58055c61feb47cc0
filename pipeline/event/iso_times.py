"""ISO 8601 as `datetime.fromisoformat` reads it since Python 3.11; that of 3.10 reads only what
`isoformat` writes. Pure."""

from __future__ import annotations

import re
import sys
from datetime import date, datetime, time, timedelta, timezone

from pipeline.days import UTC

# Hyphens in the day and colons in the clock stand everywhere or nowhere.
_DAY = (
    r"(?P<year>\d{4})(?:(?P<hyphen>-?)(?P<month>\d\d)(?P=hyphen)(?P<day>\d\d)"
    r"|(?P<dash>-?)W(?P<week>\d\d)(?:(?P=dash)(?P<weekday>[1-7]))?)"
)
_CLOCK = (
    r"(?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)"
    r"(?:(?P=colon)(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?"
)
_ZONE = (
    r"(?P<zone>Z|(?P<sign>[+-])(?P<zone_hour>\d\d)(?:(?P<zone_colon>:?)(?P<zone_minute>\d\d)"
    r"(?:(?P=zone_colon)(?P<zone_second>\d\d))?)?)"
)
_ISO = re.compile(f"{_DAY}(?:.{_CLOCK}{_ZONE}?)?", re.DOTALL | re.ASCII)


def read_iso_by_pattern(text: str) -> datetime:
    """The time of a text in ISO 8601. Raises ValueError."""
    found = _ISO.fullmatch(text)
    if found is None:
        raise ValueError(f"Invalid isoformat string: {text!r}")
    if found["week"] is None:
        day = date(int(found["year"]), int(found["month"]), int(found["day"]))
    else:
        weekday = int(found["weekday"] or 1)
        day = date.fromisocalendar(int(found["year"]), int(found["week"]), weekday)
    hour, minute, second = (int(found[part] or 0) for part in ("hour", "minute", "second"))
    microsecond = int(f"{found['fraction'] or ''}000000"[:6])
    return datetime.combine(day, time(hour, minute, second, microsecond), _read_zone(found))


read_iso = datetime.fromisoformat if sys.version_info >= (3, 11) else read_iso_by_pattern


def _read_zone(found: re.Match[str]) -> timezone | None:
    if found["zone"] in (None, "Z"):
        return UTC if found["zone"] else None
    parts = (int(found[f"zone_{part}"] or 0) for part in ("hour", "minute", "second"))
    hours, minutes, seconds = parts
    offset = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-offset if found["sign"] == "-" else offset) if offset else UTC
