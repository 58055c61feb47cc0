"""Commands that read raw events: `events` and `export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import open_services, read_user_id_secret
from pipeline.cli.options import Json
from pipeline.cli.output import one_line, print_json, print_table, say, warn
from pipeline.errors import InvalidCondition

if TYPE_CHECKING:
    from pipeline.event.model import Event
    from pipeline.event_log.queries import EventFilter, PropertyFilter
    from pipeline.services import Services

Type = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Of this event type.")]
User = Annotated[str | None, typer.Option("--user", metavar="USER", help="Of this user.")]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="WHEN", help="From this day (UTC) or ISO 8601 moment on."),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="WHEN", help="To this day, included, or before this moment."),
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="CONDITION", help="Of which this is true of the properties."),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Archive what waits first.")]


class ExportFormat(StrEnum):
    """What an export is written as."""

    ndjson = "ndjson"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics events --type page_view --user u1 --limit 20")(events)
    app.command(epilog="Example: analytics export may.ndjson.gz --from 2026-05-01 --to 2026-05-31")(
        export
    )


def events(  # noqa: PLR0913, PLR0917 - the options of the command
    event_type: Type = None,
    user: User = None,
    first: From = None,
    last: To = None,
    where: Where = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 100,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show events as they are counted, until Ctrl-C.")
    ] = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Show raw events from the archive, newest first; or as they come.

    The archive is as of its last run, within a minute usually. With --follow and --json, one event
    is one line.
    """
    from pipeline.event_log import queries

    wanted = read_wanted((event_type, user), first, last, where)
    with open_services() as services:
        if follow:
            _follow(services, wanted, as_json)
            return
        if fresh:
            services.archive_events()
        found = queries.read_newest(services.engine, wanted, limit)
        if not found:
            warn(_explain_nothing(services, wanted))
    if as_json:
        print_json({"events": [event.to_dict() for event in found]})
        return
    rows = [
        (
            event.timestamp.strftime("%Y-%m-%d %H:%M:%S"),
            event.event_type,
            event.user_id,
            one_line(_format_properties(event), 100),
        )
        for event in found
    ]
    print_table("Events", ["when (UTC)", "event type", "user", "properties"], rows)


def export(  # noqa: PLR0913, PLR0917 - the options of the command
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to; - for standard output (ndjson).")
    ],
    form: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="ndjson or parquet; else what the file's name ends in."),
    ] = None,
    gzip: Annotated[
        bool, typer.Option("--gzip", help="Compress ndjson, as for a name that ends in .gz.")
    ] = False,
    event_type: Type = None,
    user: User = None,
    first: From = None,
    last: To = None,
    where: Where = None,
    fresh: Fresh = False,
    as_json: Json = False,
) -> None:
    """Write raw events of the archive to a file, oldest first.

    `analytics import --format ndjson` reads ndjson back. Millions of events need little memory.
    The file appears under its name when it is whole.
    """
    from pipeline.cli.files.exporting import Destination, NdjsonWriter, load_parquet_writer
    from pipeline.event_log import queries

    wanted = read_wanted((event_type, user), first, last, where)
    parquet = form is ExportFormat.parquet or (form is None and file.endswith(".parquet"))
    if parquet and (file == "-" or gzip):
        raise typer.BadParameter(
            "parquet needs a file and compresses by itself; leave --gzip out", param_hint="FILE"
        )
    make = load_parquet_writer() if parquet else NdjsonWriter
    with open_services() as services:
        if fresh:
            services.archive_events()
        with (
            Destination(file, compressed=gzip or file.endswith(".gz")) as destination,
            make(destination.stream) as writer,
            _show_progress(lambda: queries.count_events(services.engine, wanted)) as advanced,
        ):
            exported = 0
            for some in queries.stream_events(services.engine, wanted):
                writer.write(some)
                exported += len(some)
                advanced(exported)
        if not exported:
            warn(_explain_nothing(services, wanted))
    if as_json and file != "-":
        print_json({"exported": exported})
    elif file != "-":
        say(f"Exported {exported:,} events to {one_line(file)}.")


def _explain_nothing(services: Services, wanted: EventFilter) -> str:
    """Why the archive has no such event, in a line."""
    log = services.options.counters.event_log
    kind = wanted.event_type
    if log.types == "none" or (kind and log.types != "all" and kind not in log.types):
        return "raw events of this type are not logged: see ANALYTICS_EVENT_LOG"
    if kind is not None and not services.absence.is_known(kind):
        return services.absence.explain_type(kind)
    return (
        "no such event is archived: the archive is as of its last run, which --fresh makes first; "
        "types and users are compared as they were sent"
    )


def read_wanted(
    names: tuple[str | None, str | None], first: str | None, last: str | None, where: str | None
) -> EventFilter:
    """Which events the options name: `names` are event type and user."""
    from pipeline.event.pseudonyms import list_forms
    from pipeline.event_log.queries import EventFilter

    begin, _ = _read_moments("--from", first) if first is not None else (None, None)
    _, end = _read_moments("--to", last) if last is not None else (None, None)
    if begin is not None and end is not None and begin >= end:
        raise typer.BadParameter(
            f"{first!r} is not before {last!r}; give the earlier one first", param_hint="--from"
        )
    event_type, user = names
    others = () if user is None else list_forms(read_user_id_secret(), user)[1:]
    condition = None if where is None else _read_condition(where)
    return EventFilter(event_type, user, begin, end, others, condition)


def _read_condition(where: str) -> PropertyFilter:
    from pipeline.reading.conditions.events import filter_properties

    try:
        return filter_properties(where)
    except InvalidCondition as error:
        raise typer.BadParameter(f"{error} (in {where!r:.200})", param_hint="--where") from error


def _read_moments(option: str, text: str) -> tuple[datetime, datetime]:
    """The beginning and the end of a day; twice the same for a moment."""
    try:
        if len(text) == len("2026-01-31"):
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            return day, day + timedelta(days=1)
        moment = datetime.fromisoformat(text)
        if moment.utcoffset() is None:
            raise ValueError("it has no time zone")
        return moment.astimezone(UTC), moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no day and no moment ({error}); write YYYY-MM-DD, or "
            "YYYY-MM-DDTHH:MM:SSZ",
            param_hint=option,
        ) from error


def _follow(services: Services, wanted: EventFilter, as_json: bool) -> None:
    from pipeline.counting.log_entries import as_events

    def warn_of_missed(entries: int) -> None:
        warn(
            f"{entries} batches were archived before they could be shown; without --follow they are"
        )

    warn("waiting for events; Ctrl-C stops")
    for entry in services.event_log.follow(warn_of_missed):
        if entry is None:
            continue
        try:
            found = [event for event in as_events(entry.unpack()) if wanted.matches(event)]
        except ValueError as error:
            warn(f"entry {entry.entry_id} cannot be read: {error}")
            continue
        for event in found:
            if as_json:
                print_json(event.to_dict())
            else:
                user = "" if event.user_id is None else one_line(event.user_id, 40)
                properties = one_line(_format_properties(event), 100)
                when = event.timestamp.strftime("%Y-%m-%d %H:%M:%S")
                say("  ".join([when, one_line(event.event_type, 40), user, properties]).rstrip())
        sys.stdout.flush()


def _format_properties(event: Event) -> str:
    return json.dumps(event.properties, ensure_ascii=False) if event.properties else ""


@contextmanager
def _show_progress(total: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """Shows how many events are done, on standard error when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns: Sequence[object] = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:  # type: ignore[arg-type]
        task = bar.add_task("", total=total())
        yield lambda done: bar.update(task, completed=done)
