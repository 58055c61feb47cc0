"""A process of its own that flushes when it is told to, as a flush worker does.

`python -m benchmarks.stage.flusher` makes its connections, writes a line, waits for one, flushes,
and writes how that went as JSON: counters stored, begin and end (CLOCK_MONOTONIC), and memory.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Self

from benchmarks.stage.processes import peak_bytes
from config.options import pipeline_options
from config.settings import Settings
from pipeline.services import connect


@dataclass(frozen=True)
class Flushed:
    """What a flush did. Memory is the most that the process ever had resident, at the end and
    before."""

    stored: int
    began_s: float
    ended_s: float
    peak_bytes: float
    before_bytes: float

    @property
    def elapsed_s(self) -> float:
        """How long it took."""
        return self.ended_s - self.began_s


class Flusher:
    """The process, seen from the one that started it."""

    def __init__(self) -> None:
        """Start it, and wait until it has its connections."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stage.flusher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        self._read()

    def begin(self) -> None:
        """Let it flush; returns at once."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    @property
    def is_flushing(self) -> bool:
        """Whether the result is not there yet."""
        assert self._process.stdout is not None
        return not select.select([self._process.stdout], [], [], 0)[0]

    def result(self) -> Flushed:
        """What the flush did, once it has ended."""
        return Flushed(**json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the flusher has ended with {self._process.wait()}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    """Flush once, when a line comes."""
    redis_url, postgres_url = (
        os.environ[f"ANALYTICS_{server}_URL"] for server in ("REDIS", "POSTGRES")
    )
    services = connect(pipeline_options(Settings()), redis_url, postgres_url)
    services.status()  # makes the connections
    print("ready", flush=True)
    sys.stdin.readline()
    before_bytes = peak_bytes()
    began_s = time.monotonic()
    stored = services.flush()
    ended_s = time.monotonic()
    print(json.dumps(vars(Flushed(stored, began_s, ended_s, peak_bytes(), before_bytes))))


if __name__ == "__main__":
    main()
