"""A process of its own that gives Redis a small command every few milliseconds and notes the
longest that it waited for an answer.

`python -m benchmarks.stage.probe` writes a line when it has begun; when its input ends, one with
the longest wait (ms).
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Self

import redis

from benchmarks.rivals.bare_redis import BareRedis, command

_EVERY_S = 0.002
_KEY = b"benchmarks:probe"
_LOGGED_FROM_US = 1_000
_SHOWN = 80


@dataclass(frozen=True)
class Stall:
    """The longest that a client waited, and the longest command that Redis logged (ms) with its
    first words."""

    seen_ms: float
    command_ms: float
    command: str


class Probe:
    """The process, seen from the one that started it; a context around what is measured."""

    def __init__(self, client: redis.Redis) -> None:
        """Start it, and wait until it is connected. `client` reads Redis's log of slow commands."""
        self._client = client
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stage.probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        client.config_set("slowlog-log-slower-than", _LOGGED_FROM_US)
        client.config_set("slowlog-max-len", 100_000)
        client.slowlog_reset()

    def result(self) -> Stall:
        """What it saw."""
        output, _ = self._process.communicate()
        slow = [(entry["duration"], entry["command"]) for entry in self._client.slowlog_get(-1)]
        longest_us, words = max(slow, default=(0, b""))
        shown = words[:_SHOWN].decode(errors="replace")
        return Stall(float(output), longest_us / 1e3, shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Ask until the input ends."""
    incr = command(b"INCR", _KEY)
    longest_s = 0.0
    with BareRedis(os.environ["ANALYTICS_REDIS_URL"]) as bare:
        bare.ask(incr)
        print("asking", flush=True)
        while not select.select([sys.stdin], [], [], _EVERY_S)[0]:
            began_s = time.perf_counter()
            bare.ask(incr)
            longest_s = max(longest_s, time.perf_counter() - began_s)
    print(longest_s * 1e3)


if __name__ == "__main__":
    main()
