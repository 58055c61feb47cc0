"""From the first event sent to the last one counted, with one worker process that counts while the
others are sent."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import nullcontext

from benchmarks.report.report import Measured
from benchmarks.rivals import asyncio_service
from benchmarks.stage import sides
from benchmarks.stage.processes import Cores, Worker, celery_worker, running
from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, Stage, users, wait_until
from pipeline import Tracker
from pipeline.contract import EVENTS_QUEUE


def measure(stage: Stage) -> Measured:
    """Events a second, end to end: our Tracker, ordinary Celery tasks, and an asyncio service that
    has its events in memory and needs neither queue nor worker."""
    ours, celery, sizes = sides.ours(stage), sides.celery(stage), stage.sizes

    def track_all(who: list[str]) -> None:
        with Tracker() as tracker:
            for user in who:
                tracker.track(EVENT_TYPE, user, PROPERTIES)

    def delay_all(who: list[str]) -> None:
        for user in who:
            celery.send(user)

    def count_all(who: list[str]) -> None:
        events = [(EVENT_TYPE, user) for user in who]
        asyncio.run(asyncio_service.count_all(stage.redis_url, events))

    stage.say("starting the workers")
    worker = celery_worker("tasks", EVENTS_QUEUE, stage.directory / "worker.log")
    plain = celery_worker(
        "benchmarks.rivals.celery_task", celery.queue[0], stage.directory / "plain.log"
    )
    cores = Cores({"tracker": os.getpid(), "worker": worker.pid, "Redis": stage.redis_pid})
    with running(worker, plain):
        ours.hold_when_ready(worker)
        celery.hold_when_ready(plain)
        samples = stage.interleave(
            {
                "tracker": _rate(track_all, sizes.our_batched_events, ours.counted, worker, cores),
                "celery": _rate(delay_all, sizes.celery_events, celery.counted, plain),
                "asyncio": _rate(count_all, sizes.asyncio_events, sides.done(stage)),
            }
        )
    return Measured(samples, {"batches-asyncio": f"CPU used with ours: {cores}."})


def _rate(
    send_all: Callable[[list[str]], None],
    events: int,
    counted: Callable[[], int],
    worker: Worker | None = None,
    cores: Cores | None = None,
) -> Callable[[], float]:
    who = users(events)

    def sample() -> float:
        if worker:
            worker.resume()
        target = counted() + events
        with cores or nullcontext():
            began = time.perf_counter()
            send_all(who)
            wait_until(lambda: counted() >= target, "all that was sent is counted")
            elapsed_s = time.perf_counter() - began
        if worker:
            worker.hold()
        return events / elapsed_s

    return sample
