"""A beat that ticks while it holds celery-redbeat's lock: `analytics beat --redbeat`.

The one that has the lock ticks, and keeps it for five of beat's longest pauses.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from redbeat import RedBeatScheduler

from config.celery import redbeat_options
from tasks.app import redis_url, settings


class OneOfSeveral(RedBeatScheduler):
    """celery-redbeat's scheduler with our Redis and our prefix."""

    def __init__(self, app: Celery, **options: Any) -> None:
        # Here and not for every process: of its address Celery's reports would show the password.
        app.conf.update(redbeat_options(settings().prefix, redis_url()))
        super().__init__(app, **options)
