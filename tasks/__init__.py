"""The Celery side: `celery -A tasks worker|beat|flower`, and every task by name.

`track_event` and `track_events` here are those of `pipeline`, sent where this process's settings
say.
"""

import tasks.track  # noqa: F401 - registers what workers run
from pipeline.producer.celery_tasks import track_event, track_events
from tasks.app import app
from tasks.archive import archive_events
from tasks.consumer.batch_consumer import EventsStep
from tasks.flush import flush_counters
from tasks.maintenance import audit, maintain, move_dead_letters, prune, repair_counters
from tasks.worker.heartbeat import HeartbeatStep

app.steps["consumer"].update((EventsStep, HeartbeatStep))

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
