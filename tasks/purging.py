"""A purge of the events queue removes delayed events, which are in no queue that Celery knows."""

from __future__ import annotations

import sys
from typing import Any

from celery.app import control

from pipeline.installation import queues_of
from pipeline.intake.unacknowledged import Unacknowledged
from tasks.app import counters, settings


class Control(control.Control):
    """Celery's, of our app."""

    def purge(self, connection: Any = None) -> int:
        """Discard all that waits; returns how many messages."""
        purged: int = super().purge(connection)
        return purged + _purge_delayed()

    discard_all = purge


def extend_command() -> None:
    """Make `celery -A tasks purge` remove them when it purges the queue of events."""
    if "celery.bin.purge" not in sys.modules:  # Celery's command line loads it before any app
        return
    import click
    from celery.bin.purge import purge

    purge_queues: Any = purge.callback

    def purge_delayed_too(*args: Any, **options: Any) -> None:
        purge_queues(*args, **options)
        events = queues_of(settings().prefix).events
        chosen = set(options["queues"] or [events]) - set(options["exclude_queues"] or ())
        if events in chosen and (delayed := _purge_delayed()):
            click.echo(f"Purged {delayed} delayed messages of events.")

    purge.callback = purge_delayed_too


def _purge_delayed() -> int:
    return Unacknowledged(counters().client, counters().keys).purge_delayed()
