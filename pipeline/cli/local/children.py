"""Child processes that are kept running and leave nothing behind: how `analytics up` works."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # Linux, <sys/prctl.h>
_FIRST_RESTART_S = 1.0
_SLOWEST_RESTART_S = 30.0
_LIVED_LONG_S = 60.0
_POLL_S = 0.05
_LOG_BYTES = 10 * 1024 * 1024


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent has died, even by `kill -9`.

    Called by the child, not between fork and exec, where Python code can deadlock. Where the system
    is not Linux the child stays when its parent is killed with -9.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        # It died before the kernel was told.
        sys.exit(f"the process that started this one, {parent_pid}, has ended")


@dataclass(frozen=True)
class Program:
    """What a child is: `command` with `environment`, in `directory`, its output going to `log`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: Path
    log: Path


class Child:
    """One program kept running, in a session and process group of its own."""

    def __init__(self, program: Program) -> None:
        """Start it."""
        self.program = program
        self._pause_s = _FIRST_RESTART_S
        self._start_at: float | None = None
        self._process = self._start()

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """The process id, and that of its group."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether the process has ended. It is not reaped, so that its group's id stays its own."""
        if self._process.returncode is not None:
            return True
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def keep_running(self) -> str | None:
        """Start again what has ended, after a pause that doubles; returns what to tell the user."""
        now = time.monotonic()
        if self._start_at is not None:
            if now < self._start_at:
                return None
            self._start_at = None
            self._process = self._start()
            return f"{self.name}: started again, process {self.pid}"
        if not self.ended():
            return None
        self.kill()
        if now - self._started_at > _LIVED_LONG_S:
            self._pause_s = _FIRST_RESTART_S
        self._start_at = now + self._pause_s
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, _SLOWEST_RESTART_S)
        return (
            f"{self.name}: {_how_it_ended(self._process.returncode)}; starting it again in "
            f"{pause_s:g} s. Its log: {self.program.log}"
        )

    def terminate(self) -> None:
        """Ask the process to end. Its own children are its own business until `kill`."""
        if not self.ended():
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and all of its group now. Harmless to the counts, and when repeated."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started_at = time.monotonic()
        log = self.program.log
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(log.name + ".1"))
        with log.open("ab") as output:
            return subprocess.Popen(
                list(self.program.command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.program.directory,
                env=dict(self.program.environment),
                start_new_session=True,
            )


def stop_children(
    children: Sequence[Child], within_s: float, in_a_hurry: Callable[[], bool] = lambda: False
) -> None:
    """Ask all to end; kill what has not after `within_s`, or as soon as `in_a_hurry` says so."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + within_s
    while not all(child.ended() for child in children):
        if time.monotonic() > deadline or in_a_hurry():
            break
        time.sleep(_POLL_S)
    for child in children:
        child.kill()


def _how_it_ended(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
