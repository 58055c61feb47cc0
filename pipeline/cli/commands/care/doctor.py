"""`analytics doctor`: whether all that the pipeline stands on is as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from pipeline.cli.commands.care.libraries import find_unfit_libraries
from pipeline.cli.context import find_postgres_url, find_redis_url, load_celery_app, load_settings
from pipeline.cli.options import Json
from pipeline.cli.output import print_json, say, warn
from pipeline.errors import InvalidConfiguration, PipelineError
from pipeline.server_errors import FAILED_STATUS, SERVER_AWAY_STATUS

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.upkeep.checkup.check import Check

_REPLY_WITHIN_S = 5.0
_WORKERS_ANSWER_WITHIN_S = 1.0
_TAKEN_WITHIN_S = 2.0

Found = TypeVar("Found")


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command(epilog="Example: analytics doctor --json")(doctor)


def doctor(
    spool: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory of an application's spool, checked too."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check settings, versions, servers, rights, tables and files; say how to mend what is wrong.

    Changes nothing. Exit status 1 when something is wrong, 3 when all that is wrong is that a
    server does not answer. "unknown" is what the rights at hand do not let it check.
    """
    found = list(_check_all(spool))
    wrong = [one for one in found if one.state in ("wrong", "away")]
    if as_json:
        print_json({"healthy": not wrong, "checks": [asdict(one) for one in found]})
    else:
        for one in found:
            say(f"{one.state:8}{one.name}: {_explain(one)}")
    if wrong:
        worst = sorted(wrong, key=lambda one: one.state == "away")[0]
        warn(f"{len(wrong)} of {len(found)} checks failed; {worst.name}: {_explain(worst)}")
        is_away = all(one.state == "away" for one in wrong)
        raise typer.Exit(SERVER_AWAY_STATUS if is_away else FAILED_STATUS)
    if not as_json:
        unknown = Counter(one.state for one in found)["unknown"]
        say(f"{len(found) - unknown} checks are fine" + _tell_unknown(unknown))


def _tell_unknown(unknown: int) -> str:
    return f", {unknown} could not be made." if unknown else "."


def _explain(one: Check) -> str:
    return f"{one.what}: {one.remedy}" if one.remedy else one.what


def _check_all(spool: Path | None) -> Iterator[Check]:
    from pipeline.upkeep.checkup.check import Check, find_refusal
    from pipeline.upkeep.checkup.files import check_directory

    found: list[Settings] = []
    yield from find_refusal("settings", lambda: found.append(load_settings()), "all can be read")
    unfit = find_unfit_libraries()
    if unfit:
        what = f"installed are {', '.join(unfit)}"
        remedy = "pip install --upgrade 'analytics-pipeline[server]'"
        yield Check("libraries", "wrong", what, remedy)
    else:
        yield Check("libraries", "fine", "all fit")
    for settings in found:
        if settings.redis_url is None or settings.postgres_url is None:
            yield check_directory("data directory", settings.data_dir)
    if spool is not None:
        yield check_directory("spool", spool)
    for settings in found:
        yield from _check_servers(settings)
        if settings.traces:
            yield _check_traces()


def _check_traces() -> Check:
    """Whether a collector takes spans; it is sent none."""
    from pipeline.traces.exporting import make_exporter, reach
    from pipeline.upkeep.checkup.check import Check, split

    try:
        is_taken = reach(make_exporter(timeout=_TAKEN_WITHIN_S))
    except InvalidConfiguration as error:
        return split("traces", "wrong", str(error))
    if is_taken:
        return Check("traces", "fine", "the collector of OpenTelemetry takes spans")
    what = "no collector of OpenTelemetry takes spans, which are dropped"
    remedy = "give its address in OTEL_EXPORTER_OTLP_ENDPOINT, as http://HOST:4318 (HTTP, not gRPC)"
    return Check("traces", "away", what, remedy)


def _check_servers(settings: Settings) -> Iterator[Check]:
    from pipeline.postgres.engine import postgres_engine
    from pipeline.postgres.ownership import use_prefix
    from pipeline.redis.client import redis_client
    from pipeline.redis.keys import Keys
    from pipeline.upkeep.checkup.one_moment import check_moment
    from pipeline.upkeep.checkup.postgres_server import check_postgres
    from pipeline.upkeep.checkup.redis_server import check_redis

    keys = Keys(settings.prefix)
    client, refused = _try("redis", lambda: redis_client(find_redis_url(settings), _REPLY_WITHIN_S))
    yield from refused
    engine, refused = _try(
        "postgres", lambda: postgres_engine(find_postgres_url(settings), settings.postgres_schema)
    )
    yield from refused
    of_redis: list[Check] = []
    of_postgres: list[Check] = []
    try:
        if client is not None:
            of_redis = list(check_redis(client, keys, settings.appendfsync))
            yield from of_redis
        if engine is not None:
            use_prefix(engine, settings.prefix)
            of_postgres = list(check_postgres(engine))
            yield from of_postgres
        tables_fit = any(one.name == "tables" and one.state == "fine" for one in of_postgres)
        if client is not None and engine is not None and len(of_redis) > 1 and tables_fit:
            yield check_moment(client, keys, engine)
    finally:
        if client is not None:
            client.close()
        if engine is not None:
            engine.dispose()
    if len(of_redis) > 1:
        yield _check_default_queue(settings)


def _try(name: str, make: Callable[[], Found]) -> tuple[Found | None, list[Check]]:
    """What was made, or the line that says why it cannot be."""
    from pipeline.upkeep.checkup.check import find_refusal

    made: list[Found] = []
    found = list(find_refusal(name, lambda: made.append(make()), ""))
    return (made[0], []) if made else (None, found)


def _check_default_queue(settings: Settings) -> Check:
    """Whether a worker of another application would discard events that a client sends without a
    queue."""
    from pipeline.upkeep.checkup.check import Check, split
    from pipeline.upkeep.condition.findings import find_risks

    name = "default queue"
    try:
        app = load_celery_app()
        from tasks.worker.default_queue import find_discarding_workers, read_broker_options

        discarding = find_discarding_workers(read_broker_options(app), _WORKERS_ANSWER_WITHIN_S)
    except PipelineError as error:
        return split(name, "unknown", f"{error}")
    except Exception as error:  # what kombu raises has no common base
        return Check(name, "unknown", f"workers could not be asked ({error})")
    risks = find_risks(discarding)
    if not risks:
        return Check(name, "fine", "no worker that answers would discard events")
    return Check(name, "wrong", risks[0].what, risks[0].remedy)
