"""The faults: what each does to a running pipeline, which alarm it raises, and how it is mended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from celery import Celery
from sqlalchemy import text

from pipeline.contract import EVENTS_QUEUE, FLUSH_COUNTERS, FLUSH_QUEUE, TRACK_EVENT
from pipeline.days import today
from pipeline.upkeep.dead_letter_groups import drop_group, list_groups
from tests.alarms.stage import Stage
from tests.helpers.support import eventually, execute, field_place

_WAIT_S = 60.0
_BALLAST_BYTES = 64 * 2**20
_NEARLY_FULL = 0.93

Mend = Callable[[], object]


@dataclass(frozen=True)
class Fault:
    """`strike` makes it and returns what mends it. No alarm is expected where `alarm` is empty."""

    title: str
    alarm: str
    strike: Callable[[Stage], Mend]
    settings: Mapping[str, str] = field(default_factory=dict)


def _do_nothing(_: Stage) -> Mend:
    return lambda: None


def _block_flush(stage: Stage) -> Mend:
    """A session holds a lock on the table, and a flush meets it."""
    services = stage.services
    connection = services.engine.connect()
    connection.execute(text("LOCK analytics_daily IN ACCESS EXCLUSIVE MODE"))
    lane = services.keys.lane("flush")
    assert stage.servers.redis_url is not None
    with Celery(broker=stage.servers.redis_url) as stock:
        stock.send_task(FLUSH_COUNTERS, queue=FLUSH_QUEUE)
    eventually(lambda: services.redis.exists(lane), _WAIT_S, "no flush begins")
    return connection.close


def _stop_postgres(stage: Stage) -> Mend:
    postgres = stage.servers.postgres
    assert postgres is not None
    postgres.kill()
    return postgres.start


def _stop_redis(stage: Stage) -> Mend:
    redis = stage.servers.redis
    assert redis is not None
    redis.kill()
    return redis.start


def _fill_redis(stage: Stage) -> Mend:
    """Another program's key takes most of the memory, and the rest lasts for some minutes."""
    client = stage.services.redis
    client.setrange("ballast", _BALLAST_BYTES, "x")
    client.config_set("maxmemory", round(client.info("memory")["used_memory"] / _NEARLY_FULL))
    return lambda: client.delete("ballast")


def _kill_event_worker(stage: Stage) -> Mend:
    stage.kill("events")
    return lambda: stage.start("events")


def _kill_flush_worker(stage: Stage) -> Mend:
    stage.kill("flush")
    return lambda: stage.start("flush")


def _stop_beat(stage: Stage) -> Mend:
    stage.stop("beat")
    return lambda: stage.start("beat")


def _send_bad_event(stage: Stage) -> Mend:
    """By a client without this package, which checks nothing."""
    assert stage.servers.redis_url is not None
    with Celery(broker=stage.servers.redis_url) as stock:
        stock.send_task(TRACK_EVENT, [""], queue=EVENTS_QUEUE)

    def drop() -> None:
        stage.services.move_dead_letters()
        [group] = list_groups(stage.services.engine, 10)
        assert drop_group(stage.services.engine, group.id, group.last_at) == 1

    return drop


def _change_count(stage: Stage) -> Mend:
    """Another program adds to the count of an event type in Redis."""
    services = stage.services
    name = services.keys.daily("page_view", f"{today()}")
    services.redis.incrby(name, 5)
    return lambda: services.redis.decrby(name, 5)


def _change_user(stage: Stage) -> Mend:
    """The same of a user's count."""
    client, keys = stage.services.redis, stage.services.keys
    place = field_place(stage.services, keys.user("u1", "page_view", f"{today()}"))
    client.hincrby(*place, 5)
    return lambda: client.hincrby(*place, -5)


def _change_row(stage: Stage) -> Mend:
    services = stage.services
    services.flush()

    def add(number: int) -> None:
        change = f"UPDATE analytics_user_daily SET count = count + {number} WHERE user_id = 'u1'"
        execute(services, change)

    add(5)
    return lambda: add(-5)


FAULTS = {
    "flush": Fault("a flush is blocked by a lock in Postgres", "flush_late", _block_flush),
    "postgres": Fault("Postgres is killed", "postgres_away", _stop_postgres),
    "memory": Fault("Redis is nearly full", "redis_nearly_full", _fill_redis),
    "events": Fault("the event worker is killed", "no_event_worker", _kill_event_worker),
    "flusher": Fault("the flush worker is killed", "no_flush_worker", _kill_flush_worker),
    "beat": Fault("beat is stopped", "beat_silent", _stop_beat),
    "count": Fault("a count in Redis is changed", "audit_off", _change_count),
    "user": Fault("a user's count in Redis is changed", "audit_off", _change_user),
    "row": Fault("a user's row in Postgres is changed", "audit_off", _change_row),
    "letter": Fault("a bad event is sent", "dead_letters", _send_bad_event),
    "redis": Fault("Redis is killed", "redis_away", _stop_redis),
    "nothing": Fault("nothing", "", _do_nothing),
    "often": Fault(
        "nothing, with a flush a minute", "", _do_nothing, {"ANALYTICS_FLUSH_INTERVAL_S": "60"}
    ),
}
