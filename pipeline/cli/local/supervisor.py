"""Everything on one machine: private servers, migrations, and the Celery processes, kept running.

The process that holds a `Supervisor` is the parent of all others: should it be killed, the kernel
kills them, and the next start finds everything as the append-only file and Postgres have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pipeline.cli import context
from pipeline.cli.local.metrics import serve_metrics
from pipeline.cli.local.plans import plan_processes
from pipeline.cli.local.readiness import wait_until_ready
from pipeline.cli.local.servers import lock_data_dir, prepare_servers, start_private_servers
from pipeline.cli.local.supervised_process import SupervisedProcess, stop_processes
from pipeline.errors import PipelineError
from pipeline.system.file_locks import FileLock

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.embedded import PrivateServers, Server

# With the servers' five seconds this stays under the ten that are promised.
PROCESSES_END_WITHIN_S = 4.0


@dataclass(frozen=True)
class Running:
    """A row of what runs: its name, process id (None: not ours), where it is, and its log."""

    name: str
    pid: int | None
    where: str
    log: Path | None


class Supervisor:
    """Starts everything on entry, and stops all of it on exit."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        """`report` is given a line about each change of the processes."""
        self._settings = settings
        self._report = report
        self._servers: PrivateServers | None = None
        self._lock: FileLock | None = None
        self._processes: list[SupervisedProcess] = []
        self._stop_metrics: Callable[[], None] | None = None
        self._is_in_a_hurry = False
        self.is_stopping = False

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        settings = self._settings
        self._servers = start_private_servers(settings)
        self._lock = lock_data_dir(settings.data_dir.absolute())
        urls = context.find_redis_url(settings), context.find_postgres_url(settings)
        prepare_servers(*urls, settings, self._report)
        self._stop_metrics = serve_metrics(settings, self._report)
        for plan in plan_processes(settings, *urls, self._report):
            self._processes.append(SupervisedProcess(plan))
            self._processes[-1].start()

    def wait_until_ready(self) -> None:
        """Return when every worker answers, and Flower and the web server listen.

        Raises `NotReady`.
        """
        wait_until_ready(self._processes, self.keep_running)

    def keep_running(self) -> None:
        """Start again what has ended."""
        if self._servers is not None:
            for server in self._servers.check():
                self._report(f"{server.name}: ended; starting it again with its data")
                try:
                    server.start()
                except PipelineError as error:
                    self._report(f"{server.name}: {error}")
        for process in self._processes:
            line = process.keep_running()
            if line is not None:
                self._report(line)

    def list_running(self) -> list[Running]:
        """What runs, servers first."""
        from pipeline import urls

        rows = [self._server_row("redis"), self._server_row("postgres")]
        broker = context.find_broker_url(self._settings)
        if broker is not None:
            rows.insert(0, Running("rabbitmq", None, urls.mask_url(broker), None))
        for process in self._processes:
            port = process.plan.port
            where = f"http://127.0.0.1:{port}" if port else ""
            rows.append(Running(process.name, process.pid, where, process.plan.command.log))
        if port := self._settings.metrics_port:
            address = self._settings.metrics_address
            rows.append(Running("metrics", None, f"http://{address}:{port}/metrics", None))
        return rows

    def runs(self, name: str) -> bool:
        """Whether a process of this name is among those kept running."""
        return any(process.name == name for process in self._processes)

    def hurry(self) -> None:
        """Have `stop` wait for nothing."""
        self._is_in_a_hurry = True

    def stop(self) -> None:
        """Stop the processes, then the servers. Leaves no process, and may be called again."""
        self.is_stopping = True
        stop_processes(self._processes, PROCESSES_END_WITHIN_S, lambda: self._is_in_a_hurry)
        self._processes = []
        if self._stop_metrics is not None:
            self._stop_metrics()
            self._stop_metrics = None
        if self._servers is not None:
            self._servers.stop()
            self._servers = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _server_row(self, name: str) -> Running:
        from pipeline import urls

        given = self._settings.redis_url if name == "redis" else self._settings.postgres_url
        if given is not None:
            return Running(name, None, urls.mask_url(given.get_secret_value()), None)
        server: Server = getattr(self._servers, name)
        log = self._settings.data_dir.absolute() / f"{name}.log"
        return Running(name, server.pid, f"127.0.0.1:{server.port}", log)
