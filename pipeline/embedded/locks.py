"""Who owns a data directory, and which server still uses its files.

Both are file locks. A server inherits the descriptor of its own lock: as long as any process of it
lives, no second one is started on the same files, even when its owner and its pid file are gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import EmbeddedServerFailed
from pipeline.system.file_locks import FileLock, read_pid

ORPHAN_STOP_S = 5.0
ORPHAN_LIMIT_S = 60.0
_POLL_S = 0.02


def try_lock(path: Path) -> FileLock | None:
    """Lock the file `path`, made when absent; None when another process holds it.

    Raises EmbeddedServerFailed when the file cannot be opened or its file system has no locks.
    """
    try:
        return FileLock.try_acquire(path)
    except OSError as error:
        raise EmbeddedServerFailed(
            f"{path} cannot be locked ({error.strerror}): give a data directory on a local disk "
            "that this user may write"
        ) from error


@contextlib.contextmanager
def lock_server_files(
    path: Path, directory: Path, stop_signal: signal.Signals, abort_signal: signal.Signals
) -> Iterator[FileLock]:
    """Hold the lock of a server with files in `directory`, once no process uses them any more.

    An orphan, which no owner watches any more, gets `stop_signal`, after 5 s `abort_signal`, and
    after 10 s SIGKILL. Raises EmbeddedServerFailed when the files are in use for a minute.
    """
    began = time.monotonic()
    signalled: set[tuple[int, signal.Signals]] = set()
    while (lock := try_lock(path)) is None:
        waited = time.monotonic() - began
        pid = read_pid(path)
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
