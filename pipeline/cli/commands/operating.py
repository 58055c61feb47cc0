"""Commands for operators: flush, status, settings, migrate and so on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any

import typer

from pipeline.cli.context import (
    find_postgres_url,
    find_redis_url,
    load_celery_app,
    load_settings,
    open_services,
    ping_nodes,
)
from pipeline.cli.options import Json
from pipeline.cli.output import print_json, print_table, say, warn
from pipeline.errors import InvalidConfiguration, NodeSilent, ServerUnavailable
from pipeline.redis.client import redis_client
from pipeline.redis.keys import Keys
from pipeline.server_errors import FAILED_STATUS, SERVER_AWAY_STATUS, report_errors
from pipeline.upkeep.condition.alarms import find_alarms
from pipeline.upkeep.condition.facts import read_facts, read_newest_claim
from pipeline.upkeep.condition.findings import Finding, find_faults, find_risks, summarise
from pipeline.upkeep.heartbeats import SEEN_WITHIN_S, list_nodes

_PING_TIMEOUT_S = 1.0
_TYPES_SHOWN = 20
_LABELS = {
    "queue_depth": "messages waiting",
    "unacknowledged": "messages being worked on",
    "delayed": "messages that wait for their eta",
    "pending_counters": "counters not yet stored",
    "oldest_pending_s": "seconds the oldest may have waited",
    "inflight_batches": "batches being stored",
    "dead_letters": "dead letters",
    "expired_counters": "counters expired",
    "repaired_counters": "counters repaired",
    "missing_messages": "messages missing",
    "types": "event types in the books",
    "unlogged": "events counted and not logged for want of room",
    "audit_drift": "events by which the last audit differed",
}
_LOG_LABELS = {
    "entries": "entries not archived",
    "events": "events in them",
    "bytes": "bytes",
    "pending": "entries that a consumer has",
    "lag": "entries that none has yet",
    "oldest_s": "age of the oldest (s)",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics flush")(flush)
    app.command(epilog="Example: analytics status --json")(status)
    app.command(epilog="Example: analytics settings")(settings)
    app.command(epilog="Example: analytics migrate")(migrate)
    app.command(epilog="Example: analytics metrics --port 9464")(metrics)
    app.command("accept-redis-state", epilog="Example: analytics accept-redis-state")(
        accept_redis_state
    )


Port = Annotated[int, typer.Option(min=1, max=65_535, help="Port to serve them on.")]
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]
Node = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Ask only whether this worker or beat lives, such as events@HOST: for health checks.",
    ),
]
Once = Annotated[bool, typer.Option("--once", help="Print them once, and end.")]


def flush(as_json: Json = False) -> None:
    """Store all counted events in Postgres now.

    Counts do not change by it: they are exact before, meanwhile and after.
    """
    with open_services() as services:
        flushed = services.flush()
    if as_json:
        print_json({"flushed": flushed})
    else:
        say(f"Stored {flushed:,} counters in Postgres.")


def status(as_json: Json = False, node: Node = None) -> None:
    """Show whether all events are accounted for, what waits where, and the books.

    First comes the sentence of the dashboard's Pipeline page, and what to do where something is
    wrong. The books are the running totals of events: published, consumed, counted, duplicate,
    dead, forgotten, expired.

    Exit status 1 when events may be lost, 3 when something stands still and they are safe, 0
    when all is well or no more than late.
    """
    if node is not None:
        _check_node(node)
        return
    with open_services(postgres_may_be_away=True) as services:
        state = services.status()
        newest = None if "postgres" in state else read_newest_claim(services.engine)
        facts = read_facts(services.redis, services.keys, newest)
    answering, discarding = _ask_workers()
    faults, risks = find_faults(state | facts), find_risks(discarding)
    # Beat answers too, but works on nothing.
    workers = [name for name in answering if not name.startswith("celerybeat@")]
    if as_json:
        findings = [asdict(one) for one in [*faults, *risks]]
        verdict = {"summary": summarise(faults), "findings": findings}
        verdict["alarms"] = list(find_alarms(faults))
        seen = {"workers": len(workers), "discarding_workers": discarding}
        print_json({**verdict, **state, **seen})
        raise typer.Exit(_find_status(faults))
    _show_verdict(faults, risks)
    doubt = state.pop("redis", None)
    books = state.pop("books")
    log = state.pop("event_log")
    consumers = log.pop("consumers")
    lanes, warnings = state.pop("lanes"), state.pop("warnings")
    by_type: dict[str, dict[str, int]] = books.pop("by_type", {})
    rows: list[tuple[str, object]] = [(_LABELS.get(name, name), state[name]) for name in state]
    rows.append(("Redis keeps what it acknowledges", doubt or "yes"))
    rows.append(("workers", ", ".join(workers) or "none answers"))
    rows.append(("beat", "answers" if len(answering) > len(workers) else "does not answer"))
    print_table("Status", ["what", "value"], rows)
    _show_lanes(lanes)
    print_table(
        "Books", ["what", "number"], [(_LABELS.get(name, name), books[name]) for name in books]
    )
    print_table("Event log", ["what", "value"], [(_LOG_LABELS[name], log[name]) for name in log])
    if consumers:
        rows_of_consumers = [tuple(one.values()) for one in consumers]
        print_table("Its consumers", ["stream", "name", "entries", "idle s"], rows_of_consumers)
    _show_types(by_type, books["types"])
    for line in warnings:
        warn(line)
    raise typer.Exit(_find_status(faults))


def _find_status(faults: list[Finding]) -> int:
    """The exit status for what is wrong: that of the gravest, which is the first."""
    of_gravity = {"lost": FAILED_STATUS, "stopped": SERVER_AWAY_STATUS, "late": 0}
    return of_gravity[faults[0].gravity] if faults else 0


def _check_node(name: str) -> None:
    """Raise `NodeSilent` for one that was not seen of late. While Redis is away nothing is known of
    any, and none is to be ended for it."""
    settings = load_settings()
    with redis_client(find_redis_url(settings)) as client:
        try:
            with report_errors(redis=client):
                found = list_nodes(client, Keys(settings.prefix))
        except ServerUnavailable as error:
            warn(f"nothing is known of {name}: {error}")
            return
    silent_s = min((one.silent_s for one in found if one.name == name), default=None)
    if silent_s is None or silent_s > SEEN_WITHIN_S:
        seen = ", ".join(sorted({one.name for one in found if one.is_seen})) or "none"
        when = "was not seen" if silent_s is None else f"was last seen {silent_s} s ago, not"
        raise NodeSilent(
            f"{name} {when} within {SEEN_WITHIN_S} s: see its log, and start it again; seen of "
            f"late: {seen}"
        )
    say(f"{name} was seen {silent_s} s ago.")


def _show_verdict(faults: list[Finding], risks: list[Finding]) -> None:
    """The sentence, and what to do about each thing that is wrong, or may go wrong."""
    say(summarise(faults))
    for position, one in enumerate(faults):
        say(f"  {one.remedy}" if position == 0 else f"  {one.what} {one.remedy}")
    for one in risks:
        say(f"  {one.what} {one.remedy}")


def _ask_workers() -> tuple[list[str], list[str]]:
    """Names of our nodes that answer, and of workers that would discard events, both sorted."""
    app = load_celery_app()
    from tasks.worker.default_queue import find_discarding_workers, read_broker_options

    options = read_broker_options(app)
    with ThreadPoolExecutor(1) as pool:
        searching = pool.submit(find_discarding_workers, options, _PING_TIMEOUT_S)
        return sorted(ping_nodes(app, _PING_TIMEOUT_S)), searching.result()


def _show_lanes(lanes: dict[str, dict[str, Any]]) -> None:
    """Who waits for a run, what runs, and how far behind it is."""
    columns = ["lane", "requests waiting", "for s", "running for s", "tried for s"]
    columns += ["last took s", "behind s"]
    fields = ("waiting", "waiting_s", "running_s", "tried_s", "took_s", "behind_s")
    rows = [
        (name, *("-" if lane[field] is None else lane[field] for field in fields))
        for name, lane in lanes.items()
    ]
    print_table("Flushes, archive, maintenance", columns, rows)


def _show_types(by_type: dict[str, dict[str, int]], types: int) -> None:
    """The largest event types, and how many more there are."""
    shown = dict(islice(by_type.items(), _TYPES_SHOWN))
    columns = list(dict.fromkeys(field for row in shown.values() for field in row))
    print_table(
        "Events by type",
        ["event type", *columns],
        [(name, *(row.get(field, 0) for field in columns)) for name, row in shown.items()],
    )
    if types > len(shown):
        say(f"… and {types - len(shown):,} more types; `analytics types` lists them.")


def metrics(port: Port = 9464, host: Host = "127.0.0.1", once: Once = False) -> None:
    """Serve the metrics of the pipeline's state for Prometheus, at /metrics, until Ctrl-C.

    One such process answers for the whole pipeline. While Redis or Postgres does not answer,
    `analytics_up` is 0. What happens in workers and web servers they serve themselves, on
    ANALYTICS_METRICS_PORT.
    """
    from prometheus_client import generate_latest, start_http_server

    from pipeline.metrics.reading import StateReader
    from pipeline.metrics.state import make_registry

    with open_services(postgres_may_be_away=True) as services:
        found = make_registry(StateReader(services).read)
        if once:
            typer.echo(generate_latest(found).decode(), nl=False)
            return
        try:
            _, thread = start_http_server(port, host, found)
        except OSError as error:
            raise InvalidConfiguration(
                f"port {port} of {host} cannot be listened on ({error.strerror}): choose another "
                "with --port"
            ) from error
        say(f"Metrics at http://{host}:{port}/metrics, Ctrl-C ends.")
        thread.join()


def settings(as_json: Json = False) -> None:
    """Show every setting: value, default and meaning.

    Passwords are masked.
    """
    from config.description import describe

    rows = describe(load_settings())
    if as_json:
        listed = [
            {
                "name": row.name,
                "value": row.value,
                "default": row.default,
                "meaning": row.meaning,
            }
            for row in rows
        ]
        print_json({"settings": listed})
    else:
        table = [(row.name, row.value, row.default, row.meaning) for row in rows]
        print_table("Settings", ["variable", "value", "default", "meaning"], table)


def migrate(as_json: Json = False) -> None:
    """Bring the tables in Postgres up to date. May be repeated, also by several at once."""
    from pipeline.postgres.engine import postgres_engine
    from pipeline.postgres.schema import migrate as migrate_schema

    settings = load_settings()
    engine = postgres_engine(find_postgres_url(settings), settings.postgres_schema)
    try:
        version = migrate_schema(engine)
    finally:
        engine.dispose()
    if as_json:
        print_json({"version": version})
    else:
        say(f"The tables in Postgres are at version {version}.")


def accept_redis_state(as_json: Json = False) -> None:
    """Go on flushing after Redis went back in time.

    A Redis that was restored from an older copy may hold counts again that Postgres has stored
    already. Flushing stops then; this command accepts what Redis holds and lets it go on.
    """
    with open_services() as services:
        epoch = services.accept_redis_state()
    if as_json:
        print_json({"epoch": epoch})
    else:
        say(f"Flushing goes on from what Redis holds now (epoch {epoch}).")
