"""The limit of open files, which bounds how many connections a process can hold."""

from __future__ import annotations

import logging
import resource

_RESERVED = 256
"""Open files beside connections: to Redis and Postgres, logs, and those that are accepted before
older ones have ended."""
_LEAST_CONNECTIONS = 64

logger = logging.getLogger("uvicorn.error")


def bound_connections(wanted: int) -> int:
    """How many connections there can be, at most those wanted. Raises the limit of open files as
    far as that needs and the hard limit allows; logs where it stays too low."""
    needed = wanted + _RESERVED
    limit, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    if limit == resource.RLIM_INFINITY or limit >= needed:
        return wanted
    possible = max(limit - _RESERVED, min(limit // 2, _LEAST_CONNECTIONS))
    logger.warning(
        "%d files may be open at once, so %d connections at most; for %d raise the hard limit to "
        "%d (ulimit -Hn, LimitNOFILE=, nofile)",
        limit,
        possible,
        wanted,
        needed,
    )
    return possible
