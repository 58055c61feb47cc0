"""The numbered lines of a file or of standard input, unpacked when gzipped, in constant memory."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.contract import MAX_MESSAGE_BYTES
from pipeline.errors import UnreadableFile

# No event can be longer than the message that carries it.
MAX_LINE_BYTES = MAX_MESSAGE_BYTES
STANDARD_INPUT = "-"

_GZIP_MAGIC = b"\x1f\x8b"
_READ_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True)
class Line:
    """A line without its end; `data` is None when it is longer than `MAX_LINE_BYTES`."""

    number: int
    data: bytes | None


class LineSource:
    """What `open_lines` gives: iterate it for the lines, once."""

    def __init__(self, name: str, raw: IO[bytes], size_bytes: int | None) -> None:
        """`raw` is the file as it is stored; `size_bytes` its size, None when that is not known."""
        self.name = name
        self.size_bytes = size_bytes
        self._counted = _CountedReader(raw)
        stored = io.BufferedReader(self._counted, _READ_BYTES)
        packed = self._counted.begins_with(_GZIP_MAGIC)
        self._lines = io.BufferedReader(_Unpacked(stored), _READ_BYTES) if packed else stored

    @property
    def read_bytes(self) -> int:
        """How much of the stored file was read so far."""
        return self._counted.read_bytes

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

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._head = b""
        self.read_bytes = 0

    def begins_with(self, magic: bytes) -> bool:
        self._head = self._raw.read(len(magic))
        return self._head == magic

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        # read1, not read: a line that arrives on a pipe is worked on when it is there.
        data = self._head or self._raw.read1(len(buffer))  # type: ignore[attr-defined]
        self._head = b""
        buffer[: len(data)] = data
        self.read_bytes += len(data)
        return len(data)


class _Unpacked(io.RawIOBase):
    """What a gzip file holds, up to a fault of the file: GzipFile itself drops the last part."""

    def __init__(self, stored: IO[bytes]) -> None:
        self._file = gzip.GzipFile(fileobj=stored)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_lines(path: str) -> Iterator[LineSource]:
    """Open a file, or standard input for `-`. Raises `UnreadableFile`."""
    if path == STANDARD_INPUT:
        yield LineSource("standard input", sys.stdin.buffer, None)
        return
    if Path(path).is_dir():
        raise UnreadableFile(f"{path} is a directory; name one file, or pipe several into `-`")
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below, and only its opening may fail here
    except OSError as error:
        raise _cannot_read(path, error) from error
    with file:
        about = os.fstat(file.fileno())
        yield LineSource(path, file, about.st_size if stat.S_ISREG(about.st_mode) else None)


def _cannot_read(name: str, error: OSError) -> UnreadableFile:
    return UnreadableFile(f"cannot read {name}: {error.strerror or error}")
