"""The log files of child processes."""

from __future__ import annotations

import os
from pathlib import Path

LOG_LIMIT_BYTES = 16 * 1024 * 1024
_TAIL_BYTES = 4096


def rotate_log(log: Path) -> int:
    """Move a large log aside, to NAME.1. Returns the size of `log` in bytes afterwards."""
    try:
        size = log.stat().st_size
        if size <= LOG_LIMIT_BYTES:
            return size
        log.replace(log.with_name(f"{log.name}.1"))
    except FileNotFoundError:
        pass
    return 0


def read_last_lines(log: Path, count: int, start: int = 0) -> list[str]:
    """The last `count` lines written to `log` after byte `start`. Raises OSError."""
    with log.open("rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-count:]
