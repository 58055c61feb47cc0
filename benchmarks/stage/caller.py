"""What a call costs its caller: the mean of some hundred calls a round, with no worker running."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import cast

from benchmarks.report.report import Measured, Samples
from benchmarks.rivals.bare_redis import BareRedis, command
from benchmarks.stage import sides
from benchmarks.stage.processes import apart
from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, Stage, users
from pipeline import Tracker
from pipeline.contract import EVENTS_QUEUE

_WARM_UP_CALLS = 20
_TIMED_ONE_BY_ONE = 1_000
_BARE_QUEUE = "rival.bare"


def measure(stage: Stage) -> Measured:
    """Microseconds a call of ours, of both rivals, and of a bare LPUSH of the bytes we send."""
    ours, celery, dramatiq = sides.ours(stage), sides.celery(stage), sides.dramatiq(stage)
    client, calls = stage.services.redis, stage.sizes.calls
    ours.send("first")
    message = cast("bytes", client.lindex(EVENTS_QUEUE, 0))
    push = command(b"LPUSH", _BARE_QUEUE.encode(), message)
    single_calls_us: list[float] = []
    cpu_us: Samples = {}

    def mean_of(call: Callable[[str], object], queue: Sequence[str]) -> Callable[[], float]:
        def sample() -> float:
            _mean_us(call, users(_WARM_UP_CALLS))
            began_s = time.thread_time()
            mean_us = _mean_us(call, users(calls))
            used_us = (time.thread_time() - began_s) / calls * 1e6
            cpu_us.setdefault(queue[0], []).append(used_us)
            client.delete(*queue)
            return mean_us

        return sample

    def tracker() -> float:
        """Calls as fast as they go. The sending thread runs at the same time, and what it takes
        from the caller is in the figure."""
        with Tracker() as tracker:

            def track(user: str) -> None:
                tracker.track(EVENT_TYPE, user, PROPERTIES)

            mean_us = _mean_us(track, users(stage.sizes.tracked))
            single_calls_us.extend(_mean_us(track, [user]) for user in users(_TIMED_ONE_BY_ONE))
        client.delete(*ours.queue)
        return mean_us

    with BareRedis(stage.redis_url) as bare, apart(stage.redis_pid):
        samples = stage.interleave(
            {
                "delay": mean_of(ours.send, ours.queue),
                "celery": mean_of(celery.send, celery.queue),
                "dramatiq": mean_of(dramatiq.send, dramatiq.queue),
                "bare": mean_of(lambda _: bare.ask(push), [_BARE_QUEUE]),
                "tracker": tracker,
            },
            stage.sizes.rounds_of_calls,
        )
    floor = statistics.median(samples["bare"])
    in_reach = statistics.median(samples["celery"]) / floor
    ours_cpu, bare_cpu = (
        statistics.median(cpu_us[queue]) for queue in (ours.queue[0], _BARE_QUEUE)
    )
    notes = {
        "delay-bare": f"Of a call {ours_cpu:.0f} µs are CPU time of the caller, of a bare LPUSH "
        f"{bare_cpu:.0f}.",
        "delay-celery": f"A bare LPUSH of the same bytes takes {floor:.0f} µs, so that with one "
        f"round trip no more than {in_reach:.1f} is in reach.",
    }
    notes["tracker-celery"] = (
        "The mean of calls as fast as they go, with what the sending thread takes; half of the "
        f"calls take less than {statistics.median(single_calls_us):.1f} µs."
    )
    return Measured(samples, notes)


def _mean_us(call: Callable[[str], object], who: Sequence[str]) -> float:
    began = time.perf_counter()
    for user in who:
        call(user)
    return (time.perf_counter() - began) / len(who) * 1e6
