"""How many single-event tasks worker processes count a second: from the moment a backlog is in the
queue until the last event of it is counted."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext

from benchmarks.report.report import Measured
from benchmarks.stage import sides
from benchmarks.stage.processes import Cores, Worker, celery_worker, dramatiq_worker, running
from benchmarks.stage.sides import Side
from benchmarks.stage.stage import USERS, Stage, users
from pipeline.contract import EVENTS_QUEUE


def measure(stage: Stage) -> Measured:
    """Events a second of one and of two workers of ours, a Celery and a dramatiq worker.

    All of them live as long as the contest, but those not measured are held still.
    """
    ours, celery, dramatiq = sides.ours(stage), sides.celery(stage), sides.dramatiq(stage)
    sizes, logs = stage.sizes, stage.directory
    stage.say("publishing the backlogs")
    _keep_backlog(ours, sizes.our_messages)
    _keep_backlog(celery, sizes.celery_messages)
    _keep_backlog(dramatiq, sizes.dramatiq_messages)

    stage.say("starting the workers")
    first = celery_worker("tasks", EVENTS_QUEUE, logs / "first.log")
    with running(first):
        ours.hold_when_ready(first)
        second = celery_worker("tasks", EVENTS_QUEUE, logs / "second.log")
        plain = celery_worker("benchmarks.rivals.celery_task", celery.queue[0], logs / "plain.log")
        other = dramatiq_worker("benchmarks.rivals.dramatiq_actor", logs / "dramatiq.log")
        with running(second, plain, other):
            ours.hold_when_ready(second)
            celery.hold_when_ready(plain)
            dramatiq.hold_when_ready(other)
            server = {"Redis": stage.redis_pid}
            one = Cores({"worker": first.pid, **server})
            two = Cores({"worker": first.pid, "worker 2": second.pid, **server})
            samples = stage.interleave(
                {
                    "one": lambda: _rate(ours, sizes.our_messages, [first], one),
                    "two": lambda: _rate(ours, sizes.our_messages, [first, second], two),
                    "celery": lambda: _rate(celery, sizes.celery_messages, [plain]),
                    "dramatiq": lambda: _rate(dramatiq, sizes.dramatiq_messages, [other]),
                }
            )
    used = f"CPU used with one worker: {one}"
    cpus = os.cpu_count() or 1
    limit = (
        f"One with its Redis uses {one.in_all:.2f} of {cpus} cores, so that all of them would give "
        f"{cpus / one.in_all:.2f} times its rate"
    )
    return Measured(
        samples, {"worker-celery": f"{used}.", "two-workers": f"{limit}. {used}; with two: {two}."}
    )


def _rate(side: Side, messages: int, workers: list[Worker], cores: Cores | None = None) -> float:
    for worker in workers:
        worker.resume()
    target = side.counted() + messages
    with cores or nullcontext():
        began = time.perf_counter()
        for key in side.queue:
            side.client.copy(_kept(key), key)
        side.wait_until_counted(target)
        elapsed_s = time.perf_counter() - began
    side.wait_until_settled()
    for worker in workers:
        worker.hold()
    return messages / elapsed_s


def _keep_backlog(side: Side, messages: int) -> None:
    """Publish the messages and put the queue aside, to be copied back in one step. Of ours, which
    are many, the first 5,000 are published and the rest are the same bytes again."""
    for user in users(min(messages, USERS)):
        side.send(user)
    for key in side.queue:
        side.client.rename(key, _kept(key))
    listed = _kept(side.queue[-1])
    published = side.client.lrange(listed, 0, -1)
    for _ in range(messages // USERS - 1):
        side.client.rpush(listed, *published)


def _kept(key: str) -> str:
    return f"kept:{key}"
