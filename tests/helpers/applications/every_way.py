"""An application that sends events in every way there is, each with an event type of its own, and
prints how many of each it has sent, as JSON.

    every_way.py URL URL_THAT_LOSES_A_REPLY SPOOL_DIRECTORY

It runs where nothing is installed but what sends events, on Python 3.10 too. Without a directory it
is on Windows, where nothing can be kept on disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
from collections import Counter
from urllib.parse import urlsplit, urlunsplit

from celery import chain, current_app, group

from pipeline import AsyncTracker, Tracker, configure, track_event, track_events

TRY_S = 20

sent: Counter[str] = Counter()


def send_tasks() -> None:
    track_event.delay(
        "delay", "u1", {"path": "/"}, timestamp="20250314T150926Z", event_id=os.getpid()
    )
    track_event.apply_async(("apply_async", "u1"), expires=3_600)
    track_event.s("signature").delay()
    group(track_event.si("group"), track_event.si("group")).delay()
    chain(track_event.si("chain"), track_event.si("chain")).delay()
    track_events.delay([{"event_type": "track_events"}] * 3)
    sent.update(delay=1, apply_async=1, signature=1, group=2, chain=2, track_events=3)


def count_here() -> None:
    track_event("called")
    current_app.conf.task_always_eager = True
    track_event.delay("eager")
    current_app.conf.task_always_eager = False
    sent.update(called=1, eager=1)


async def track_async() -> None:
    async with AsyncTracker() as tracker:
        await tracker.track("AsyncTracker")
        await tracker.flush(TRY_S)
    sent.update(AsyncTracker=1)


def track() -> None:
    with Tracker() as tracker:
        tracker.track("Tracker")
        assert tracker.track_many([{"event_type": "Tracker"}] * 9) == 9
    sent.update(Tracker=10)


def send_in_an_outage(url: str, spool_dir: str | None) -> None:
    """While Redis is away, a call waits and a tracker spools; they are sent when it is back."""
    away = socket.create_server(("127.0.0.1", 0))
    port = away.getsockname()[1]
    away.close()
    server = urlsplit(url)
    password = f":{server.password}@" if server.password else ""
    place = f"{password}127.0.0.1:{port}"
    configure(redis_url=urlunsplit(server._replace(netloc=place)), publish_timeout_s=TRY_S)
    waiting = threading.Thread(target=track_event.delay, args=("outage",))
    waiting.start()
    if spool_dir:
        with Tracker(when_full="spool", spool_dir=spool_dir) as tracker:
            tracker.track("spool")
            tracker.flush(TRY_S)
        sent.update(spool=1)
    else:
        see_that_nothing_is_spooled()
    forward(port, (str(server.hostname), server.port or 6379))
    waiting.join()
    if spool_dir:
        with Tracker(when_full="spool", spool_dir=spool_dir) as tracker:
            tracker.track("spool")
        sent.update(spool=1)
    sent.update(outage=1)


def see_that_nothing_is_spooled() -> None:
    said = ""
    try:
        Tracker(when_full="spool", spool_dir="spool")
    except ValueError as error:
        said = str(error)
    assert "needs file locks" in said


def forward(port: int, to: tuple[str, int]) -> None:
    """Take connections to a port, and pass them on."""
    listener = socket.create_server(("127.0.0.1", port))

    def accept() -> None:
        while True:
            ends = listener.accept()[0], socket.create_connection(to)
            for one, other in (ends, ends[::-1]):
                threading.Thread(target=copy, args=(one, other), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def copy(one: socket.socket, other: socket.socket) -> None:
    while data := one.recv(65_536):
        other.sendall(data)


def main(url: str, losing_url: str, spool_dir: str | None = None) -> None:
    configure(redis_url=url, publish_timeout_s=TRY_S)
    send_tasks()
    count_here()
    track()
    asyncio.run(track_async())
    configure(redis_url=losing_url)
    track_event.delay("lost_reply")
    sent.update(lost_reply=1)
    send_in_an_outage(url, spool_dir)
    print(json.dumps(sent))


if __name__ == "__main__":
    main(*sys.argv[1:])
