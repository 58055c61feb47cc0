"""`celery -A tasks purge` removes delayed events too, which are in no queue that Celery knows."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import click
from celery.bin.purge import purge

from pipeline.intake.unacknowledged import Unacknowledged


def install(events_queue: Callable[[], str], messages: Callable[[], Unacknowledged]) -> None:
    """Make Celery's command purge them when it purges the queue of events."""
    purge_queues: Any = purge.callback

    def purge_delayed_too(
        *args: Any,
        queues: Collection[str] | None = None,
        exclude_queues: Collection[str] | None = None,
        **options: Any,
    ) -> None:
        purge_queues(*args, queues=queues, exclude_queues=exclude_queues, **options)
        events = events_queue()
        if events not in (queues or [events]) or events in (exclude_queues or ()):
            return
        if delayed := messages().purge_delayed():
            click.echo(f"Purged {delayed} delayed messages of events.")

    purge.callback = purge_delayed_too
