"""A process in which the event is followed: `python -m tests.path.process ROLE RECORD`.

It writes to RECORD which places the event reached in it, first things first.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import redis

from pipeline.contract import EVENTS_QUEUE
from pipeline.redis.keys import Keys
from tests.path.following import Follower
from tests.path.marks import EVENT


def call() -> None:
    """Send the event from a process that has sent one before, to a worker that has counted one and
    waits for the next. So the way is always that of a single event in steady state."""
    from pipeline import track_event

    with redis.Redis.from_url(os.environ["ANALYTICS_REDIS_URL"]) as client:
        for event in ({"event_type": "not_followed", "user_id": "u1"}, EVENT):
            track_event.delay(**event)
            while not _is_counted(client):
                time.sleep(0.02)


def _is_counted(client: redis.Redis) -> bool:
    """Whether all events are counted and a worker waits for more, in a blocking command."""
    blocked = any("b" in one["flags"] for one in client.client_list())
    return blocked and not client.llen(EVENTS_QUEUE) and not client.hlen(Keys().unacked)


def consume() -> None:
    """An event worker, until SIGTERM."""
    from celery.__main__ import main as run_celery

    options = ("-Q", EVENTS_QUEUE, "-P", "solo", "-n", "followed@tests", "-l", "INFO")
    quick = ("--without-gossip", "--without-mingle")
    sys.argv = ["celery", "-A", "tasks", "worker", *options, *quick]
    run_celery()


def flush() -> None:
    """What a flush worker runs every few minutes, once."""
    from tasks import flush_counters

    flush_counters()


ROLES = {"caller": call, "events": consume, "flush": flush}


def main() -> None:
    """Play a role and write the record of it."""
    role, record = sys.argv[1:]
    follower = Follower()
    follower.start()
    try:
        ROLES[role]()
    finally:
        follower.stop()
        in_order = sorted(follower.reached, key=follower.reached.__getitem__)
        Path(record).write_text(json.dumps(in_order))


if __name__ == "__main__":
    main()
