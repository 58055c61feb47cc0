"""Options and arguments that several commands share, and how their values are read."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated

import typer

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
]
EventType = Annotated[str, typer.Argument(metavar="TYPE", help="Event type, such as page_view.")]
Day = Annotated[
    str | None, typer.Option("--date", metavar="DATE", help="One day, UTC: YYYY-MM-DD.")
]
First = Annotated[
    str | None, typer.Option("--from", metavar="DATE", help="First day, UTC: YYYY-MM-DD.")
]
Last = Annotated[
    str | None,
    typer.Option("--to", metavar="DATE", help="Last day, UTC, counted too; today when left out."),
]

# Ten years. A read asks Redis for every day of its range in one step, which holds up everybody.
MOST_DAYS = 3_660


def today() -> date:
    """Today in UTC, as everything here is counted."""
    return datetime.now(UTC).date()


def read_day(option: str, text: str) -> date:
    """The day an option names. Raises BadParameter: one line with option, value and remedy."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # Python also reads 20260131 and 2026-W05-6.
    if day is None or day.isoformat() != text:
        raise typer.BadParameter(
            f"{text!r} is not a day; write a date that exists as YYYY-MM-DD, such as 2026-01-31",
            param_hint=option,
        )
    return day


def read_days(first: str | None, last: str | None) -> tuple[date, date] | None:
    """The days of `--from` and `--to`, None when neither is given; until today without `--to`."""
    if first is None:
        if last is not None:
            raise typer.BadParameter(
                f"{last!r} ends a range that has no beginning; add --from YYYY-MM-DD",
                param_hint="--to",
            )
        return None
    beginning = read_day("--from", first)
    end = today() if last is None else read_day("--to", last)
    if beginning > end:
        raise typer.BadParameter(
            f"{first!r} is after the last day, {end.isoformat()}; give the earlier day first",
            param_hint="--from",
        )
    if (end - beginning).days >= MOST_DAYS:
        raise typer.BadParameter(
            f"{first!r} is {(end - beginning).days + 1} days before the end; ask for at most "
            f"{MOST_DAYS} days at a time",
            param_hint="--from",
        )
    return beginning, end


def read_day_or_days(day: str | None, first: str | None, last: str | None) -> tuple[date, date]:
    """One day or a range; today when nothing is given."""
    if day is None:
        return read_days(first, last) or (today(), today())
    if first is not None or last is not None:
        raise typer.BadParameter(
            f"{day!r} cannot be given together with --from or --to; leave one of them out",
            param_hint="--date",
        )
    only = read_day("--date", day)
    return only, only
