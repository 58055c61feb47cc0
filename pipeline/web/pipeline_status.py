"""The state of the whole pipeline, for the stats API and the dashboard: each stage with its number,
its rate and how it was of late, and what is wrong.

Redis has to answer; Postgres may be away or stand still, which is then what is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Semaphore, Thread
from typing import Any, Literal

from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import PipelineError, ServerUnavailable
from pipeline.postgres.fitness import report_misfit
from pipeline.server_errors import report_errors
from pipeline.services import Services
from pipeline.upkeep.condition.facts import read_facts
from pipeline.upkeep.condition.findings import UNFIT, Finding, find_faults
from pipeline.upkeep.condition.history import (
    Sample,
    Stretches,
    measure_rate,
    read_samples,
    spread,
)
from pipeline.upkeep.condition.ledgers import (
    LastRun,
    Stored,
    read_last_runs,
    read_stored,
)
from pipeline.upkeep.heartbeats import Worker, list_workers

Over = Literal["hour", "day"]
_STRETCHES: dict[Over, tuple[float, int]] = {"hour": (60.0, 60), "day": (900.0, 96)}
_POSTGRES_TIMEOUT_S = 2.0
_READS_AT_ONCE = 2
_RATE_OVER_S = 300.0
_RATE_OF_SAMPLES_S = 60.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """A stage that events pass. `number` is None where it is not known."""

    name: str
    unit: str
    number: int | None
    rate_per_s: float | None
    """Of what only grows: by how much it does; of what waits: by how much that changes."""
    values: Sequence[float | None]
    """By stretch of time, oldest first: how many passed, or the most that waited."""
    is_total: bool
    """Whether it counts what passed, and not what waits."""


@dataclass(frozen=True)
class PipelineStatus:
    """Everything of one moment. `status` is that of `Services.status`; `stored` is None while
    Postgres does not answer."""

    status: Mapping[str, Any]
    faults: list[Finding]
    stages: list[Stage]
    workers: list[Worker]
    runs: Mapping[str, LastRun | None]
    stored: Stored | None
    stretches: Stretches

    @property
    def last_archive(self) -> LastRun | None:
        """The last archive run: of a worker, or by hand, of which the ledger alone has the time."""
        run, at = self.runs["archive"], self.stored.last_archived_at if self.stored else None
        if at is None or (run is not None and at <= run.at):
            return run
        return LastRun(at, None)


class StatusReader:
    """Reads it; for any number of threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        # A Postgres that stands still keeps as many threads as this, and no more.
        self._free = Semaphore(_READS_AT_ONCE)

    def read(self, over: Over = "hour") -> PipelineStatus:
        """The state at this moment, and of the last hour or day. Raises `ServerUnavailable` when
        Redis does not answer, or RabbitMQ where that is the broker."""
        services, (each_s, number) = self._services, _STRETCHES[over]
        client, keys = services.redis, services.keys
        with report_errors(redis=client):
            now_s = client.time()[0] + 1.0
            runs = read_last_runs(client, keys)
        # The last stretch goes on: it ends with this second.
        stretches = Stretches(now_s - each_s * number, each_s, number)
        stored, outage = self._read_postgres(stretches, runs["flush"])
        status = services.status_of_redis() | outage
        with report_errors(redis=client):
            workers = list_workers(client, keys)
            samples = read_samples(client, keys, each_s * (number + 1))
            status |= read_facts(client, keys, stored.newest_claim if stored else None)
        if stored is not None:
            status["dead_letters"] += stored.dead_letters
        stages = list(_list_stages(status, samples, stored, stretches))
        return PipelineStatus(status, find_faults(status), stages, workers, runs, stored, stretches)

    def _read_postgres(
        self, stretches: Stretches, last_flush: LastRun | None
    ) -> tuple[Stored | None, dict[str, str]]:
        engine = self._services.engine

        def read() -> Stored:
            with report_errors(postgres=engine), report_misfit(engine):
                return read_stored(engine, stretches, last_flush)

        try:
            return self._run_in_time(read), {}
        except (ServerUnavailable, TimeoutError) as error:
            logger.warning("the status is without Postgres: %s", error)
            return None, {"postgres": "does not answer"}
        except (PipelineError, SQLAlchemyError) as error:
            # The log gets addresses and remedies, which viewers must not have.
            logger.warning("the status is without Postgres: %s", error)
            return None, {"postgres": UNFIT}

    def _run_in_time(self, read: Callable[[], Stored]) -> Stored:
        if not self._free.acquire(timeout=_POSTGRES_TIMEOUT_S):
            raise TimeoutError("it has not answered what was asked before")
        found: list[Stored] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                found.append(read())
            except Exception as error:
                errors.append(error)
            finally:
                self._free.release()

        thread = Thread(target=run, name="pipeline-status", daemon=True)
        thread.start()
        thread.join(_POSTGRES_TIMEOUT_S)
        if errors:
            raise errors[0]
        if not found:
            raise TimeoutError(f"no answer within {_POSTGRES_TIMEOUT_S:g} s")
        return found[0]


def _list_stages(
    status: Mapping[str, Any],
    samples: Sequence[Sample],
    stored: Stored | None,
    stretches: Stretches,
) -> Sequence[Stage]:
    """In the order in which an event passes them."""

    def sampled(name: str, unit: str, number: int | None, field: str, *, total: bool) -> Stage:
        known = list(samples)
        if number is not None:  # samples are 15 seconds apart, and the number is of now
            known.append(Sample(_end(stretches), {field: number}))
        # A rate of long ago is none of now.
        of_late = [one for one in known if one.at_s > _end(stretches) - 2 * _RATE_OF_SAMPLES_S]
        rate = measure_rate(of_late, field, _RATE_OF_SAMPLES_S)
        return Stage(name, unit, number, rate, spread(known, field, stretches), total)

    def ledger(name: str, unit: str, values: Sequence[float] | None) -> Stage:
        if values is None:
            return Stage(name, unit, None, None, [None] * stretches.number, is_total=True)
        last = max(1, round(_RATE_OVER_S / stretches.each_s))
        rate = sum(values[-last:]) / (last * stretches.each_s)
        return Stage(name, unit, round(sum(values)), rate, values, is_total=True)

    books, log = status["books"], status["event_log"]
    queued, unacknowledged = status["queue_depth"], status["unacknowledged"]
    return [
        sampled("published", "events", books["published"], "published", total=True),
        sampled("queued", "messages", queued, "queued", total=False),
        sampled("worked_on", "messages", unacknowledged, "unacknowledged", total=False),
        sampled("counted", "events", books["counted"], "counted", total=True),
        sampled("pending", "counters", status["pending_counters"], "pending", total=False),
        ledger("stored", "counters", stored.stored if stored else None),
        sampled("event_log", "events", log["events"], "logged", total=False),
        ledger("archived", "events", stored.archived if stored else None),
    ]


def _end(stretches: Stretches) -> float:
    return stretches.begin_s + stretches.each_s * stretches.number
