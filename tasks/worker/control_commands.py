"""Control commands whose arguments Celery believes: here they are checked first. And those about
queues, which know the event lane's too.

A time limit that is no number ends a worker at its next task; a pool grows by any number of
processes, and shrinks to none, which runs nothing. What adds or cancels a consumer runs later,
where an error ends the worker.
"""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from celery.exceptions import InvalidTaskError
from celery.worker import control

from pipeline.contract import TRACK_EVENT, TRACK_EVENTS
from tasks.worker.checked_task import TimeLimits, check_type

MAX_PROCESSES = 64
"""Of a worker's pool, grown by command. `-c` may start more."""

_MAX_NAME_CHARACTERS = 255
_EXCHANGE_TYPES = ("direct", "topic", "fanout")

_IN_BATCHES = "events are counted in batches"

_limit_rate = control.rate_limit
_grow, _shrink, _limit = control.pool_grow, control.pool_shrink, control.time_limit
_add, _cancel = control.add_consumer, control.cancel_consumer
_list_queues, _list_options, _report = control.active_queues, control.conf, control.report
_IN_URLS = re.compile(r"(://)[^\s/@]*:[^\s/]+@")


@control.control_command(args=[("n", int)], signature="[N=1]")
def pool_grow(state: Any, n: object = 1, **options: Any) -> Any:
    """Grow the pool by n processes."""
    if not hasattr(state.consumer.pool, "grow"):
        return control.nok(
            "this worker has one process (-P solo), as event workers do: start another worker"
        )
    if not _is_number(n) or state.consumer.pool.num_processes + n > MAX_PROCESSES:
        return control.nok(f"a pool may have {MAX_PROCESSES} processes; n={n!r:.50} is refused")
    return _grow(state, n, **options)


@control.control_command(args=[("n", int)], signature="[N=1]")
def pool_shrink(state: Any, n: object = 1, **options: Any) -> Any:
    """Shrink the pool by n processes."""
    if not _is_number(n) or state.consumer.pool.num_processes - n < 1:
        return control.nok(f"a pool needs a process; n={n!r:.50} is refused")
    return _shrink(state, n, **options)


@control.control_command()
def pool_restart(state: Any, **_: Any) -> Any:
    """Refused: what starts a worker starts it anew."""
    return control.nok(
        "no pool is restarted: shut the worker down, and what runs it starts it again"
    )


@control.control_command(args=[("max", int), ("min", int)], signature="[max [min]]")
def autoscale(state: Any, **_: Any) -> Any:
    """Refused: a pool has a process for each lane."""
    return control.nok("a pool has a process for each lane, and more events need more workers")


@control.control_command(
    args=[("task_name", str), ("rate_limit", str)],
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def rate_limit(state: Any, task_name: Any, rate_limit: Any, **options: Any) -> Any:
    """Set the rate limit of a task."""
    if task_name in (TRACK_EVENT, TRACK_EVENTS) and _lane(state) is not None:
        return control.nok(f"{_IN_BATCHES}, at any rate: cancel their consumer to pause them")
    return _limit_rate(state, task_name, rate_limit, **options)


@control.control_command(
    args=[("task_name", str), ("soft", float), ("hard", float)],
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(
    state: Any, task_name: Any = None, hard: Any = None, soft: Any = None, **options: Any
) -> Any:
    """Set the time limits of a task."""
    if task_name in (TRACK_EVENT, TRACK_EVENTS) and _lane(state) is not None:
        return control.nok(f"{_IN_BATCHES}, which have no time limit")
    try:
        check_type("time limits", [hard, soft], TimeLimits)
    except InvalidTaskError as error:
        return control.nok(f"{error}")
    return _limit(state, task_name, hard=hard, soft=soft, **options)


@control.control_command(
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(
    state: Any, queue: Any, exchange: Any = None, exchange_type: Any = None, routing_key: Any = None
) -> Any:
    """Consume from a queue too."""
    names = [name for name in (exchange, routing_key) if name is not None]
    if not all(map(_is_name, [queue, *names])) or exchange_type not in (None, *_EXCHANGE_TYPES):
        return control.nok("queue, exchange and routing key are texts, the type is direct")
    lane = _lane(state)
    if lane is not None and lane.resume(queue):
        return control.ok(f"add consumer {queue}")
    return _add(state, queue, exchange, exchange_type, routing_key)


@control.control_command(args=[("queue", str)], signature="<queue>")
def cancel_consumer(state: Any, queue: Any, **_: Any) -> Any:
    """Consume no longer from a queue."""
    if not _is_name(queue):
        return control.nok("a queue's name is a text")
    lane = _lane(state)
    if lane is not None and lane.pause(queue):
        return control.ok(f"no longer consuming from {queue}")
    return _cancel(state, queue)


@control.inspect_command()
def active_queues(state: Any) -> list[Any]:
    """The queues that a worker consumes from."""
    found: list[Any] = _list_queues(state)
    lane = _lane(state)
    names = [] if lane is None else lane.queues
    return [*found, *(dict(state.app.amqp.queues[name].as_dict(recurse=True)) for name in names)]


def _read_flag(text: str) -> bool:
    return text.lower() in ("1", "true", "t", "yes", "y", "on")


@control.inspect_command(
    alias="dump_conf", signature="[include_defaults=False]", args=[("with_defaults", _read_flag)]
)
def conf(state: Any, with_defaults: Any = False, **options: Any) -> Any:
    """List Celery's options. It masks the broker's password itself, and no other server's."""
    return _mask(_list_options(state, with_defaults, **options))


@control.inspect_command()
def report(state: Any) -> Any:
    """Tell versions and options, for reports of faults."""
    return _mask(_report(state))


def _mask(value: Any) -> Any:
    """The value without passwords in URLs."""
    if isinstance(value, str):
        return _IN_URLS.sub(r"\1***@", value)
    if isinstance(value, dict):
        return {name: _mask(one) for name, one in value.items()}
    return [_mask(one) for one in value] if isinstance(value, list | tuple) else value


def _lane(state: Any) -> Any:
    """The event lane of this worker, if it has one."""
    return getattr(state.consumer.controller, "event_lane", None)


def _is_name(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= _MAX_NAME_CHARACTERS and text.isprintable()


def _is_number(n: object) -> TypeGuard[int]:
    return isinstance(n, int) and not isinstance(n, bool) and n > 0
