"""Numbers, times and changes as people read them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

Number = int | float | Decimal
_UNITS = ((10**12, "T"), (10**9, "bn"), (10**6, "M"), (10**3, "k"))
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400
MINUS = "\u2212"
NOTHING = "\u2013"
"""Stands where there is no number."""
_DIRECTIONS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))


def format_number(number: Number | None) -> str:
    """`1,234`, or `1,234.5` with at most two decimals."""
    if number is None:
        return NOTHING
    text = f"{number:,.2f}".rstrip("0").rstrip(".") if number % 1 else f"{int(number):,}"
    return text.replace("-", MINUS) if text not in ("-0", "0") else "0"


def format_short(number: Number | None) -> str:
    """`1,234` up to 9,999, and `12.3k`, `4.57M` beyond: three digits and a unit."""
    if number is None:
        return NOTHING
    return format_number(number) if abs(float(number)) < 10_000 else _shorten(number)


def format_tick(number: Number) -> str:
    """A round number at an axis: `500`, `5k`, `1.5M`."""
    return format_number(number) if abs(float(number)) < 1_000 else _shorten(number)


def _shorten(number: Number) -> str:
    size = abs(float(number))
    for unit, sign in _UNITS:
        if size >= unit * (0.9995 if unit > 1_000 else 1):  # 999,950 is 1M
            shown = size / unit
            decimals = 2 if shown < 9.995 else 1 if shown < 99.95 else 0
            text = f"{shown:.{decimals}f}"
            text = text.rstrip("0").rstrip(".") if decimals else text
            return f"{MINUS if number < 0 else ''}{text}{sign}"
    return format_number(number)


def format_share(share: float | None) -> str:
    """`12.3%` of a share such as 0.123; `<0.1%` of one that is not 0."""
    if share is None:
        return NOTHING
    if 0 < share < 0.001:
        return "<0.1%"
    if share >= 10:
        return f"{share * 100:,.0f}%"
    return f"{share * 100:.1f}".rstrip("0").rstrip(".") + "%"


def format_duration(seconds: float | None) -> str:
    """`340 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`, `4 d 2 h`: two units at most."""
    if seconds is None:
        return NOTHING
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    units = ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min"), (_MINUTE, "min", 1, "s"))
    for size, name, smaller, smaller_name in units:
        if whole >= size:
            many, rest = divmod(whole, size)
            few = rest // smaller
            return f"{many} {name} {few} {smaller_name}" if few else f"{many} {name}"
    return f"{whole} s"


def format_time(at: datetime | None, tz: ZoneInfo, now: datetime) -> str:
    """`12:00:05` of today, else `14 Mar 12:00`, and with the year where it is another."""
    if at is None:
        return NOTHING
    local, today = at.astimezone(tz), now.astimezone(tz)
    if local.date() == today.date():
        return f"{local:%H:%M:%S}"
    return f"{local.day} {local:%b} {local:%H:%M}" + _name_year(local.date(), today.date())


def format_day(day: date, now: date | None = None) -> str:
    """`14 Mar 2026`; without the year where it is that of `now`."""
    return f"{day.day} {day:%b}" + (_name_year(day, now) if now else f" {day.year}")


def format_days(first: date, last: date) -> str:
    """`14 Mar 2026`, `1–14 Mar 2026`, `1 Feb – 14 Mar 2026`: both days included."""
    if first == last:
        return format_day(first)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}\u2013{format_day(last)}"
    begin = format_day(first, last) if first.year == last.year else format_day(first)
    return f"{begin} \u2013 {format_day(last)}"


def name_point(at: str, step: str, tz: ZoneInfo) -> str:
    """A point of a series for people: `14 Mar, 12:00`, `Sat 14 Mar`, `Week of 9 Mar`, `Mar 2026`;
    `at` is the name that the series gives it."""
    if step in ("hour", "quarter_hour"):
        local = datetime.fromisoformat(at).astimezone(tz)
        return f"{local.day} {local:%b}, {local:%H:%M}"
    day = date.fromisoformat(at)
    if step == "month":
        return f"{day:%b} {day.year}"
    text = f"{day.day} {day:%b} {day.year}"
    return f"Week of {text}" if step == "week" else f"{day:%a} {text}"


@dataclass(frozen=True)
class Change:
    """How a number compares with that of another period."""

    text: str
    """`12.3%`, `new`, `no change`."""
    direction: Literal["up", "down", "same"]
    words: str
    """A sentence: `up 12.3% from 1,000`."""

    @property
    def arrow(self) -> str:
        """For the eye alone; the words say the same."""
        return {"up": "\u2191", "down": "\u2193", "same": "="}[self.direction]


def compare(now: Number | None, before: Number | None) -> Change | None:
    """The change from a number to another; None where one of them is not known."""
    if now is None or before is None:
        return None
    now, before = Decimal(str(now)), Decimal(str(before))
    shown = format_number(before)
    if now == before:
        return Change("no change", "same", f"no change from {shown}")
    direction: Literal["up", "down"] = "up" if now > before else "down"
    if not before:
        return Change("new", direction, f"{direction} from 0")
    text = format_share(float(abs(now - before) / abs(before)))
    return Change(text, direction, f"{direction} {text} from {shown}")


def isolate(name: str) -> str:
    """A name within a sentence, so that text from right to left, or one that turns direction,
    leaves the words and numbers after it where they are."""
    return name if name.isascii() else f"\u2068{name.translate(_DIRECTIONS)}\u2069"


def describe_age(age: timedelta) -> str:
    """`now`, else `3 min ago`, `2 h ago`, `4 d ago`."""
    seconds = int(age.total_seconds())
    if seconds < 5:
        return "now"
    return f"{format_duration(seconds).split(' ')[0]} {format_duration(seconds).split(' ')[1]} ago"


def _name_year(day: date, now: date) -> str:
    return "" if day.year == now.year else f" {day.year}"
