"""Worker processes of ours and of the rivals: started, held still while others are measured, and
asked for the CPU time they used."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_STOP_LIMIT_S = 15
_WORTH_TELLING = 0.05
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Worker:
    """A process group with a log file of its own; `python -m` and these arguments."""

    def __init__(self, arguments: Sequence[str], log: Path, **environment: str) -> None:
        """Start it."""
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdout=output,
                stderr=output,
                env=os.environ | environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def hold(self) -> None:
        """Stop it where it is: it takes no messages and no CPU time until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"a worker has ended:\n{tail}")
        os.killpg(self.pid, number)

    def close(self) -> None:
        """End it, cleanly if it can."""
        if self._process.poll() is not None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


@dataclass
class Cores:
    """The share of a core that processes, and the rest of this machine, used while something was
    measured, and the share of the time that a process was ready to run and had none.

    A context around each measurement; the medians of all of them are told.
    """

    pids: dict[str, int]
    rest: str = "everything else"
    used: dict[str, list[float]] = field(default_factory=dict)
    waited: dict[str, list[float]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._began_s, self._before = time.monotonic(), self._so_far_s()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed_s = time.monotonic() - self._began_s
        shares = (self.used, self.waited)
        for noted, before, now in zip(shares, self._before, self._so_far_s(), strict=True):
            for name, at_s in now.items():
                noted.setdefault(name, []).append((at_s - before[name]) / elapsed_s)

    def _so_far_s(self) -> tuple[dict[str, float], dict[str, float]]:
        used = {name: cpu_s(pid) for name, pid in self.pids.items()}
        waited = {name: waited_s(pid) for name, pid in self.pids.items()}
        return {**used, self.rest: busy_s() - sum(used.values())}, waited

    @property
    def in_all(self) -> float:
        """How many cores were in use."""
        return sum(statistics.median(shares) for shares in self.used.values())

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {statistics.median(shares):.0%}" + self._waiting(name)
            for name, shares in self.used.items()
        )

    def _waiting(self, name: str) -> str:
        share = statistics.median(self.waited.get(name, [0]))
        return f" (and waited {share:.0%} for one)" if share >= _WORTH_TELLING else ""


@contextmanager
def running(*workers: Worker) -> Iterator[None]:
    """The workers run during the block, and are ended after it."""
    try:
        yield
    finally:
        for worker in workers:
            worker.close()


def celery_worker(app: str, queue: str, log: Path) -> Worker:
    """One Celery worker process. For a rival's short tasks `solo` is as fast as a pool of one
    process or of four threads, all of which were tried; for ours it is how it is run."""
    options = ["--pool", "solo", "--loglevel", "ERROR", "--hostname", f"{log.stem}@%h"]
    return Worker(["celery", "-A", app, "worker", "-Q", queue, *options], log)


def dramatiq_worker(module: str, log: Path) -> Worker:
    """One dramatiq worker process with what made it fastest of 1 to 64 threads and of what may be
    prefetched."""
    arguments = ["dramatiq", module, "--processes", "1", "--threads", "16"]
    return Worker(arguments, log, dramatiq_queue_prefetch="500")


def cpu_s(pid: int) -> float:
    """The CPU time that a process has used; NaN where the system has no /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def waited_s(pid: int) -> float:
    """How long the main thread of a process was ready to run and had no core; NaN as above."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return float("nan")


@contextmanager
def apart(pid: int) -> Iterator[None]:
    """Keep this thread, those that it starts, and the main thread of another process on cores of
    their own, as those of an application and of Redis mostly are. On one core a short command is
    answered in a quarter of the time, and which of the two a run gets is chance."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(allowed) < 2:
        yield
        return
    first = min(allowed)
    os.sched_setaffinity(pid, {first})
    os.sched_setaffinity(0, allowed - {first})
    try:
        yield
    finally:
        os.sched_setaffinity(pid, allowed)
        os.sched_setaffinity(0, allowed)


def busy_s() -> float:
    """The CPU time that all processes of this machine have used; NaN where there is no /proc."""
    try:
        total = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return float("nan")
    user, nice, system, _idle, _waiting, *interrupts = map(int, total[:7])
    return (user + nice + system + sum(interrupts)) / _TICKS_A_SECOND


def used_s() -> float:
    """The CPU time of this process and of those that it has started and that have ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


def peak_bytes() -> float:
    """The most memory that this process ever had resident; NaN where the system has no /proc."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    # Not getrusage: what it says a child begins with the size of its parent.
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
