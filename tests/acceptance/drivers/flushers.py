"""Starting `flush_driver`: flushes in processes of their own that die or pause at a moment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.helpers.processes import LIMIT_S, piped_python


@dataclass(frozen=True)
class Flushers:
    """Flushes of one Redis into one Postgres, `batch_size` counters a batch."""

    redis_url: str
    postgres_url: str
    batch_size: int

    def killed(self, at: str, nth: int, *options: str) -> None:
        """Run a flush that must die at this moment."""
        with self._started("--at", at, "--nth", f"{nth}", "--then", "kill", *options) as process:
            said, errors = process.communicate(timeout=LIMIT_S)
            assert process.returncode == -9, f"{at} {nth} never came: {said}{errors}"

    def whole(self, *options: str) -> int:
        """Run a flush to its end; returns how many counters it stored."""
        with self.running(*options) as process:
            return finish(process)

    @contextmanager
    def paused(self, at: str, nth: int = 1, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A flush that has come to this moment and waits there for `finish`."""
        with self._started("--at", at, "--nth", f"{nth}", "--then", "pause", *options) as process:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == at, process.communicate()
            yield process

    @contextmanager
    def running(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A flush that runs beside the test until `finish`."""
        with self._started(*options) as process:
            yield process

    @contextmanager
    def _started(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        command = ["-m", "tests.acceptance.drivers.flush_driver", self.redis_url, self.postgres_url]
        with piped_python(*command, "--batch-size", f"{self.batch_size}", *options) as process:
            yield process


def go_on(process: subprocess.Popen[str]) -> None:
    """End the pause of a flush."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> int:
    """Let a flush go on to its end; returns how many counters it stored."""
    said, errors = process.communicate(timeout=LIMIT_S)  # closes its input, which ends a pause
    assert process.returncode == 0, errors
    return int(said)
