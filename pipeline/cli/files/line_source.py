"""The numbered lines of a file or of standard input, unpacked when gzipped, in constant memory."""

from __future__ import annotations

import gzip
import io
import os
import select
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pipeline.contract import MAX_MESSAGE_BYTES
from pipeline.errors import UnreadableFile

# No event can be longer than the message that carries it.
MAX_LINE_BYTES = MAX_MESSAGE_BYTES
STANDARD_INPUT = "-"

_GZIP_MAGIC = b"\x1f\x8b"
_READ_BYTES = 128 * 1024
Waiting = Callable[[], AbstractContextManager[object]]
IDLE_AFTER_S = 1.0
"""How long a pipe is waited for before what was read of it so far should go its way."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end; `data` is None when it is longer than `MAX_LINE_BYTES`."""

    number: int
    data: bytes | None


class LineSource:
    """What `open_lines` gives: iterate it for the lines, once."""

    def __init__(
        self, name: str, raw: Any, size_bytes: int | None, waiting: Waiting = nullcontext
    ) -> None:
        """`raw` is the file as it is stored, without a buffer; `size_bytes` its size, None when
        that is not known. Bytes are waited for in a block of `waiting`."""
        self.name = name
        self.size_bytes = size_bytes
        self._counted = _CountedReader(raw, waiting)
        stored = io.BufferedReader(self._counted, _READ_BYTES)
        packed = self._counted.begins_with(_GZIP_MAGIC)
        self._lines = io.BufferedReader(_Unpacked(stored), _READ_BYTES) if packed else stored

    @property
    def read_bytes(self) -> int:
        """How much of the stored file was read so far."""
        return self._counted.read_bytes

    def on_idle(self, call: Callable[[], None]) -> None:
        """Have this called whenever the next bytes keep the reader waiting for a second."""
        self._counted.call_idle = call

    def __iter__(self) -> Iterator[Line]:
        number = 0
        while True:
            try:
                data = self._lines.readline(MAX_LINE_BYTES + 2)
                rest = data
                while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = self._lines.readline(MAX_LINE_BYTES + 2)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                # The part of a line before the fault is not looked at: cut short, it could still be
                # a valid event, though not the one that was written.
                raise UnreadableFile(
                    f"{self.name}: the gzip data is damaged or cut short after line {number} "
                    f"({error}); get the whole file again"
                ) from error
            except OSError as error:
                raise _cannot_read(self.name, error) from error
            if not data:
                return
            number += 1
            data = data.removesuffix(b"\n").removesuffix(b"\r")
            yield Line(number, None if len(data) > MAX_LINE_BYTES else data)


class _CountedReader(io.RawIOBase):
    """Counts the bytes read through it, and can look at the first ones beforehand."""

    call_idle: Callable[[], None] | None = None

    def __init__(self, raw: Any, waiting: Waiting) -> None:
        self._raw = raw
        self._waiting = waiting
        self._head = b""
        self.read_bytes = 0

    def begins_with(self, magic: bytes) -> bool:
        while len(self._head) < len(magic):
            self._wait()
            more = self._raw.read(len(magic) - len(self._head))
            if not more:
                break
            self._head += more
        return self._head == magic

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            head, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
            buffer[: len(head)] = head
            size = len(head)
        else:
            self._wait()
            size = self._raw.readinto(buffer) or 0
        self.read_bytes += size
        return size

    def _wait(self) -> None:
        """Wait for bytes, and say whenever that takes long."""
        try:
            waited_for = [self._raw.fileno()]
        except OSError:  # not a file
            return
        while not self._is_ready(waited_for):
            if self.call_idle is not None:
                self.call_idle()

    def _is_ready(self, waited_for: list[int]) -> bool:
        with self._waiting():
            return bool(select.select(waited_for, [], [], IDLE_AFTER_S)[0])


class _Unpacked(io.RawIOBase):
    """What a gzip file holds, up to a fault of the file: GzipFile itself drops the last part."""

    def __init__(self, stored: Any) -> None:
        self._file = gzip.GzipFile(fileobj=stored)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_lines(path: str, waiting: Waiting = nullcontext) -> Iterator[LineSource]:
    """Open a file, or standard input for `-`; bytes are waited for in a block of `waiting`. Raises
    `UnreadableFile`."""
    if path == STANDARD_INPUT:
        stdin = cast("io.BufferedReader", sys.stdin.buffer)
        yield LineSource("standard input", stdin.raw, None, waiting)
        return
    if Path(path).is_dir():
        raise UnreadableFile(f"{path} is a directory; name one file, or pipe several into `-`")
    try:
        file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed below, and only its opening may fail here
    except OSError as error:
        raise _cannot_read(path, error) from error
    with file:
        about = os.fstat(file.fileno())
        yield LineSource(
            path, file, about.st_size if stat.S_ISREG(about.st_mode) else None, waiting
        )


def _cannot_read(name: str, error: OSError) -> UnreadableFile:
    return UnreadableFile(f"cannot read {name}: {error.strerror or error}")
