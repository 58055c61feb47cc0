"""The Celery side: `celery -A tasks worker|beat|flower`, and every task by name.

`jobs` is the table of contents. `track_event` and `track_events` here are those of `pipeline`, sent
where this process's settings say.
"""

import sys

from pipeline.errors import InvalidConfiguration
from pipeline.system.extras import check_server

try:
    check_server()
except InvalidConfiguration as error:  # in one line, before Celery's many
    sys.exit(f"analytics: {error}")

import tasks.worker.control_commands  # noqa: F401 - takes the place of Celery's
from pipeline.producer.celery_tasks import track_event, track_events
from tasks.app import app
from tasks.consumer.heartbeat import HeartbeatStep
from tasks.consumer.step import EventLaneStep
from tasks.jobs import (
    archive_events,
    audit,
    flush_counters,
    maintain,
    move_dead_letters,
    prune,
    repair_counters,
)
from tasks.overdue import OverdueStep
from tasks.purging import extend_command

extend_command()
app.steps["worker"].update((EventLaneStep, OverdueStep))
app.steps["consumer"].add(HeartbeatStep)

__all__ = [
    "app",
    "archive_events",
    "audit",
    "flush_counters",
    "maintain",
    "move_dead_letters",
    "prune",
    "repair_counters",
    "track_event",
    "track_events",
]
