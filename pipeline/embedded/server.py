"""One private server: a child process that keeps its port and files through every restart."""

from __future__ import annotations

import enum
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded import credentials, locks, privileges
from pipeline.errors import EmbeddedServerFailed
from pipeline.system.file_locks import FileLock
from pipeline.system.logs import read_last_lines, rotate_log
from pipeline.system.processes import ChildProcess, Command

START_LIMIT_S = 30.0
RECOVERY_LIMIT_S = 1_800.0
STOP_LIMIT_S = 5.0
ABORT_LIMIT_S = 2.0
_LOG_LINES_SHOWN = 8
_POLL_S = 0.02


class Readiness(enum.Enum):
    """Whether a server works; RECOVERING: it still reads its own files."""

    READY = enum.auto()
    RECOVERING = enum.auto()
    SILENT = enum.auto()


@dataclass(frozen=True)
class Program:
    """How to run a server.

    `arguments` is the whole command line and names `directory`, which also tells its process from
    strangers. `probe` asks once, briefly, whether the server at a URL works, and must not raise.
    `stop_signal` ends it cleanly, `abort_signal` at once with all its children. `stale` is a file
    that a killed server leaves and that hinders the next. `explain` adds to an error what the end
    of the log does not say: a line break and a sentence, or nothing.
    """

    name: str
    arguments: tuple[str, ...]
    directory: Path
    port: int
    url: str
    way: privileges.Way
    stop_signal: signal.Signals
    abort_signal: signal.Signals
    probe: Callable[[str], Readiness]
    stale: Path | None = None
    explain: Callable[[str], str] = lambda log: ""


class Server:
    """A private server of this process; any thread may call its methods, one at a time."""

    def __init__(self, program: Program, data_dir: Path) -> None:
        self._program = program
        self._log = data_dir / f"{program.name}.log"
        self._lock_path = lock_path(data_dir, program.name)
        self._child: ChildProcess | None = None

    @property
    def name(self) -> str:
        """ "redis" or "postgres"."""
        return self._program.name

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; the same after every restart."""
        return self._program.port

    @property
    def url(self) -> str:
        """URL with the password."""
        return self._program.url

    @property
    def pid(self) -> int:
        """Process id of the server, or of its last run when it does not run; 0 before the first."""
        return self._child.pid if self._child else 0

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and not self._child.has_ended()

    def start(self) -> None:
        """Start and wait until the server answers; does nothing when it runs.

        Works after any kind of end: what is left of an earlier run is finished first. Raises
        EmbeddedServerFailed with the last lines of the log when the server ends instead, or does
        not answer in time; no process is left then.
        """
        if self.alive():
            return
        program = self._program
        with locks.lock_server_files(
            self._lock_path, program.directory, program.stop_signal, program.abort_signal
        ) as lock:
            if not credentials.wait_until_free(program.port):
                raise EmbeddedServerFailed(
                    f"port {program.port} of 127.0.0.1, on which the private {self.name} server "
                    "listened, is taken by another program: end that program, or start the "
                    "private servers anew"
                )
            if program.stale is not None:
                program.stale.unlink(missing_ok=True)
            log_start = rotate_log(self._log)
            self._start_child(lock)
        try:
            self._wait_until_ready(log_start)
        except BaseException:
            self.abort()
            raise

    def stop(self) -> None:
        """End cleanly within 5 s, else by force; does nothing when it does not run."""
        self.ask_to_stop()
        self.wait_until_stopped(time.monotonic() + STOP_LIMIT_S)

    def ask_to_stop(self) -> None:
        """Begin a clean end without waiting for it."""
        if self._child is not None:
            self._child.send(self._program.stop_signal)

    def wait_until_stopped(self, deadline: float) -> None:
        """Wait for the end until `deadline` (monotonic seconds), then force it."""
        if self._child is not None and not self._child.wait(max(0, deadline - time.monotonic())):
            self.abort()

    def kill(self) -> None:
        """SIGKILL the process and wait for its end; `start` brings back all it acknowledged."""
        if self._child is not None:
            self._child.send(signal.SIGKILL)
            self._child.wait()

    def abort(self) -> None:
        """End at once, with all child processes; what was acknowledged is kept."""
        if self._child is not None:
            self._child.send_to_group(self._program.abort_signal)
            if not self._child.wait(ABORT_LIMIT_S):
                self.kill()

    def _start_child(self, lock: FileLock) -> None:
        program = self._program
        arguments = privileges.build_command(
            program.arguments, program.way, program.directory, lock.descriptor, program.stop_signal
        )
        environment = privileges.build_environment()
        command = Command(arguments, environment, self._log, descriptors=[lock.descriptor])
        try:
            self._child = ChildProcess(command)
            self._child.wait_until_started()
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedServerFailed(f"no process can be started: {error}") from error

    def _wait_until_ready(self, log_start: int) -> None:
        assert self._child is not None
        started = time.monotonic()
        limit = START_LIMIT_S
        while not self._child.wait(_POLL_S):
            readiness = self._program.probe(self._program.url)
            if readiness is Readiness.READY:
                return
            if readiness is Readiness.RECOVERING:
                limit = RECOVERY_LIMIT_S
            if time.monotonic() - started > limit:
                raise self._explain(
                    f"did not answer on port {self.port} within {limit:.0f} s", log_start
                )
        raise self._explain(f"ended while starting on port {self.port}", log_start)

    def _explain(self, what: str, log_start: int) -> EmbeddedServerFailed:
        lines = read_last_lines(self._log, _LOG_LINES_SHOWN, log_start)
        shown = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return EmbeddedServerFailed(
            f"the private {self.name} server {what}; its log {self._log} says:\n{shown}"
            f"{self._program.explain(shown)}"
        )


def lock_path(data_dir: Path, name: str) -> Path:
    """The lock file that every process of the server called `name` holds."""
    return data_dir / f"{name}.lock"
