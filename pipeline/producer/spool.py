"""Messages kept on disk while the broker is away, so that they are sent once and none is forgotten.

A file holds the messages of one producer id, a line each, in the order of their numbers: the broker
takes a number once, so a process that finds the file after a crash may send again what is not
marked as sent. The broker remembers the number of a producer for a day: where the reply to the
message that was being sent at the crash was lost, and no process sends it within the day, that
message counts twice.

This is not SQLite, which writes and syncs more for a message and so takes fewer of them.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from pipeline.contract import MAX_MESSAGE_BYTES
from pipeline.system.file_locks import FileLock, lock_directory
from pipeline.system.private_files import sync_directory

_WAITING, _SENT = b"-", b"+"
_SUFFIX = ".spool"
_LONGEST_LINE_BYTES = 2 * MAX_MESSAGE_BYTES
_CHUNK_BYTES = 64 * 1024

logger = logging.getLogger(__name__)


class SpooledMessage(msgspec.Struct, array_like=True):
    """A message that waits: `end` is where its line ends in the file."""

    number: int
    task_id: str
    events: list[msgspec.Raw]
    end: int = 0


_read_message = msgspec.json.Decoder(SpooledMessage).decode


class Spool:
    """The file of one producer id, locked from its opening to `close` or the end of the process.

    The directory is locked while a spool is opened, made or removed: a removed file is not open.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open the file. Raises BlockingIOError when another process, or this one, has it open."""
        self.path = path
        lock = FileLock.try_acquire(path, create=create)
        if lock is None:
            raise BlockingIOError(f"{path} is open in another process, or in this one")
        self._lock = lock
        try:
            self._end = self._end_of_whole_lines()
            os.ftruncate(self._file, self._end)
        except OSError:
            self.close()
            raise
        self._sent_up_to = 0
        self._is_damaged = False

    @classmethod
    def of(cls, directory: Path, producer_id: str) -> Spool:
        """A new file for the messages of a producer id."""
        with lock_directory(directory):
            spool = cls(directory / f"{producer_id}{_SUFFIX}", create=True)
        sync_directory(directory)
        return spool

    @classmethod
    def left_over(cls, directory: Path, at_most: int) -> list[Spool]:
        """Open the spools that dead processes have left. One that cannot be opened is logged and
        stays."""
        found: list[Spool] = []
        with lock_directory(directory):
            for path in sorted(directory.glob(f"*{_SUFFIX}")):
                if len(found) == at_most:
                    break
                try:
                    found.append(cls(path))
                except BlockingIOError:
                    continue
                except OSError as error:
                    logger.warning("%s waits for a tracker that can open it: %s", path, error)
        return found

    @property
    def producer_id(self) -> str:
        return self.path.name.removesuffix(_SUFFIX)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._end

    def append(self, number: int, task_id: str, events: Sequence[bytes]) -> None:
        """Write a message, and have it on the disk when this returns.

        Raises OSError, such as that the disk is full, and has then written nothing.
        """
        line = b'%b[%d,"%b",[%b]]\n' % (_WAITING, number, task_id.encode(), b",".join(events))
        view, at = memoryview(line), self._end
        try:
            while view:
                written = os.pwrite(self._file, view, at)
                view, at = view[written:], at + written
            os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, self._end)
            raise
        self._end = at

    def first(self) -> SpooledMessage | None:
        """The first message not sent yet; None when all are."""
        while self._sent_up_to < self._end:
            line = self._line(self._sent_up_to)
            end = self._sent_up_to + len(line)
            if not line.startswith(_SENT):
                try:
                    message = _read_message(line.removeprefix(_WAITING))
                except msgspec.DecodeError as error:
                    self._is_damaged = True
                    logger.error(
                        "a message in %s cannot be read and is not sent: %s", self.path, error
                    )
                else:
                    message.end = end
                    return message
            self._sent_up_to = end
        return None

    def mark_sent(self, first: SpooledMessage) -> None:
        """Remember that the broker has taken the first message."""
        os.pwrite(self._file, _SENT, self._sent_up_to)
        self._sent_up_to = first.end

    def delete(self) -> None:
        """All is sent: remove the file. One with a line that could not be read is set aside."""
        with lock_directory(self.path.parent):
            if self._is_damaged:
                self.path.rename(self.path.with_suffix(f".{secrets.token_hex(4)}.damaged"))
            else:
                self.path.unlink(missing_ok=True)
            self.close()

    def close(self) -> None:
        """Close and unlock the file; it stays."""
        self._lock.close()

    @property
    def _file(self) -> int:
        return self._lock.descriptor

    def _line(self, at: int) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            chunk = os.pread(self._file, _CHUNK_BYTES, at + len(line))
            if not chunk:
                raise OSError(f"{self.path} was cut by somebody else")
            line += chunk[: chunk.find(b"\n") + 1 or None]
        return line

    def _end_of_whole_lines(self) -> int:
        """Where the last whole line ends; what a crash left after it was never promised."""
        size = os.fstat(self._file).st_size
        tail_at = max(0, size - _LONGEST_LINE_BYTES)
        tail = os.pread(self._file, size - tail_at, tail_at)
        return tail_at + tail.rfind(b"\n") + 1
