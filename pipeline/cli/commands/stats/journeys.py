"""`analytics stats funnel` and `breakdown`: questions about the archive, as of its last run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.commands.stats.group import commands
from pipeline.cli.context import open_services
from pipeline.cli.options import Csv, EventType, First, Json, Last, read_days
from pipeline.cli.output import print_csv, print_json, print_table, say, warn
from pipeline.days import today
from pipeline.errors import InvalidQuestion

if TYPE_CHECKING:
    from pipeline.reading.reports.questions import Question
    from pipeline.services import Services

_DEFAULT_DAYS = 30
_PERIODS_SHOWN = 12
_TITLES = {"of_first": "of first", "median_s": "median time"}
Fresh = Annotated[bool, typer.Option("--fresh", help="Archive first what waits.")]


@commands.command(
    epilog="Example: analytics stats funnel page_view 'signup[plan=\"pro\"]' purchase --window 7d"
)
def funnel(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    steps: Annotated[
        list[str],
        typer.Argument(metavar="STEP", help="TYPE or TYPE[conditions]; 2 to 8 of them."),
    ],
    first: First = None,
    last: Last = None,
    window: Annotated[
        str, typer.Option(metavar="TIME", help="From first to last step: s, m, h or d, up to 90d.")
    ] = "7d",
    any_order: Annotated[
        bool, typer.Option("--any-order", help="The order of the steps does not matter.")
    ] = False,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="PROPERTY", help="Apart by a property of the first step."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many values with --by.")] = 10,
    fresh: Fresh = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count the users who did one thing after another within a time, by step, and how long it took.

    The first step's event is of the range, the last 30 days when none is given; the others may come
    later, within the window.
    """
    from pipeline.reading.journeys.funnels import FunnelQuestion

    days = _read_days(first, last)
    with refusing(), open_services() as services:
        question = FunnelQuestion(tuple(steps), *days, window, any_order, by, limit)
        found = _ask(services, question, fresh=fresh)
        note = ""
        if not found["steps"][0]["users"]:
            note = _explain(services, found["steps"][0]["event_type"], "event of a user")
    _show(question, found, f"funnel, {days[0]} to {days[1]}", as_json=as_json, as_csv=as_csv)
    if note:
        warn(note)


@commands.command(epilog="Example: analytics stats breakdown sale coupon --where 'total >= 10'")
def breakdown(  # noqa: PLR0913, PLR0917 - the arguments and options of the command
    event_type: EventType,
    name: Annotated[
        str | None, typer.Argument(metavar="[PROPERTY]", help="Any property of the events.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITIONS", help="Of events that meet these only.")
    ] = None,
    first: First = None,
    last: Last = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many to show.")] = 10,
    fresh: Fresh = False,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Count archived events by the value of any property, on any conditions.

    Without a property: how many events, and of how many users. The last 30 days when none are
    given.
    """
    from pipeline.reading.journeys.breakdown import BreakdownQuestion

    days = _read_days(first, last)
    with refusing(), open_services() as services:
        question = BreakdownQuestion(event_type, *days, name, where, limit)
        found = _ask(services, question, fresh=fresh)
        note = "" if found["count"] else _explain(services, event_type, "event")
    title = f"{event_type}{f' by {name}' if name else ''}, {days[0]} to {days[1]}"
    _show(question, found, title, as_json=as_json, as_csv=as_csv)
    if note:
        warn(note)


@dataclass(frozen=True)
class RetentionOfSteps:
    """What `analytics stats retention` asks where a step has conditions."""

    steps: tuple[str, str]
    by: str
    days: tuple[date, date]

    def show(self, *, fresh: bool, as_json: bool, as_csv: bool) -> None:
        """Answer it."""
        from pipeline.reading.journeys.retention import RetentionQuestion
        from pipeline.reading.journeys.steps import read_step

        with refusing(), open_services() as services:
            question = RetentionQuestion(*self.steps, self.by, *self.days)
            found = _ask(services, question, fresh=fresh)
            note = ""
            if not any(one["users"] for one in found["cohorts"]):
                event_type = read_step("start", self.steps[0]).event_type
                note = _explain(services, event_type, "event of a user")
        if as_json or as_csv:
            _show(question, found, "", as_json=as_json, as_csv=as_csv)
        else:
            self._print_cohorts(found)
        if note:
            warn(note)

    def _print_cohorts(self, found: dict[str, Any]) -> None:
        shown = min(len(found["cohorts"]), _PERIODS_SHOWN)
        rows = []
        for one in found["cohorts"]:
            returned = one["returned"][:shown]
            rows.append((one["start"], one["users"], *returned, *[""] * (shown - len(returned))))
        title = f"{self.steps[0]}, then {self.steps[1]} so many {self.by}s later"
        print_table(title, [self.by, "users", *map(str, range(shown))], rows)
        if len(found["cohorts"]) > shown:
            say(f"The first {shown} periods are shown; --json and --csv have all.")
        _say_as_of(found)


def _read_days(first: str | None, last: str | None) -> tuple[date, date]:
    return read_days(first, last) or (today() - timedelta(days=_DEFAULT_DAYS - 1), today())


@contextmanager
def refusing() -> Iterator[None]:
    """Name the parameter that has no answer, as for all other options."""
    try:
        yield
    except InvalidQuestion as error:
        raise typer.BadParameter(error.reason, param_hint=error.field) from error


def _ask(services: Services, question: Question, *, fresh: bool) -> dict[str, Any]:
    """The answer; how far it is goes to a terminal's standard error."""
    with _showing_progress() as show:
        return services.answer(question, show, fresh=fresh)


@contextmanager
def _showing_progress() -> Iterator[Callable[[float], None]]:
    shown = sys.stderr.isatty()

    def show(done: float) -> None:
        if shown:
            sys.stderr.write(f"\r{done:4.0%} ")
            sys.stderr.flush()

    try:
        yield show
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _explain(services: Services, event_type: str, what: str) -> str:
    if not services.absence.is_known(event_type):
        return services.absence.explain_type(event_type)
    return (
        f"the archive has no {what} of the type {event_type} in these days that meets the "
        "conditions; --fresh archives first what waits, and ANALYTICS_EVENT_LOG says which types "
        "are archived"
    )


def _show(
    question: Question, found: dict[str, Any], title: str, *, as_json: bool, as_csv: bool
) -> None:
    from pipeline.reading.reports.questions import tabulate

    if as_json:
        print_json(found)
        return
    columns, rows = tabulate(question, found)
    if as_csv:
        print_csv(columns, rows)
        return
    shown = [[_show_cell(*cell) for cell in zip(columns, row, strict=True)] for row in rows]
    print_table(title, [_TITLES.get(column, column) for column in columns], shown)
    if "breakdown" in found:
        say(f"Of {found['count']:,} events.")
    for name in ("others", "without"):
        if found.get(name):
            kind = "other values" if name == "others" else "no value"
            say(f"… and {found[name]:,} events of {kind}.")
    _say_as_of(found)


def _show_cell(column: str, value: Any) -> Any:
    """Shares as percent, seconds as hours, minutes and seconds."""
    if value is None:
        return ""
    if column in ("conversion", "of_first"):
        return f"{value:.2%}"
    return f"{timedelta(seconds=round(value))}" if column == "median_s" else value


def _say_as_of(found: dict[str, Any]) -> None:
    if "counted_from" in found:
        say(f"Days before {found['counted_from']} were pruned, and are not part of this.")
    if found["as_of"] is None:
        say("Nothing was archived yet, or long ago: add --fresh, or wait for the next run.")
    else:
        at = datetime.fromisoformat(found["as_of"])
        say(f"As of the last archive run, {at:%Y-%m-%d %H:%M:%S %Z}; --fresh archives first.")
