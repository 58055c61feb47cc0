"""Directories with what is not for every user's eyes: that of the private servers, and spools."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.upkeep.checkup.check import Check

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MAY_PASS = stat.S_IXGRP | stat.S_IXOTH
_SHOWN = 3


def check_directory(name: str, path: Path) -> Check:
    """Whether the directory and the files directly in it are their owner's alone, and usable by
    this user; one that is not there is fine."""
    try:
        found = path.stat()
        fault = _find_fault(path, found)
    except FileNotFoundError:
        return Check(name, "fine", f"{path} is not there yet")
    except OSError as error:
        return Check(name, "wrong", f"{path} cannot be read ({error.strerror})", "run as its owner")
    if fault is not None:
        return Check(name, "wrong", *fault)
    return Check(name, "fine", f"{path} is its owner's alone")


def _find_fault(path: Path, found: os.stat_result) -> tuple[str, str] | None:
    """What is wrong and what to do. Raises OSError."""
    if not stat.S_ISDIR(found.st_mode):
        return f"{path} is no directory", "name another, or remove the file"
    if found.st_mode & _OTHERS & ~_MAY_PASS:
        what = f"other users may look into {path} (mode {stat.S_IMODE(found.st_mode):04o})"
        return what, f"chmod go-rw {path}"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        what = f"this user may not write in {path}, which belongs to user {found.st_uid}"
        return what, f"run as that user, or chown {path}"
    open_files = sorted(one.name for one in _find_open_files(path, found.st_uid))
    if open_files:
        shown = ", ".join(open_files[:_SHOWN])
        return f"other users may read {shown} in {path}", f"chmod go-rwx {path}/*"
    return None


def _find_open_files(directory: Path, owner: int) -> Iterator[Path]:
    for path in directory.iterdir():
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and (found.st_mode & _OTHERS or found.st_uid != owner):
            yield path
