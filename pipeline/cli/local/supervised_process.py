"""A process of `analytics up` that is started again when it ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.system.logs import rotate_log
from pipeline.system.processes import ChildProcess, Command

_FIRST_RESTART_S = 1.0
_SLOWEST_RESTART_S = 30.0
_LIVED_LONG_S = 60.0
_POLL_S = 0.05


@dataclass(frozen=True)
class ProcessPlan:
    """A process to run. `node` is the name under which it answers Celery's ping (None: it does
    not), `port` is where it listens on loopback (None: nowhere).
    """

    name: str
    command: Command
    node: str | None = None
    port: int | None = None


class SupervisedProcess:
    """One process kept running."""

    def __init__(self, plan: ProcessPlan) -> None:
        """Use `start`."""
        self.plan = plan
        self._pause_s = _FIRST_RESTART_S
        self._start_at: float | None = None
        self._started_at = 0.0
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        """The name in messages and in the name of its log."""
        return self.plan.name

    @property
    def pid(self) -> int:
        """The process id of the last start; 0 before the first."""
        return self._child.pid if self._child else 0

    def has_ended(self) -> bool:
        """Whether no process runs."""
        return self._child is None or self._child.has_ended()

    def start(self) -> None:
        """Start the process. Raises OSError or SubprocessError when the system refuses one."""
        self._started_at = time.monotonic()
        rotate_log(self.plan.command.log)
        self._child = ChildProcess(self.plan.command)
        self._child.wait_until_started()

    def keep_running(self) -> str | None:
        """Start it again when it has ended, after a pause that doubles; returns a line on that."""
        now = time.monotonic()
        if self._start_at is not None:
            if now < self._start_at:
                return None
            self._start_at = None
            self.start()
            return f"{self.name}: started again, process {self.pid}"
        if self._child is None or not self._child.has_ended():
            return None
        if now - self._started_at > _LIVED_LONG_S:
            self._pause_s = _FIRST_RESTART_S
        self._start_at = now + self._pause_s
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, _SLOWEST_RESTART_S)
        return (
            f"{self.name}: {_explain_end(self._child.exit_code)}; starting it again in "
            f"{pause_s:g} s. Its log: {self.plan.command.log}"
        )

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._child is not None:
            self._child.send(signal.SIGTERM)

    def kill(self) -> None:
        """End the process and all of its group now. Harmless to the counts, and when repeated."""
        if self._child is not None:
            self._child.send_to_group(signal.SIGKILL)
            self._child.wait()


def stop_processes(
    processes: Sequence[SupervisedProcess], within_s: float, in_a_hurry: Callable[[], bool]
) -> None:
    """Ask all to end; kill what has not after `within_s`, or as soon as `in_a_hurry` says so."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + within_s
    while not all(process.has_ended() for process in processes):
        if time.monotonic() > deadline or in_a_hurry():
            break
        time.sleep(_POLL_S)
    for process in processes:
        process.kill()


def _explain_end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
