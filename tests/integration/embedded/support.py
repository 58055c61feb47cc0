"""What the tests of private servers share."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from pipeline.embedded import (
    PrivateServers,
)

ROOT = Path(__file__).resolve().parents[3]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Another process that owns private servers: prints a line when they run, stops them when its
# input ends.
OWNER = """
import os, sys
from pathlib import Path
from pipeline.embedded import PrivateServers

{preamble}
try:
    servers = PrivateServers.start(Path(sys.argv[1]), redis={redis}, postgres={postgres})
except Exception as error:
    print("failed", type(error).__name__, error, flush=True)
    sys.exit(1)
pids = [server.pid for server in (servers.redis, servers.postgres) if server is not None]
print("attached" if servers.attached else "started", *pids, flush=True)
{then}
sys.stdin.read()
servers.stop()
"""


@dataclass(frozen=True)
class Flavour:
    """Which programs to run: None for those of the packages."""

    redis_binary: Path | None
    postgres_bin_dir: Path | None

    def start(self, data_dir: Path, **options: Any) -> PrivateServers:
        return PrivateServers.start(
            data_dir,
            redis_binary=self.redis_binary,
            postgres_bin_dir=self.postgres_bin_dir,
            **options,
        )


def not_here(what: str) -> None:
    """Skip on a developer's machine that lacks `what`, fail where everything should be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing although CI is set")
    pytest.skip(f"{what} is not on this machine")


def installed_redis() -> Path:
    binary = shutil.which("redis-server")
    if binary is None:
        not_here("redis-server")
    return Path(str(binary))


def installed_postgres() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    if not found:
        not_here("an installed Postgres")
    return found[-1]


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def eventually(condition: Callable[[], object], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.01)


def processes_naming(directory: Path) -> list[int]:
    """Live server processes whose command line names `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            if os.fsencode(directory) in (entry / "cmdline").read_bytes() and pid != os.getpid():
                found.append(pid)
    return found


class Owner:
    """Another process that starts servers in `data_dir`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool = False,
        redis: bool = True,
        preamble: str = "",
        then: str = "",
        **options: Any,
    ) -> None:
        script = OWNER.format(redis=redis, postgres=postgres, preamble=preamble, then=then)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **options,
        )

    def line(self) -> list[str]:
        """The words of the next line that it prints."""
        assert self.process.stdout is not None
        line: str = self.process.stdout.readline()
        return line.split()

    def started(self) -> list[int]:
        word, *pids = self.line()
        assert word == "started", pids
        return [int(pid) for pid in pids]

    def stop(self) -> None:
        with self.process:
            if self.process.stdin is not None:
                self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def redis_of(servers: PrivateServers) -> redis.Redis:
    assert servers.redis_url is not None
    return redis.Redis.from_url(servers.redis_url, decode_responses=True)


def sql(servers: PrivateServers, statement: str) -> Any:
    assert servers.postgres_url is not None
    with psycopg.connect(servers.postgres_url.replace("+psycopg", "")) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None
