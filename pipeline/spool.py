"""Messages kept on disk while the broker is away, so that they are sent once and none is forgotten.

A file holds the messages of one producer id, a line each, in the order of their numbers: the broker
takes a number once, so whoever finds the file after a crash may send all of it again.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

_WAITING, _SENT = b"-", b"+"
_SUFFIX = ".spool"


class Entry(msgspec.Struct, array_like=True):
    """A message that waits: `at` is the place of its line in the file."""

    number: int
    task_id: str
    events: list[msgspec.Raw]
    at: int = 0


class Spool:
    """The file of one producer id; locked as long as this process lives."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises BlockingIOError when another process has it."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise
        self._end = self._cut_torn_line()
        _open_spools.add(self)

    @classmethod
    def of(cls, directory: Path, producer_id: str) -> Spool:
        """The spool of a producer id."""
        directory.mkdir(parents=True, exist_ok=True)
        return cls(directory / f"{producer_id}{_SUFFIX}")

    @classmethod
    def left_over(cls, directory: Path) -> Iterator[Spool]:
        """The spools that dead processes have left."""
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            try:
                yield cls(path)
            except BlockingIOError:
                continue

    @property
    def producer_id(self) -> str:
        return self.path.name.removesuffix(_SUFFIX)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._end

    def append(self, number: int, task_id: str, events: Sequence[bytes]) -> None:
        """Write a message, and have it on the disk when this returns."""
        line = b'%b[%d,"%b",[%b]]\n' % (_WAITING, number, task_id.encode(), b",".join(events))
        view = memoryview(line)
        at = self._end
        while view:
            written = os.pwrite(self._file, view, at)
            view, at = view[written:], at + written
        os.fsync(self._file)
        self._end = at

    def waiting(self) -> Iterator[Entry]:
        """The messages not sent yet, in their order."""
        at = 0
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            for line in file:
                if line.startswith(_WAITING):
                    entry = msgspec.json.decode(line[1:], type=Entry)
                    entry.at = at
                    yield entry
                at += len(line)

    def mark_sent(self, entry: Entry) -> None:
        """Remember that the broker has taken the message."""
        os.pwrite(self._file, _SENT, entry.at)

    def delete(self) -> None:
        """All is sent: remove the file."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file; it stays."""
        _open_spools.discard(self)
        os.close(self._file)

    def _cut_torn_line(self) -> int:
        """Where the last whole line ends; what a crash left after it was never promised."""
        size = os.fstat(self._file).st_size
        end = 0
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            for line in file:
                if line.endswith(b"\n"):
                    end += len(line)
        if end < size:
            os.ftruncate(self._file, end)
        return end


# A lock belongs to the open file, which a forked child shares: there it would outlive the parent.
_open_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


def _let_go_of_all() -> None:
    for spool in list(_open_spools):
        spool.close()


os.register_at_fork(after_in_child=_let_go_of_all)
