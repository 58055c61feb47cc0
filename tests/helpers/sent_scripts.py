"""Which script a command calls, as a connection to Redis sends it: packed."""

from __future__ import annotations

import re
from collections.abc import Sequence

_CALL = re.compile(rb"\*\d+\r\n\$7\r\nEVALSHA\r\n\$40\r\n([0-9a-f]{40})\r\n")


def script_of(command: str | bytes | Sequence[bytes]) -> str | None:
    """The SHA of the script; None where the command is another."""
    first = command if isinstance(command, str | bytes) else command[0]
    found = _CALL.match(first.encode() if isinstance(first, str) else first)
    return found[1].decode() if found else None
