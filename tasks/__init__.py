"""The Celery side: `celery -A tasks worker|beat|flower`. `tasks.jobs` is the table of contents."""

import sys

from pipeline.errors import InvalidConfiguration
from pipeline.system.extras import check_server

try:
    check_server()
except InvalidConfiguration as error:  # in one line, before Celery's many
    sys.exit(f"analytics: {error}")

import tasks.jobs
import tasks.worker.control_commands  # noqa: F401 - takes the place of Celery's
from tasks.app import app
from tasks.consumer.heartbeat import HeartbeatStep
from tasks.consumer.step import EventLaneStep
from tasks.overdue import OverdueStep
from tasks.purging import extend_command

app.steps["worker"].update((EventLaneStep, OverdueStep))
app.steps["consumer"].add(HeartbeatStep)
extend_command()

__all__ = ["app"]
