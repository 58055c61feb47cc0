"""Everything on one machine: private servers, migrations, and the Celery processes, kept running.

Whoever holds a `Supervisor` is the parent of all its processes: should it be killed, the kernel
kills them, and the next start finds everything as the append-only file and Postgres have it.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.cli import context
from pipeline.cli.context import DATA_DIR_VARIABLE
from pipeline.cli.local.children import Child, Program, stop_children
from pipeline.errors import AlreadyRunning, NotReady, PipelineError
from pipeline.system.file_locks import FileLock, read_pid

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.embedded import PrivateServers, Server

READY_WITHIN_S = 60.0
# With the servers' five seconds this stays under the ten that are promised.
CHILDREN_END_WITHIN_S = 4.0
PORTS_TRIED = 20

WORKER, BEAT, FLOWER, WEB = "worker ", "beat", "flower", "web"

_POLL_S = 0.05
_PING_TIMEOUT_S = 0.5
_LOG_LINES_SHOWN = 3


@dataclass(frozen=True)
class Running:
    """A row of what runs: its name, process id (None: not ours), where it is, and its log."""

    name: str
    pid: int | None
    where: str
    log: Path | None


class Supervisor:
    """Starts everything on entry, and stops all of it on exit."""

    def __init__(self, settings: Settings, tell: Callable[[str], None]) -> None:
        """`tell` is given a line about whatever happens to the processes."""
        self._settings = settings
        self._data_dir = settings.data_dir.absolute()
        self._tell = tell
        self._lock: FileLock | None = None
        self._servers: PrivateServers | None = None
        self._children: list[Child] = []
        self._hurry = False
        self.stopping = False
        self.ports: dict[str, int] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def hurry(self) -> None:
        """Have `stop` wait for nothing."""
        self._hurry = True

    def wait_until_ready(self) -> None:
        """Return when every worker answers, and Flower and the web server listen.

        Raises `NotReady`.
        """
        app = context.load_celery_app()
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            self.keep_running()
            names = {node.partition("@")[0] for node in _answering(app)}
            missing = [child.name for child in self._children if not _answers(child.name, names)]
            missing += [name for name, port in self.ports.items() if not _listens(port)]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise NotReady(self._why_not_ready(missing[0]))
            time.sleep(_POLL_S)

    def keep_running(self) -> None:
        """Start again whatever has ended."""
        if self._servers is not None:
            for server in self._servers.check():
                self._tell(f"{server.name}: ended; starting it again with its data")
                try:
                    server.start()
                except PipelineError as error:
                    self._tell(f"{server.name}: {error}")
        for child in self._children:
            line = child.keep_running()
            if line is not None:
                self._tell(line)

    def running(self) -> list[Running]:
        """What runs, servers first."""
        from config import urls

        rows = [self._server_row("redis"), self._server_row("postgres")]
        broker = context.find_broker_url(self._settings)
        if broker is not None:
            rows.insert(0, Running("rabbitmq", None, urls.mask(broker), None))
        for child in self._children:
            port = self.ports.get(child.name)
            where = f"http://127.0.0.1:{port}" if port else ""
            rows.append(Running(child.name, child.pid, where, child.program.log))
        return rows

    def stop(self) -> None:
        """Stop the children, then the servers. Leaves no process, and may be called again."""
        self.stopping = True
        stop_children(self._children, CHILDREN_END_WITHIN_S, lambda: self._hurry)
        self._children = []
        if self._servers is not None:
            self._servers.stop()
            self._servers = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _start(self) -> None:
        self._start_servers()
        self._take_lock()
        settings = self._settings
        redis_url, postgres_url = (
            context.find_redis_url(settings),
            context.find_postgres_url(settings),
        )
        _prepare(redis_url, postgres_url, settings.appendfsync)
        environment = _child_environment(self._data_dir, redis_url, postgres_url)
        for name, arguments in self._programs():
            self._children.append(Child(self._program(name, arguments, environment)))

    def _start_servers(self) -> None:
        from pipeline import server_addresses
        from pipeline.embedded import PrivateServers

        redis, postgres = self._settings.redis_url is None, self._settings.postgres_url is None
        if not redis and not postgres:
            return
        self._servers = PrivateServers.start(
            self._data_dir,
            redis=redis,
            postgres=postgres,
            appendfsync=self._settings.appendfsync,
        )
        if self._servers.attached:
            holder = server_addresses.read(self._data_dir)
            raise self._already_running(str(holder.pid) if holder else "unknown")

    def _take_lock(self) -> None:
        """Keep a second `up` away also when the servers are not private ones."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        path = self._data_dir / "up.lock"
        self._lock = FileLock.try_acquire(path)
        if self._lock is None:
            raise self._already_running(str(read_pid(path) or "unknown"))
        self._lock.write(str(os.getpid()))

    def _already_running(self, holder: str) -> AlreadyRunning:
        return AlreadyRunning(
            f"`analytics up` already runs on {self._data_dir} (process {holder}): "
            "stop it first, or give this one another --data-dir"
        )

    def _programs(self) -> list[tuple[str, Sequence[str]]]:
        """The name and the `analytics` arguments of every child."""
        names = [f"events{number + 1}" for number in range(self._settings.event_workers)]
        programs: list[tuple[str, Sequence[str]]] = [
            *((WORKER + name, ["worker", "events", "--name", name]) for name in names),
            (WORKER + "flush", ["worker", "flush"]),
            (BEAT, ["beat"]),
        ]
        for name, wanted in self._listeners():
            port = self.ports[name] = _free_port(wanted, f"ANALYTICS_{name.upper()}_PORT")
            if port != wanted:
                self._tell(f"{name}: port {wanted} is taken, so it listens on {port}")
            programs.append((name, [name, "--port", str(port)]))
        return programs

    def _listeners(self) -> list[tuple[str, int]]:
        """Name and port, as the settings want it, of what answers over HTTP."""
        wanted = [(FLOWER, self._settings.flower_port), (WEB, self._settings.web_port)]
        if self._settings.web_port and importlib.util.find_spec("uvicorn") is None:
            self._tell("web: not installed (pip install analytics-pipeline[web])")
            wanted.pop()
        return [(name, port) for name, port in wanted if port]

    def _program(self, name: str, arguments: Sequence[str], environment: dict[str, str]) -> Program:
        logs = self._data_dir / "logs"
        logs.mkdir(exist_ok=True)
        # -P: a package `tasks` or `config` in the current directory is not ours.
        command = [sys.executable, "-P", "-m", "pipeline.cli", *arguments]
        command += ["--parent-pid", str(os.getpid())]
        log = logs / f"{name.replace(' ', '-')}.log"
        return Program(name, command, environment, self._data_dir, log)

    def _server_row(self, name: str) -> Running:
        from config import urls

        given = self._settings.redis_url if name == "redis" else self._settings.postgres_url
        if given is not None:
            return Running(name, None, urls.mask(given.get_secret_value()), None)
        server: Server = getattr(self._servers, name)
        where = f"127.0.0.1:{server.port}"
        return Running(name, server.pid, where, self._data_dir / f"{name}.log")

    def _why_not_ready(self, name: str) -> str:
        child = next(child for child in self._children if child.name == name)
        try:
            lines = child.program.log.read_text(errors="replace").splitlines()
        except OSError:
            lines = []
        last = " / ".join(line.strip() for line in lines[-_LOG_LINES_SHOWN:] if line.strip())
        return (
            f"{name} was not ready after {READY_WITHIN_S:g} s; see {child.program.log}, "
            f"which ends with: {last or '(nothing)'}"
        )


def data_dir_hint(settings: Settings) -> str:
    """What to add to other commands so that they find these servers, "" when nothing is needed."""
    if settings.data_dir.absolute() == Path(".analytics").absolute():
        return ""
    return f" --data-dir {shlex.quote(str(settings.data_dir.absolute()))}"


def _prepare(redis_url: str, postgres_url: str, appendfsync: str) -> None:
    """Refuse servers that each worker would refuse in its log; bring the tables up to date."""
    from pipeline.postgres.engine import check_postgres, postgres_engine
    from pipeline.postgres.schema import migrate
    from pipeline.redis.client import check_redis, redis_client

    with redis_client(redis_url) as client:
        check_redis(client, appendfsync)
    engine = postgres_engine(postgres_url)
    try:
        migrate(engine)
        check_postgres(engine)
    finally:
        engine.dispose()


def _child_environment(data_dir: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    project = str(Path(__file__).resolve().parents[3])
    # The children run elsewhere, where a relative entry would be another directory.
    others = [
        str(Path(entry).absolute())
        for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if entry
    ]
    return {
        **os.environ,
        "ANALYTICS_REDIS_URL": redis_url,
        "ANALYTICS_POSTGRES_URL": postgres_url,
        DATA_DIR_VARIABLE: str(data_dir),
        "PYTHONPATH": os.pathsep.join([project, *others]),
        "PYTHONUNBUFFERED": "1",
    }


def _answering(app: Any) -> list[str]:
    """Names of the workers that answer now."""
    from kombu.exceptions import OperationalError
    from redis.exceptions import RedisError

    try:
        replies: list[dict[str, object]] = app.control.ping(timeout=_PING_TIMEOUT_S) or []
    except (OperationalError, RedisError, OSError):
        return []
    return [name for reply in replies for name in reply]


def _answers(child: str, nodes: set[str]) -> bool:
    """Whether the Celery node of a child is among those that answer; some have none."""
    if child in (FLOWER, WEB):
        return True
    return ("celerybeat" if child == BEAT else child.removeprefix(WORKER)) in nodes


def _free_port(wanted: int, setting: str) -> int:
    """`wanted`, or the first port after it that is free on loopback."""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise NotReady(
        f"ports {wanted} to {wanted + PORTS_TRIED - 1} are taken; set {setting} to a free one, or "
        "to 0 to do without"
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(_PING_TIMEOUT_S)
        return probe.connect_ex(("127.0.0.1", port)) == 0
