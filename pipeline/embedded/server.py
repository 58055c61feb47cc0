"""One private server: a child process that keeps its port and files through every restart."""

from __future__ import annotations

import contextlib
import enum
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded import credentials, locks, privileges
from pipeline.errors import EmbeddedServerFailed
from pipeline.system.file_locks import FileLock

START_LIMIT_S = 30.0
RECOVERY_LIMIT_S = 1_800.0
STOP_LIMIT_S = 5.0
ABORT_LIMIT_S = 2.0
LOG_LIMIT_BYTES = 16 * 1024 * 1024
_LOG_LINES_SHOWN = 8
_POLL_S = 0.02


class Answer(enum.Enum):
    """What a server says when asked whether it works; RECOVERING: it still reads its own files."""

    READY = enum.auto()
    RECOVERING = enum.auto()
    NONE = enum.auto()


@dataclass(frozen=True)
class Program:
    """How to run a server.

    `arguments` is the whole command line and names `directory`, which also tells its process from
    strangers. `ask` looks once, briefly, whether the server answers at a URL, and must not raise.
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
    ask: Callable[[str], Answer]
    stale: Path | None = None
    explain: Callable[[str], str] = lambda log: ""


class Server:
    """A private server of this process; any thread may call its methods, one at a time."""

    def __init__(self, program: Program, data_dir: Path) -> None:
        self._program = program
        self._log = data_dir / f"{program.name}.log"
        self._lock_path = lock_path(data_dir, program.name)
        self._child: _Child | None = None

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
        return self._child is not None and not self._child.ended.is_set()

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
            log_start = _rotated_size(self._log)
            self._child = _Child(program, self._log, lock)
            self._child.wait_until_started()
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
        if self._child is not None and not self._child.ended.wait(
            max(0, deadline - time.monotonic())
        ):
            self.abort()

    def kill(self) -> None:
        """SIGKILL the process and wait for its end; `start` brings back all it acknowledged."""
        if self._child is not None:
            self._child.send(signal.SIGKILL)
            self._child.ended.wait()

    def abort(self) -> None:
        """End at once, with all child processes; what was acknowledged is kept."""
        if self._child is not None:
            self._child.send_to_group(self._program.abort_signal)
            if not self._child.ended.wait(ABORT_LIMIT_S):
                self.kill()

    def _wait_until_ready(self, log_start: int) -> None:
        assert self._child is not None
        started = time.monotonic()
        limit = START_LIMIT_S
        while not self._child.ended.wait(_POLL_S):
            answer = self._program.ask(self._program.url)
            if answer is Answer.READY:
                return
            if answer is Answer.RECOVERING:
                limit = RECOVERY_LIMIT_S
            if time.monotonic() - started > limit:
                raise self._error(
                    f"did not answer on port {self.port} within {limit:.0f} s", log_start
                )
        raise self._error(f"ended while starting on port {self.port}", log_start)

    def _error(self, what: str, log_start: int) -> EmbeddedServerFailed:
        lines = last_lines(self._log, log_start)
        return EmbeddedServerFailed(
            f"the private {self.name} server {what}; its log {self._log} says:\n{lines}"
            f"{self._program.explain(lines)}"
        )


class _Child:
    """A process, and the thread that starts it and waits for it.

    The kernel sends the death signal of a child when the *thread* that started it ends (prctl(2)),
    so that thread has to live as long as the child, whichever thread asked for the start.
    """

    def __init__(self, program: Program, log: Path, lock: FileLock) -> None:
        self.pid = 0
        self.ended = threading.Event()
        self._started = threading.Event()
        self._error: Exception | None = None
        self._process: subprocess.Popen[bytes] | None = None
        keep = threading.Thread(
            target=self._keep, args=(program, log, lock), name=f"{program.name} keeper", daemon=True
        )
        keep.start()

    def wait_until_started(self) -> None:
        """Return once there is a process; EmbeddedServerFailed when the system refuses one."""
        self._started.wait()
        if self._error is not None:
            raise EmbeddedServerFailed(f"no process can be started: {self._error}") from self._error

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        if self._process is not None and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and those of its children that did not leave its group."""
        if self._process is not None and not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _keep(self, program: Program, log: Path, lock: FileLock) -> None:
        try:
            log.touch(mode=0o600)
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    privileges.command(
                        program.arguments,
                        program.way,
                        program.directory,
                        lock.descriptor,
                        program.stop_signal,
                    ),
                    env=privileges.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock.descriptor,),
                    # Ctrl-C in a terminal goes to the whole process group; only the owner stops
                    # servers.
                    start_new_session=True,
                )
            self.pid = self._process.pid
        except (OSError, subprocess.SubprocessError) as error:
            self._error = error
            self.ended.set()
            return
        finally:
            self._started.set()
        self._process.wait()
        self.ended.set()


def lock_path(data_dir: Path, name: str) -> Path:
    """The lock file that every process of the server called `name` holds."""
    return data_dir / f"{name}.lock"


def last_lines(log: Path, start: int) -> str:
    """The last lines written to `log` after byte `start`, indented."""
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - 4096))
        lines = file.read().decode(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
    return "\n".join(f"    {line}" for line in lines) or "    (nothing)"


def _rotated_size(log: Path) -> int:
    """The size of `log` in bytes, after moving a large one aside."""
    try:
        size = log.stat().st_size
        if size <= LOG_LIMIT_BYTES:
            return size
        log.replace(log.with_name(f"{log.name}.1"))
    except FileNotFoundError:
        pass
    return 0
