"""An event worker of the version before the event lane: its own scripts of the transport, called as
it did. What did not change since, such as the apply, is that of today.

    python -m tests.helpers.before_lane.worker REDIS_URL

It counts until it is killed. Every third fetch it forgets, as one killed with what it holds,
and gives back what was fetched a second ago.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from datetime import UTC, datetime

from config.options import pipeline_options
from config.settings import Settings
from pipeline.contract import EVENTS_QUEUE, PRIORITY_SUFFIXES
from pipeline.redis.scripts import Script
from pipeline.services import connect_counters
from tasks.consumer.messages import read_message

_FETCH = Script("tests.helpers.before_lane.fetch")
_RESTORE = Script("tests.helpers.before_lane.restore")
_MAX_BYTES = 4 * 1024 * 1024
_VISIBILITY_TIMEOUT_S = 1


def main() -> None:
    """Count what comes."""
    counters = connect_counters(pipeline_options(Settings()), sys.argv[1])
    keys, client = counters.keys, counters.client
    lists = [EVENTS_QUEUE + suffix for suffix in PRIORITY_SUFFIXES]
    unacked = [keys.unacked, keys.unacked_index, keys.dead]
    for turn in itertools.count():
        args = [100, _MAX_BYTES, *[json.dumps(EVENTS_QUEUE)] * len(lists)]
        found = _FETCH.run(client, keys=[*unacked, keys.totals, *lists], args=args)
        fetched = [
            (tag.decode(), text)
            for _, *parts in found
            for tag, text in zip(parts[::2], parts[1::2], strict=True)
        ]
        if turn % 3:
            now = datetime.now(UTC)
            counters.apply([read_message(*one, now).delivery for one in fetched], now)
        if not fetched:
            time.sleep(0.05)
        older = ["RPUSH", _MAX_BYTES, "\x06\x16", "0,3,6,9", "older", _VISIBILITY_TIMEOUT_S, 500]
        _RESTORE.run(client, keys=unacked, args=older)


if __name__ == "__main__":
    main()
