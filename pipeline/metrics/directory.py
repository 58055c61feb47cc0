"""Where the processes of a machine leave their numbers for the one that serves them.

Each process has a file, and a lock on another for as long as it lives: whichever way it ends, the
kernel drops the lock. What it left is then added to the numbers of all that have ended. No process
id is relied on, since they are given again.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.metrics.tally import Rows, add_rows
from pipeline.system.file_locks import FileLock, lock_directory
from pipeline.system.private_files import make_private_directory

_ENDED = "ended.json"
_LOCK, _NUMBERS = ".lock", ".numbers"
_REMEMBERED = 100
"""Processes whose numbers were added: a crash before their files are removed adds none twice."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """The numbers of all processes, those that have ended too; how many live, and the memory of
    those, in bytes, by role."""

    rows: Rows
    processes: Counter[str]
    memory_bytes: Counter[str]


class Entry:
    """The place of this process in the directory, until it ends."""

    def __init__(self, directory: Path, role: str) -> None:
        """Raises OSError."""
        self._role = role
        token = secrets.token_hex(8)
        self._path = directory / f"{token}{_NUMBERS}"
        with lock_directory(directory):  # until it is locked it looks like one that has ended
            self._lock = FileLock.try_acquire(directory / f"{token}{_LOCK}")

    def write(self, rows: Rows) -> None:
        """Replace the numbers of this process. Raises OSError."""
        _write(self._path, {"role": self._role, "pid": os.getpid(), "rows": _encode(rows)})


class MetricsDirectory:
    """The directory of the processes that share a port."""

    def __init__(self, path: Path) -> None:
        """Make it, for this user only. Raises OSError."""
        make_private_directory(path)
        self.path = path

    def enter(self, role: str) -> Entry:
        """The place of this process. Raises OSError."""
        return Entry(self.path, role)

    def read(self) -> Found:
        """Everything that is there; what ended processes left is added up. Raises OSError."""
        found = Found({}, Counter(), Counter())
        with lock_directory(self.path):
            ended = _read(self.path / _ENDED)
            rows, added = _decode(ended.get("rows")), list(ended.get("added", ()))
            gone = []
            for path in sorted(self.path.glob(f"*{_LOCK}")):
                numbers, token = _read(path.with_suffix(_NUMBERS)), path.stem
                lock = FileLock.try_acquire(path)
                if lock is None:
                    _note_living(found, numbers)
                    continue
                lock.close()
                gone.append(path)
                if token not in added:
                    add_rows(rows, _decode(numbers.get("rows")))
                    added.append(token)
            if gone:
                kept = {"rows": _encode(rows), "added": added[-_REMEMBERED:]}
                _write(self.path / _ENDED, kept)
                _remove(gone)
        add_rows(found.rows, rows)
        return found


def _note_living(found: Found, numbers: dict[str, Any]) -> None:
    if not numbers:  # it has entered, and not written yet
        return
    role = str(numbers["role"])
    add_rows(found.rows, _decode(numbers["rows"]))
    found.processes[role] += 1
    if memory_bytes := read_memory_bytes(int(numbers["pid"])):
        found.memory_bytes[role] += memory_bytes


def read_memory_bytes(pid: int) -> int:
    """The resident memory of a process; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGESIZE")
    return 0


def _remove(locks: list[Path]) -> None:
    for path in locks:
        for left in path.parent.glob(f"{path.stem}{_NUMBERS}*"):  # one half-written too
            left.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _encode(rows: Rows) -> list[Any]:
    return [[name, labels, row] for (name, labels), row in rows.items()]


def _decode(rows: Any) -> Rows:
    return {(name, tuple(labels)): row for name, labels, row in rows or ()}


def _write(path: Path, content: dict[str, Any]) -> None:
    """Replace a file; a reader sees the old one or the new one. A power cut may take it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _read(path: Path) -> dict[str, Any]:
    """The content of a file; nothing where there is none, or a damaged one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        logger.warning("%s is damaged, and its numbers are left out: %s", path, error)
        return {}
    return content if isinstance(content, dict) else {}
