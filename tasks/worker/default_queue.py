"""Workers of other applications that listen on Celery's default queue, where a client sends what it
has no queue for: one that has not loaded our tasks discards the events that it gets there."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery import Celery

from pipeline.celery_app import OwnCelery
from pipeline.contract import CELERYS_DEFAULT_QUEUE, TRACK_EVENT

_BROKER_OPTIONS = ("broker_url", "broker_use_ssl", "broker_transport_options")


def read_broker_options(app: Celery) -> dict[str, Any]:
    """Where the broker of our Celery app is. Not for a thread beside others that use the app: an
    app reads its configuration when it is first asked for it."""
    return {name: app.conf[name] for name in _BROKER_OPTIONS}


def find_discarding_workers(broker_options: dict[str, Any], timeout_s: float) -> list[str]:
    """Names of such workers on this broker, sorted, of those that answer within the time. Raises
    what kombu does where the broker is away."""
    # Control commands of an installation reach its own workers only; those of others hear Celery's.
    with OwnCelery("analytics-search") as search:
        search.conf.update(broker_options)
        # Not one of kombu's pool, which hands out connections that the server has closed since.
        with search.connection_for_write() as connection:
            inspect = partial(search.control.inspect, timeout=timeout_s, connection=connection)
            listening = [
                worker
                for worker, queues in (inspect().active_queues() or {}).items()
                if CELERYS_DEFAULT_QUEUE in _names(queues)
            ]
            if not listening:
                return []
            knowing = inspect(listening).registered(()) or {}
            return sorted(one for one in listening if TRACK_EVENT not in _names(knowing.get(one)))


def _names(answer: Any) -> set[str]:
    """Those of the queues, or of the tasks, in a worker's answer."""
    if not isinstance(answer, list):
        return set()
    return {str(one.get("name") if isinstance(one, dict) else one) for one in answer}
