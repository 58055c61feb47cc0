"""The log files of child processes, which no process can make grow without bound."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pipeline.system.private_files import open_private

LOG_LIMIT_BYTES = RUNNING_LIMIT_BYTES = 16 * 1024 * 1024
CHECKED_EVERY_S = 0.5
_TAIL_BYTES = 4096
_PART_BYTES = 256 * 1024


def rotate_log(log: Path) -> int:
    """Move a large log that no process writes to aside, to NAME.1. Returns the size of `log` in
    bytes afterwards."""
    try:
        size = log.stat().st_size
        if size <= LOG_LIMIT_BYTES:
            return size
        log.replace(_name_older(log))
    except FileNotFoundError:
        pass
    return 0


def bound_log(log: Path) -> None:
    """Copy the end of a large log to NAME.1 and empty it, while a process goes on writing to it.

    Lines written between the copying and the emptying are lost; on a full disk all of them are.
    """
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > RUNNING_LIMIT_BYTES:
            with contextlib.suppress(OSError):
                _copy_end(log, _name_older(log))
            os.truncate(log, 0)


def read_last_lines(log: Path, count: int, start: int = 0) -> list[str]:
    """The last `count` lines written to `log` after byte `start`, all of them when it was begun
    anew since. Raises OSError."""
    with log.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(start if start <= end else 0, end - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-count:]


def _copy_end(log: Path, copy: Path) -> None:
    with log.open("rb") as source, os.fdopen(open_private(copy), "wb") as target:
        source.seek(max(0, source.seek(0, os.SEEK_END) - RUNNING_LIMIT_BYTES))
        left = RUNNING_LIMIT_BYTES  # it may grow meanwhile
        while left and (part := source.read(min(left, _PART_BYTES))):
            left -= target.write(part)


def _name_older(log: Path) -> Path:
    return log.with_name(f"{log.name}.1")
