"""Lock files: who owns a data directory, and which server still uses its files.

The locks are flock(2) locks: the kernel drops them when the last process that holds them has died,
so nothing stale is left by `kill -9`. A server inherits the descriptor of its own lock: as long as
any process of it lives, no second one is started on the same files, even when its owner and its pid
file are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import EmbeddedServerFailed

ORPHAN_STOP_S = 5.0
ORPHAN_LIMIT_S = 60.0
_POLL_S = 0.02

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """A held lock on a file, until it is closed here and in all that inherited its descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        _held.add(self)

    @classmethod
    def try_acquire(cls, path: Path) -> FileLock | None:
        """Lock `path`, made when absent with mode 0600; None when another process holds it.

        Raises EmbeddedServerFailed when the file cannot be opened or its file system has no locks.
        """
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise EmbeddedServerFailed(
                f"{path} cannot be locked ({error.strerror}): give a data directory on a local "
                "disk that this user may write"
            ) from error
        return cls(descriptor)

    def write(self, text: str) -> None:
        """Replace the content of the lock file, which tells others who holds it."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def close(self) -> None:
        """Release the lock in this process; a repeat does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _forget_in_child() -> None:
    # A forked worker must not keep the directory locked after its parent, the owner, has died.
    for lock in list(_held):
        lock.close()


os.register_at_fork(after_in_child=_forget_in_child)


@contextlib.contextmanager
def exclusive(
    path: Path, directory: Path, stop_signal: signal.Signals, abort_signal: signal.Signals
) -> Iterator[FileLock]:
    """Hold the lock of a server with files in `directory`, once no process uses them any more.

    An orphan, which no owner watches any more, gets `stop_signal`, after 5 s `abort_signal`, and
    after 10 s SIGKILL. Raises EmbeddedServerFailed when the files are in use for a minute.
    """
    began = time.monotonic()
    signalled: set[tuple[int, signal.Signals]] = set()
    while (lock := FileLock.try_acquire(path)) is None:
        waited = time.monotonic() - began
        pid = written_pid(path)
        if waited > ORPHAN_LIMIT_S:
            raise EmbeddedServerFailed(
                f"{directory} is still in use by an earlier run (process {pid}, lock {path}): end "
                "that process"
            )
        number = (stop_signal, abort_signal, signal.SIGKILL)[min(2, int(waited / ORPHAN_STOP_S))]
        for orphan in _processes(pid, directory) if pid else ():
            if (orphan, number) not in signalled:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan, number)
                signalled.add((orphan, number))
        time.sleep(_POLL_S)
    try:
        yield lock
    finally:
        lock.close()


def written_pid(path: Path) -> int | None:
    """The process id that the holder of the lock file wrote into it; None before it did."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _processes(group: int, directory: Path) -> list[int]:
    """Processes of `group` whose command lines name `directory`: no strangers of that number."""
    wanted = os.fsencode(directory)
    return [pid for pid, command in _commands(group) if wanted in command]


def _commands(group: int) -> Iterator[tuple[int, bytes]]:
    if sys.platform == "linux":
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(ValueError, OSError):
                if os.getpgid(int(entry.name)) == group:
                    yield int(entry.name), (entry / "cmdline").read_bytes()
    else:
        listing = subprocess.run(
            ["ps", "-axww", "-o", "pid=,pgid=,command="], capture_output=True, check=False
        ).stdout
        for line in listing.splitlines():
            pid, own_group, command = line.split(None, 2)
            if int(own_group) == group:
                yield int(pid), command
