"""What Redis can do: pipelined INCR of random keys by redis-benchmark, or where that is not
installed by a client of our own that does as little."""

from __future__ import annotations

import csv
import random
import shutil
import subprocess
import time
from urllib.parse import urlsplit

from benchmarks.rivals.bare_redis import BareRedis, command
from benchmarks.stage.stage import USERS

DEPTH = 500
"""Commands in a pipeline. One connection with this depth is the fastest of those tried; more of
them share the two cores with the server."""


def program() -> str | None:
    """The redis-benchmark to run, if there is one."""
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


def incr_per_s(redis_url: str, commands: int) -> float:
    """INCRs a second, over one connection, 500 at a time, of 5,000 keys."""
    found = program()
    return _by_program(found, redis_url, commands) if found else _by_socket(redis_url, commands)


def _by_program(found: str, redis_url: str, commands: int) -> float:
    url = urlsplit(redis_url)
    options = {"-p": url.port, "-n": commands, "-r": USERS, "-c": 1, "-P": DEPTH, "-t": "incr"}
    arguments = [found, "--csv", *[str(part) for pair in options.items() for part in pair]]
    ran = subprocess.run(
        [*arguments, "-a", url.password or ""], capture_output=True, text=True, check=True
    )
    *_, last = csv.reader(ran.stdout.splitlines())
    return float(last[1])


def _by_socket(redis_url: str, commands: int) -> float:
    chosen = random.Random(commands)
    pipelines = [
        b"".join(command(b"INCR", b"counter:%012d" % chosen.randrange(USERS)) for _ in range(DEPTH))
        for _ in range(50)
    ]
    with BareRedis(redis_url) as bare:
        began = time.perf_counter()
        for number in range(commands // DEPTH):
            bare.ask(pipelines[number % len(pipelines)], answers=DEPTH)
        return commands // DEPTH * DEPTH / (time.perf_counter() - began)
