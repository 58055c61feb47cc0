"""Locks on files, which the kernel drops when the last process that holds them has died.

These are flock(2) locks, so `kill -9` leaves no stale one. A lock belongs to the open file: a
program that inherits the descriptor holds the lock too, as long as it lives. A forked child must
not, so it closes its copies: its parent's lock ends with its parent.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.system.forks import at_fork

_held: set[FileLock] = set()


class FileLock:
    """A held lock on an open file, until it is closed here and in all that inherited it."""

    def __init__(self, descriptor: int) -> None:
        """Use `try_acquire`."""
        self.descriptor = descriptor
        """The file, open for reading and writing; -1 when the lock is released."""
        _held.add(self)

    @classmethod
    def try_acquire(cls, path: Path, *, create: bool = True) -> FileLock | None:
        """Open `path` and lock it; None when another process, or this one, has locked it.

        With `create` the file is made when absent, with mode 0600. Raises OSError when it cannot be
        opened or its file system has no locks.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        lock = cls(os.open(path, flags, 0o600))
        try:
            fcntl.flock(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return None
        except OSError:
            lock.close()
            raise
        return lock

    def write(self, text: str) -> None:
        """Replace the content of the file, by which others know who holds the lock."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text.encode(), 0)

    def close(self) -> None:
        """Release the lock in this process; a repeat does nothing."""
        _held.discard(self)
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def read_pid(path: Path) -> int | None:
    """The process id that the holder of the lock on `path` wrote into it; None before it did."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


@contextmanager
def lock_directory(path: Path) -> Iterator[None]:
    """Hold the lock on the directory `path`, once no other process or thread does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile has it too
        os.close(descriptor)


def _close_in_child() -> None:
    for lock in list(_held):
        lock.close()


at_fork(after_in_child=_close_in_child)
