"""Child processes that leave nothing behind: how private servers and `analytics up` run programs.

A child leads a session and a process group of its own: Ctrl-C in a terminal reaches its owner only,
which decides what to stop. With the child ends what is left of its group. How a child notices that
its owner was killed is in `launcher`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.system.logs import CHECKED_EVERY_S, bound_log
from pipeline.system.private_files import open_private


@dataclass(frozen=True)
class Command:
    """What to run: `arguments` with `environment`, its output appended to the file `log`, which has
    mode 0600 and is bounded (see `logs`).

    `directory` is where to run it (None: where this process runs), `descriptors` are the open files
    that it inherits.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    directory: Path | None = None
    descriptors: Sequence[int] = ()


class ChildProcess:
    """A process, and the thread that starts it and waits for it.

    The kernel sends the death signal of a child when the *thread* that started it ends (prctl(2)),
    so that thread lives as long as the child, whichever thread asked for the start. Any thread may
    call the methods.
    """

    def __init__(self, command: Command) -> None:
        """Begin to start it; `wait_until_started` says whether that worked."""
        self.pid = 0
        """The process id, and that of its group; 0 before the start."""
        self.exit_code: int | None = None
        """As `subprocess` has it: negative for a signal; None while the process runs."""
        self._error: Exception | None = None
        self._started = threading.Event()
        self._ended = threading.Event()
        self._ending = threading.Lock()
        keeper = threading.Thread(
            target=self._keep, args=(command,), name=f"keeper of {command.log.stem}", daemon=True
        )
        keeper.start()

    def wait_until_started(self) -> None:
        """Return once there is a process. Raises OSError or SubprocessError when there is none."""
        self._started.wait()
        if self._error is not None:
            raise self._error

    def has_ended(self) -> bool:
        """Whether the process has ended, or never started."""
        return self._ended.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end, for `timeout_s` seconds at most; returns whether it has come."""
        return self._ended.wait(timeout_s)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process; nothing happens when it has ended."""
        self._signal(os.kill, number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and those of its children that did not leave its group."""
        self._signal(os.killpg, number)

    def _signal(self, send: Callable[[int, int], None], number: signal.Signals) -> None:
        self._started.wait()
        with self._ending:  # the number of a process that is not reaped cannot be another's
            if not self._ended.is_set():
                with contextlib.suppress(ProcessLookupError):
                    send(self.pid, number)

    def _keep(self, command: Command) -> None:
        try:
            process = _start(command)
            self.pid = process.pid
        except (OSError, subprocess.SubprocessError) as error:
            self._error = error
            self._ended.set()
            return
        finally:
            self._started.set()
        bounding = threading.Thread(
            target=self._bound_log, args=(command.log,), name=f"{command.log.name}", daemon=True
        )
        bounding.start()
        _wait_without_reaping(process)
        with self._ending:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            self.exit_code = process.wait()
            self._ended.set()

    def _bound_log(self, log: Path) -> None:
        while not self._ended.wait(CHECKED_EVERY_S):
            with contextlib.suppress(OSError):
                bound_log(log)


def _start(command: Command) -> subprocess.Popen[bytes]:
    with os.fdopen(open_private(command.log, append=True), "ab") as output:
        return subprocess.Popen(
            list(command.arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=command.directory,
            env=dict(command.environment),
            pass_fds=tuple(command.descriptors),
            start_new_session=True,
        )


def _wait_without_reaping(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process; the number of its group stays its own until it is reaped."""
    if sys.platform == "linux":
        with contextlib.suppress(ChildProcessError):  # reaped by other code of this program
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()
