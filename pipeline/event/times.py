"""Times in the forms in which programs write them. Pure.

| form | for example |
| --- | --- |
| ISO 8601, with a space, a comma, any fraction, any zone | `2016-07-18 10:20:30,5 -0700` |
| Go's and Java's, with a zone's name behind its offset | `2009-11-10 23:00:00 +0000 UTC` |
| mail, HTTP, C, Ruby, JavaScript: with the name of the month | `Tue, 10 Nov 2009 23:00:00 GMT` |
| Unix time, a number or text, in seconds, ms, µs or ns by its size | `1700000000000` |
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

from pipeline.days import UTC
from pipeline.event.iso_times import read_iso

_UNITS = ((1e17, 10**9), (1e14, 10**6), (1e11, 10**3))
"""Numbers from these on count that part of a second: as seconds they would be past the year
5000."""
_LONGEST = 100
_NUMBER = re.compile(r"[+-]?\d{1,20}(?:\.\d{1,20})?(?:[eE]\+?\d{1,2})?")
_NET = re.compile(r"/Date\((-?\d{1,17})(?:[+-]\d{4})?\)/")
_ZONE = r"(?P<zone>[zZ]|UTC|GMT|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)"
_ISO = re.compile(
    r"(?P<year>\d{4})[-/](?P<month>\d\d?)[-/](?P<day>\d\d?)(?:\s*[tT]\s*|[\s_]+)"
    r"(?P<hour>\d\d?):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,20}))?)?"
    rf"\s*{_ZONE}?"
    # What follows the offset repeats it: a zone's name, Go's monotonic clock.
    r"(?:\s*\[[\w/+-]+\]|\s+(?:(?P<name>[A-Z]{1,5})|[+-]\d\d(?:\d\d)?))?(?:\s+m=[+-][\d.]+)?"
)
_CLOCK = re.compile(r"(\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d{1,20}))?)?")
_OFFSET = re.compile(r"(?:GMT|UTC|UT)?([+-])(\d\d?)(?::?(\d\d))?(?::?(\d\d))?")
_NAMED_DAY = re.compile(r"(\d\d?)-([A-Za-z]{3,9})-(\d{2,4})")
_WEEKDAYS = frozenset({"mon", "tue", "wed", "thu", "fri", "sat", "sun"})
_MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8}
_MONTHS |= {"sep": 9, "oct": 10, "nov": 11, "dec": 12}
# Those of RFC 2822: other names, such as IST, are those of several zones.
_ZONES = {"z": 0, "utc": 0, "gmt": 0, "ut": 0, "est": -5, "edt": -4, "cst": -6, "cdt": -5}
_ZONES |= {"mst": -7, "mdt": -6, "pst": -8, "pdt": -7}


def read_time(text: str) -> datetime | None:
    """The time that a text names, without a zone where it names none; None for what is no time."""
    try:
        at = read_iso(text)
    except ValueError:
        return _read_unusual(text)
    # Without a zone it may be a number, which ISO 8601 without hyphens looks like.
    return at if at.tzinfo is not None or not _is_number(text) else _read_unusual(text)


def read_unix_time(number: float) -> datetime:
    """The time of so many seconds since 1970, or of milliseconds and less by the number's size.

    Raises ValueError, OverflowError or OSError for what is no time.
    """
    for least, parts in _UNITS:
        if abs(number) >= least:
            if isinstance(number, int):
                seconds, rest = divmod(number, parts)
                at = datetime.fromtimestamp(seconds, UTC)
                return at.replace(microsecond=rest * 10**6 // parts)
            number /= parts
            break
    return datetime.fromtimestamp(number, UTC)


def _is_number(text: str) -> bool:
    """Whether it is a number, and no date of eight digits."""
    return len(text) > 8 and _NUMBER.fullmatch(text) is not None


def _read_unusual(text: str) -> datetime | None:
    text = text.strip()
    if not 0 < len(text) <= _LONGEST:
        return None
    try:
        if _NUMBER.fullmatch(text):
            return read_unix_time(int(text) if text.lstrip("+-").isdecimal() else float(text))
        if found := _NET.fullmatch(text):
            return datetime.fromtimestamp(int(found[1]) / 1000, UTC)
        if found := _ISO.fullmatch(text):
            zone = found["zone"] or found["name"]
            return _build(
                (int(found["year"]), int(found["month"]), int(found["day"])),
                (found["hour"], found["minute"], found["second"], found["fraction"]),
                None if zone is None else _read_zone(zone),
            )
        return _read_words(text)
    except (ValueError, OverflowError, OSError):
        return None


def _read_words(text: str) -> datetime | None:
    """A time with the name of its month. A word that is not understood makes it none: it may be the
    name of a zone."""
    text = _NAMED_DAY.sub(r"\1 \2 \3", re.sub(r"\([^()]*\)", " ", text))
    numbers: list[str] = []
    month, clock, zone, afternoon = 0, None, None, None
    for word in text.replace(",", " ").split():
        short = word.lower().removesuffix(".")
        if word.isdecimal() and len(word) in (1, 2, 4):
            numbers.append(word)
        elif found := _CLOCK.fullmatch(word):
            clock = found.groups()
        elif short in ("am", "pm"):
            afternoon = short == "pm"
        elif short in _ZONES or _OFFSET.fullmatch(word):
            zone = _read_zone(word)
        elif short.isalpha() and short[:3] in _MONTHS and not month:
            month = _MONTHS[short[:3]]
        elif not (short.isalpha() and short[:3] in _WEEKDAYS):
            return None
    if not month or clock is None or len(numbers) != 2:
        return None
    if afternoon is not None:
        clock = (str(int(clock[0]) % 12 + 12 * afternoon), *clock[1:])
    day, year = sorted(map(int, numbers)) if len(numbers[0]) == 4 else map(int, numbers)
    if len(numbers[-1]) < 4 and year < 100:
        year += 1900 if year >= 70 else 2000
    return _build((year, month, day), clock, zone)


def _build(
    day: tuple[int, int, int], clock: tuple[str | None, ...], zone: timezone | None
) -> datetime:
    hour, minute, second, fraction = clock
    return datetime(
        *day,
        int(hour or 0),
        int(minute or 0),
        min(int(second or 0), 59),  # a leap second
        int(f"{fraction or ''}000000"[:6]),
        tzinfo=zone,
    )


def _read_zone(word: str) -> timezone:
    if (hours := _ZONES.get(word.lower())) is not None:
        return timezone(timedelta(hours=hours)) if hours else UTC
    found = _OFFSET.fullmatch(word)
    if found is None:
        raise ValueError(f"{word} may be several zones")
    sign, hour, minute, second = found.groups()
    offset = timedelta(hours=int(hour), minutes=int(minute or 0), seconds=int(second or 0))
    return timezone(-offset if sign == "-" else offset) if offset else UTC
