"""Options and arguments that several commands share, and how their values are read."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from pipeline.days import MOST_DAYS, check_range, parse_day, today


def _check_format(context: typer.Context, value: bool) -> bool:
    """Refuse `--json` beside `--csv`: the second of them finds the first among the parameters."""
    others = [name for name in ("json", "csv") if context.params.get(f"as_{name}")]
    if value and others:
        raise typer.BadParameter(f"cannot be given with --{others[0]}: leave one of them out")
    return value


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on standard output, nothing else.",
        callback=_check_format,
    ),
]
"""Of a parameter named `as_json`, so that `Csv` finds it."""
Csv = Annotated[
    bool,
    typer.Option(
        "--csv",
        help="Print a table as CSV on standard output, nothing else.",
        callback=_check_format,
    ),
]
"""Of a parameter named `as_csv`, so that `Json` finds it."""
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


def read_day(option: str, text: str) -> date:
    """The day an option names. Raises BadParameter: one line with option, value and remedy."""
    try:
        return parse_day(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a day; write a date that exists as YYYY-MM-DD, such as 2026-01-31",
            param_hint=option,
        ) from None


def read_days(
    first: str | None, last: str | None, end: date | None = None, most: int = MOST_DAYS
) -> tuple[date, date] | None:
    """The days of `--from` and `--to`, None when neither is given; without `--to` until `end`, or
    today (UTC)."""
    if first is None:
        if last is not None:
            raise typer.BadParameter(
                f"{last!r} ends a range that has no beginning; add --from YYYY-MM-DD",
                param_hint="--to",
            )
        return None
    beginning = read_day("--from", first)
    end = (end or today()) if last is None else read_day("--to", last)
    try:
        check_range(beginning, end, most)
    except ValueError as error:
        raise typer.BadParameter(f"{first!r} {error}", param_hint="--from") from None
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
