"""Commands that send events: `track` and `import`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.context import configure_producer, read_user_id_secret
from pipeline.cli.errors import explain
from pipeline.cli.options import Json
from pipeline.cli.output import one_line, print_json, print_table, say, warn
from pipeline.days import today
from pipeline.errors import ImportStopped

if TYPE_CHECKING:
    from pipeline.cli.files.importing import Report
    from pipeline.cli.files.line_source import Line, LineSource

_REJECTED_LINES_SHOWN = 20
_LINES_PER_REFRESH = 500


class ImportFormat(StrEnum):
    """What the lines of a file are."""

    auto = "auto"
    combined = "combined"
    ndjson = "ndjson"
    caddy = "caddy"
    traefik = "traefik"
    nginx_json = "nginx-json"
    alb = "alb"
    cloudfront = "cloudfront"
    w3c = "w3c"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics track page_view --user u1 -p path=/pricing")(track)
    app.command(
        name="import",
        epilog="Example: analytics import access.log.gz --event page_view",
    )(import_)


def track(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="Event type, such as page_view.")],
    user: Annotated[str | None, typer.Option("--user", help="The user's id.")] = None,
    properties: Annotated[
        list[str] | None,
        typer.Option(
            "-p",
            "--property",
            metavar="KEY=VALUE",
            help="A property with a text as its value; may be repeated.",
        ),
    ] = None,
    timestamp: Annotated[
        str | None,
        typer.Option(help="When it happened: ISO 8601 with a zone, or Unix seconds; else now."),
    ] = None,
    event_id: Annotated[
        str | None,
        typer.Option(help="Your own key: a second event with it is a duplicate, not counted."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send one event."""
    from pipeline.event.pseudonyms import pseudonym
    from pipeline.event.rules import check_user_id
    from pipeline.producer.celery_tasks import track_event

    configure_producer()
    if user is not None and (secret := read_user_id_secret()):
        user = pseudonym(secret, check_user_id(user))
    read = dict(_parse_property(text) for text in properties or [])
    sent = track_event.delay(
        event,
        user_id=user,
        properties=read or None,
        timestamp=_parse_timestamp(timestamp),
        event_id=event_id,
    )
    if as_json:
        print_json({"task_id": str(sent.id)})
    else:
        say(f"Sent {one_line(event)}. Its count: analytics stats count {one_line(event)}")


def import_(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file, plain or gzipped; - for standard input.")
    ],
    lines: Annotated[
        ImportFormat,
        typer.Option(
            "--format",
            help="combined: a log of Apache or nginx, as text, also with a virtual host or what "
            "syslog puts before it. caddy, traefik, nginx-json: their logs as JSON. alb: of an AWS "
            "load balancer. w3c: of IIS. ndjson: one event object on each line. auto: whichever of "
            "these can read the first lines.",
        ),
    ] = ImportFormat.auto,
    event: Annotated[
        str, typer.Option("--event", metavar="NAME", help="The event type of log lines.")
    ] = "page_view",
    event_ids: Annotated[
        bool,
        typer.Option(
            "--event-ids",
            help="Give each event an id made of the file's content up to its line, so that "
            "importing the file again within the duplicate window counts nothing twice.",
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Exit with 1 when any line was rejected, not only when all were."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Send the events of a file.

    Lines that are no event are reported and left out; the others are sent, within a second of
    being read also from a pipe that stays open. Of a line of an access log the client's address
    becomes the user, and path (with its query), method, status, bytes, referrer, agent and host
    become properties. The exit status is 1 when lines were rejected and none was sent.
    """
    from pipeline.cli.files.formats.detection import FORMATS, detect_format
    from pipeline.cli.files.importing import Importer, LineIds, Report
    from pipeline.cli.files.line_source import open_lines
    from pipeline.cli.files.stopping import StopSignals
    from pipeline.event.pseudonyms import pseudonymise_fields
    from pipeline.producer.celery_tasks import track_events

    configure_producer()
    secret = read_user_id_secret()
    stop = StopSignals()
    with closing(Report()) as report, _explain_stop(report, event_ids), stop.postponed():
        with (
            open_lines(file, stop.while_waiting) as source,
            _show_progress(source, report) as watched,
        ):
            name, all_lines = lines.value, watched
            if lines is ImportFormat.auto:
                name, all_lines = detect_format(watched)
            parse = FORMATS[name](event)
            importer = Importer(
                lambda line: (found := parse(line)) and pseudonymise_fields(secret, found),
                track_events.delay,
                report,
                LineIds(f"{name} {event}") if event_ids else None,
            )
            source.on_idle(importer.flush)
            importer.run(all_lines)
        if as_json:
            _print_report(name, report)
        else:
            _show_report(f"{one_line(source.name)}, read as {name}", report)
        if report.rejected_count and (strict or not report.sent):
            raise typer.Exit(1)


@contextmanager
def _explain_stop(report: Report, event_ids: bool) -> Iterator[None]:
    """Say how far an import came that is stopped by a fault or by Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        warn(f"stopped; {_describe_progress(report, event_ids)}")
        raise
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        raise ImportStopped(f"{line}; {_describe_progress(report, event_ids)}") from error


def _parse_property(text: str) -> tuple[str, str]:
    """`path=/a=b` is the property path with the text "/a=b"."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE, such as path=/", param_hint="-p")
    return name, value


def _parse_timestamp(text: str | None) -> str | float | None:
    """Unix seconds are given as a number; the producer checks the rest."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _describe_progress(report: Report, event_ids: bool) -> str:
    if not report.sent:
        return "nothing was sent"
    again = (
        "import the file again: what was sent is not counted twice"
        if event_ids
        else "what was sent would be counted again, which --event-ids prevents"
    )
    return f"{report.lines} lines were read and {report.sent} events sent; {again}"


def _print_report(name: str, report: Report) -> None:
    """`{"format", "lines", "sent", "days", "rejected": […]}`, written bit by bit: it may be as long
    as the file."""
    days = [f"{day}" for day in report.days or ()]
    head = json.dumps({"format": name, "lines": report.lines, "sent": report.sent, "days": days})
    sys.stdout.write(f'{head.removesuffix("}")}, "rejected": [')
    for position, row in enumerate(report.read_rejected()):
        sys.stdout.write((", " if position else "") + json.dumps(row))
    sys.stdout.write("]}\n")


def _show_report(title: str, report: Report) -> None:
    rows = [(report.lines, report.sent, report.rejected_count)]
    print_table(title, ["lines", "events sent", "lines rejected"], rows)
    if report.days:
        first, last = report.days
        where = "" if last >= today() else ": choose these days on the dashboard and in `stats`"
        say(f"The events are of {first} to {last} (UTC){where}.")
    if not report.rejected_count:
        return
    shown = [
        (row["line"], row["reason"])
        for row, _ in zip(report.read_rejected(), range(_REJECTED_LINES_SHOWN), strict=False)
    ]
    print_table("Rejected", ["line", "reason"], shown)
    if report.rejected_count > len(shown):
        say(f"… and {report.rejected_count - len(shown):,} more; --json lists them all.")


@contextmanager
def _show_progress(source: LineSource, report: Report) -> Iterator[Iterator[Line]]:
    """The lines of `source`, with a bar on standard error when that is a terminal."""
    if not sys.stderr.isatty():
        yield iter(source)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[lines]:,} lines, {task.fields[rate]:,.0f} a second"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(one_line(source.name, 40), total=source.size_bytes, lines=0, rate=0.0)

        def watched() -> Iterator[Line]:
            for line in source:
                yield line
                if line.number % _LINES_PER_REFRESH == 0:
                    elapsed_s = bar.tasks[0].elapsed or 1.0
                    rate = line.number / elapsed_s
                    bar.update(task, completed=source.read_bytes, lines=line.number, rate=rate)

        yield watched()
