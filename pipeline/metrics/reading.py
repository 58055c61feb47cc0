"""The state of a pipeline as its metrics show it: that of `analytics status`, and that of the
servers, the workers and beat."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooLate
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from threading import Thread
from typing import Any, get_args

import redis
from sqlalchemy import Connection, Table, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import PipelineError, ServerUnavailable
from pipeline.flushing.ledger import newest_claim
from pipeline.lanes.lanes import LANE_TASKS
from pipeline.lanes.ticks import read_tick
from pipeline.postgres.fitness import report_misfit
from pipeline.postgres.partitions import existing
from pipeline.postgres.tables import PARTITIONED_BY_DAY, PARTITIONED_BY_MONTH, flush_batches
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors
from pipeline.services import Services
from pipeline.upkeep import dead_letters
from pipeline.upkeep.condition.alarms import ALARMS, find_alarms
from pipeline.upkeep.condition.facts import read_facts
from pipeline.upkeep.condition.findings import UNFIT, Finding, Gravity, explain_outage, find_faults
from pipeline.upkeep.heartbeats import WorkerKind, list_workers

_BATCHES = text(
    "SELECT reltuples FROM pg_class WHERE oid = CAST('schema$.flush_batches' AS regclass)"
)
_MEMORY = {"used_memory": "memory_used_bytes", "maxmemory": "memory_limit_bytes"}
_PERSISTENCE = {"aof_enabled": "aof_enabled", "aof_current_size": "aof_bytes"}

logger = logging.getLogger(__name__)

State = dict[str, Any]


class StateReader:
    """Reads the state of one pipeline."""

    def __init__(self, services: Services, postgres_timeout_s: float = 3.0) -> None:
        """Postgres is waited for no longer than that."""
        self._services, self._timeout_s = services, postgres_timeout_s
        self._asked: Future[State] | None = None

    def read(self) -> State:
        """Everything of one moment; what is not known is left out. `redis_up` and `postgres_up` say
        which server answers; neither raises. `faults` are the findings, and `alarms` says which
        alarms they raise."""
        outage, stored = self._read_postgres()  # first: what the ledger has Redis had claimed
        state: State = {"build": {version("analytics-pipeline"): 1}, "postgres_up": not outage}
        try:
            state |= self._read_redis(stored, outage) | {"redis_up": True}
        except PipelineError as error:
            logger.warning("no metrics of Redis: %s", error)
            state |= {"redis_up": False, "faults": list(self._explain(error, outage))}
        raised = find_alarms(state["faults"])
        state["alarms"] = {alarm.name: alarm.name in raised for alarm in ALARMS}
        state["up"] = state["redis_up"] and state["postgres_up"]
        return state | stored

    def _explain(self, error: PipelineError, outage: State) -> Iterator[Finding]:
        is_of_broker = self._services.broker_url is not None and "RabbitMQ" in str(error)
        yield explain_outage("The broker" if is_of_broker else "Redis")
        if outage and outage["postgres"] != UNFIT:
            yield explain_outage("Postgres")

    def _read_postgres(self) -> tuple[State, State]:
        """What `find_faults` is told while Postgres is away, and what it says else. One that stands
        still is waited for once."""
        try:
            if self._asked is None or self._asked.done():
                self._asked = _begin(read_stored, self._services)
            return {}, self._asked.result(self._timeout_s)
        except (ServerUnavailable, TooLate) as error:
            logger.warning("no metrics of Postgres: %s", f"{error}" or "it stands still")
            return {"postgres": "does not answer"}, {}
        except (PipelineError, SQLAlchemyError) as error:
            logger.warning("no metrics of Postgres: %s", error)
            return {"postgres": UNFIT}, {}

    def _read_redis(self, stored: State, outage: State) -> State:
        services = self._services
        client, keys = services.redis, services.keys
        state = services.status_of_redis() | outage
        state["dead_letters"] += stored.pop("dead_letters", 0)
        with report_errors(redis=client):
            facts = read_facts(client, keys, stored.get("newest_claim"))
            state |= facts | read_work(client, keys) | {"redis_server": read_server(client)}
        faults = find_faults(state | stored)
        found = Counter(one.gravity for one in faults)
        consumers = state["event_log"]["consumers"]
        state["event_log"] |= {
            "consumers_number": len(consumers),
            "idle_s": max((one["idle_s"] for one in consumers), default=0),
        }
        for lane in state["lanes"].values():
            lane |= {name: lane[name] or 0 for name in ("running_s", "tried_s")}
        return state | {
            "faults": faults,
            "findings": {gravity: found[gravity] for gravity in get_args(Gravity)},
            "warnings_number": len(state["warnings"]),
            "redis_durable": "redis" not in state,
            "redis_takes_events": facts["refusal"] is None,
        }


def _begin(read: Callable[[Services], State], services: Services) -> Future[State]:
    """Read in a thread that the end of the process does not wait for."""
    found: Future[State] = Future()

    def run() -> None:
        try:
            found.set_result(read(services))
        except BaseException as error:
            found.set_exception(error)

    Thread(target=run, name="metrics-postgres", daemon=True).start()
    return found


def read_stored(services: Services) -> State:
    """What Postgres says: `dead_letters`, the `newest_claim`, the `ledger`, and for how long there
    are partitions. Raises `PipelineError` or sqlalchemy.exc.SQLAlchemyError."""
    engine = services.engine
    with report_errors(postgres=engine), report_misfit(engine), engine.connect() as connection:
        newest = connection.execute(select(func.max(flush_batches.c.stored_at))).scalar()
        return {
            "dead_letters": dead_letters.count_open(connection),
            "newest_claim": newest_claim(connection),
            "ledger": {
                "batches": max(0, connection.execute(_BATCHES).scalar_one()),
                "newest_s": newest and newest.timestamp(),
            },
            "partitions_ahead_s": {
                table.name: _measure_ahead_s(connection, table, datetime.now(UTC))
                for table in (*PARTITIONED_BY_MONTH, *PARTITIONED_BY_DAY)
            },
        }


def _measure_ahead_s(connection: Connection, table: Table, now: datetime) -> float:
    """How long from now the partitions reach without a gap."""
    end = now.date()
    for one in existing(connection, table):
        if one.first <= end < one.end:
            end = one.end
    if end == now.date():
        return 0.0
    return (datetime(end.year, end.month, end.day, tzinfo=UTC) - now).total_seconds()


def read_work(client: redis.Redis, keys: Keys) -> State:
    """Which workers live (`workers`, by kind), when each task was last done and when beat ticked,
    by Redis's clock. Raises redis.RedisError."""
    kinds = Counter(one.kind for one in list_workers(client, keys) if one.is_seen)
    tasks = [task for tasks in LANE_TASKS.values() for task in tasks]
    ended: Any = client.hmget(keys.requests, [f"{task}:ended_ms" for task in tasks])
    return {
        "workers": {kind: kinds[kind] for kind in get_args(WorkerKind)},
        "last_done_s": {
            task.rpartition(".")[2]: int(ms) / 1000
            for task, ms in zip(tasks, ended, strict=True)
            if ms is not None
        },
        "beat_ticked_s": read_tick(client, keys),
    }


def read_server(client: redis.Redis) -> State:
    """Memory and append-only file of Redis, as far as it says; managed servers say little. Raises
    redis.RedisError when it does not answer."""
    found: State = {}
    with suppress(redis.ResponseError):
        info = client.info("memory")
        found |= {name: info[field] for field, name in _MEMORY.items() if field in info}
    with suppress(redis.ResponseError):
        info = client.info("persistence")
        found |= {name: info[field] for field, name in _PERSISTENCE.items() if field in info}
        if "aof_last_write_status" in info:
            found["aof_last_write_ok"] = info["aof_last_write_status"] == "ok"
    return found
