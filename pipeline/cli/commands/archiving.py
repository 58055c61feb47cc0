"""Commands about what is stored: archive, audit, seal, rebuild, prune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.context import open_services
from pipeline.cli.errors import explain
from pipeline.cli.options import First, Json, Last, read_days
from pipeline.cli.output import print_json, print_table, say, warn
from pipeline.days import list_days, today
from pipeline.errors import NotCompared

if TYPE_CHECKING:
    from pipeline.upkeep.audits.counts import Difference
    from pipeline.upkeep.audits.packed_events import EventsDifference
    from pipeline.upkeep.audits.sums import SumDifference
    from pipeline.upkeep.audits.users import UsersDifference
    from pipeline.upkeep.rebuild import Rebuilt

_AUDITED_DAYS = 7
_SHOWN = 20
_DIFFERENCES_SHOWN = 200

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change; change nothing.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics archive")(archive)
    app.command(epilog="Example: analytics audit --from 2026-01-01 --to 2026-01-31")(audit)
    app.command(epilog="Example: analytics seal")(seal)
    app.command(epilog="Example: analytics rebuild --from 2026-01-30 --dry-run")(rebuild)
    app.command(epilog="Example: analytics prune --dry-run")(prune)


def archive(as_json: Json = False) -> None:
    """Move logged raw events into the table `events` now.

    Beat asks for it every minute. Repeats and parallel runs store every event once.
    """
    with open_services() as services:
        archived = services.archive_events()
    if as_json:
        print_json({"archived": archived})
    else:
        say(f"Archived {archived:,} events.")


def audit(first: First = None, last: Last = None, as_json: Json = False) -> None:
    """Compare the archive with the counters, by event type and hour, and sealed users with rows.

    Changes nothing. Without days, the last seven. Exit status 1 when something differs, 3
    when a server does not answer, 4 when nothing could be compared for another reason.
    """
    days = read_days(first, last) or (today() - timedelta(days=_AUDITED_DAYS - 1), today())
    with _explain_failure(), open_services() as services:
        found, users = services.audit(*days), services.audit_users(*days)
        packed, sums = services.audit_packed(*days), services.audit_sums(*days)
    if as_json:
        print_json(
            {
                "differences": [_to_object(one) for one in found],
                "sums": [_sum_to_object(one) for one in sums],
                "users": [_sealed_to_object(one) for one in users],
                "packed_events": [_sealed_to_object(one) for one in packed],
            }
        )
    elif found:
        rows = [
            (one.event_type, _format_time(one), one.counted, one.logged, one.gap, one.drift)
            for one in found[:_DIFFERENCES_SHOWN]
        ]
        columns = ["event type", "when (UTC)", "counted", "logged", "not logged", "drift"]
        print_table("Archive and counters differ", columns, rows)
        if len(found) > _DIFFERENCES_SHOWN:
            say(f"… and {len(found) - _DIFFERENCES_SHOWN:,} more; --json lists them.")
        say("`analytics rebuild` makes the counters of closed days anew from the archive.")
    else:
        say(f"Archive and counters agree from {days[0]} to {days[1]}.")
    if sums and not as_json:
        _show_sums(sums)
    for what, differing in (("users", users), ("events", packed)):
        if differing and not as_json:
            _show_sealed(f"Sealed {what} and rows differ", differing)
    if found or sums or users or packed:
        raise typer.Exit(1)


def _show_sums(found: list[SumDifference]) -> None:
    rows = [tuple(_sum_to_object(one).values()) for one in found[:_DIFFERENCES_SHOWN]]
    columns = ["event type", "property", "day (UTC)", "counted", "numbers", "sizes", "logged"]
    print_table("Sums and archive differ", [*columns, "numbers logged"], rows)
    if len(found) > _DIFFERENCES_SHOWN:
        say(f"… and {len(found) - _DIFFERENCES_SHOWN:,} more; --json lists them.")
    say("`analytics rebuild` makes the sums of closed days anew from the archive.")


def _sum_to_object(one: SumDifference) -> dict[str, Any]:
    return {
        "event_type": one.event_type,
        "property": one.property,
        "date": f"{one.day}",
        "counted": f"{one.counted.sum:f}",
        "numbers": one.counted.count,
        "sizes": one.sized,
        "logged": f"{one.logged.sum:f}",
        "numbers_logged": one.logged.count,
    }


def _show_sealed(title: str, found: Sequence[UsersDifference | EventsDifference]) -> None:
    rows = [
        (one.event_type or "any", f"{one.day}", one.sealed, one.stored)
        for one in found[:_DIFFERENCES_SHOWN]
    ]
    print_table(title, ["event type", "day (UTC)", "sealed", "rows"], rows)
    if len(found) > _DIFFERENCES_SHOWN:
        say(f"… and {len(found) - _DIFFERENCES_SHOWN:,} more; --json lists them.")
    days = sorted({one.day for one in found})
    say(f"`analytics seal --anew --from {days[0]} --to {days[-1]}` seals these days anew.")


def seal(
    first: First = None,
    last: Last = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Seal the days from --from to --to once more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Seal the users and events of closed days now, so that counting and funnels are fast.

    Maintenance does so every hour. Counts do not change by it. A day that gets late events is
    sealed anew. May be repeated.
    """
    days = read_days(first, last)
    if anew != (days is not None):
        raise typer.BadParameter(
            "needs --from, and --from needs it: which days are to be sealed once more?",
            param_hint="--anew",
        )
    with open_services() as services:
        now, again = datetime.now(UTC), list_days(*days) if days else ()
        sealed, packed = services.seal_users(now, again), services.seal_events(now, again)
    if as_json:
        days_of = {"sealed": sealed, "packed_events": packed}
        print_json({name: [f"{day}" for day in sorted(some)] for name, some in days_of.items()})
    else:
        say(f"Sealed {len(sealed):,} days.")


def rebuild(
    first: Annotated[
        str, typer.Option("--from", metavar="DATE", help="First day, UTC: YYYY-MM-DD.")
    ],
    last: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="DATE", help="Last day, UTC, included; yesterday when left out."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make the counters of closed days anew from the archive.

    Counting goes on meanwhile; flush and archive wait. A period with events that were not logged
    is refused.
    """
    yesterday = today() - timedelta(days=1)
    days = read_days(first, last or f"{max(yesterday, date.min)}")
    assert days is not None  # --from is required
    every = list_days(*days)
    with open_services() as services:
        found = services.rebuild(every, datetime.now(UTC), dry_run=dry_run)
    if as_json:
        print_json({"days": [_rebuilt_to_object(one) for one in found]})
        return
    for one in found:
        _show(one)
    changed = sum(len(one.changed) for one in found)
    say(f"{changed:,} counters {'would change' if dry_run else 'were put right'}.")


def prune(dry_run: DryRun = False, as_json: Json = False) -> None:
    """Drop raw events, user and property counters that are older than the settings say.

    Daily and hourly totals are kept. Whole partitions go, and old rows of the default ones.
    """
    with open_services() as services:
        found = services.prune(today(), dry_run=dry_run)
    if as_json:
        print_json(asdict(found))
        return
    dropped = [*found.dropped, *(f"{name} (its old rows)" for name in found.emptied)]
    print_table("Dropped" if not dry_run else "To be dropped", ["partition"], zip(dropped))
    for name in found.busy:
        warn(f"{name} is being read and stays for now; run `analytics prune` again")


@contextmanager
def _explain_failure() -> Iterator[None]:
    """Have what keeps an audit from being made end with another status than what it found."""
    try:
        yield
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        raise NotCompared(line) from error


def _format_time(one: Difference) -> str:
    return f"{one.day}" if one.hour is None else f"{one.day} {one.hour:02}:00"


def _to_object(one: Difference) -> dict[str, object]:
    return {
        "event_type": one.event_type,
        "day": one.day.isoformat(),
        "hour": one.hour,
        "counted": one.counted,
        "logged": one.logged,
        "not_logged": one.gap,
        "drift": one.drift,
    }


def _sealed_to_object(one: UsersDifference | EventsDifference) -> dict[str, object]:
    return {
        "event_type": one.event_type,
        "day": one.day.isoformat(),
        "sealed": one.sealed,
        "stored": one.stored,
    }


def _rebuilt_to_object(one: Rebuilt) -> dict[str, object]:
    return {
        "day": one.day.isoformat(),
        "changed": {name: list(counts) for name, counts in one.changed.items()},
        "left_alone": list(one.left_alone),
    }


def _show(one: Rebuilt) -> None:
    if one.left_alone:
        say(f"{one.day}: not all events are logged of {', '.join(one.left_alone)}: left alone.")
    if not one.changed:
        say(f"{one.day}: every counter is right.")
        return
    rows = [(name, *counts) for name, counts in list(one.changed.items())[:_SHOWN]]
    print_table(f"{one.day}", ["counter", "was", "is"], rows)
    if len(one.changed) > _SHOWN:
        say(f"… and {len(one.changed) - _SHOWN:,} more; --json lists them all.")
