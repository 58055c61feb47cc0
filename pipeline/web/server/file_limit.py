"""The limit of open files, which bounds how many connections a process can hold."""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass

_RESERVED = 1_280
"""Open files beside connections: to Redis and Postgres, logs, and connections that have been
accepted before older ones have ended."""

logger = logging.getLogger("uvicorn.error")


@dataclass(frozen=True)
class FileBudget:
    """What the limit of open files leaves room for."""

    connections: int
    backlog: int
    """Connections that the kernel holds until they are accepted, possibly all at once: half of what
    is reserved."""


def divide_file_limit(wanted: int) -> FileBudget:
    """Room for so many connections, or for as many as there can be.

    Raises the limit of open files as far as that needs and the hard limit allows; logs where it
    stays too low.
    """
    needed = wanted + _RESERVED
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < needed:  # RLIM_INFINITY is negative
        limit = min(needed, hard) if hard >= 0 else needed
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if not 0 <= limit < needed:
        return FileBudget(wanted, _RESERVED // 2)
    reserved = min(max(limit // 4, 64), limit // 2)
    logger.warning(
        "%d files may be open at once, so at most %d connections; for %d raise the hard limit to "
        "%d (ulimit -Hn, LimitNOFILE=, nofile)",
        limit,
        limit - reserved,
        wanted,
        needed,
    )
    return FileBudget(min(limit - reserved, wanted), reserved // 2)
