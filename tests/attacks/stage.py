"""Servers, a worker and a web process of one version of this project, afresh for each attack."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from shutil import rmtree

import redis
from sqlalchemy import create_engine, make_url, text

from pipeline.embedded import PrivateServers
from tests.attacks.honest import PAGE_ORIGIN
from tests.attacks.wire import HOST
from tests.conftest import chosen_programs
from tests.helpers.support import ROOT, environment_without_settings, eventually, start_group

_TEMPLATE = "attacks_template"
_COMMAND_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 10.0


class Servers:
    """A Redis and a Postgres for all attacks; a context manager."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.directory = Path(tempfile.mkdtemp(prefix="attacks-"))
        self.directory.chmod(0o711)  # Postgres may run as another user
        self._servers = PrivateServers.start(self.directory / "servers", **chosen_programs())
        assert self._servers.redis_url is not None
        assert self._servers.postgres_url is not None
        self.redis_url, self._postgres_url = self._servers.redis_url, self._servers.postgres_url
        self._made = 0

    def __enter__(self) -> Servers:
        self._administer(f"CREATE DATABASE {_TEMPLATE}")
        self.run_command("migrate", postgres_url=self._database(_TEMPLATE)).check_returncode()
        return self

    def __exit__(self, *_: object) -> None:
        self._servers.stop()
        rmtree(self.directory, ignore_errors=True)

    def clear(self) -> str:
        """Empty Redis and make a new database; returns its URL."""
        with redis.Redis.from_url(self.redis_url) as client:
            client.flushall()
        self._made += 1
        name = f"attacks_{self._made}"
        self._administer(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        return self._database(name)

    def environment(self, postgres_url: str) -> dict[str, str]:
        """Of processes: default settings but for the servers."""
        return environment_without_settings() | {
            "ANALYTICS_REDIS_URL": self.redis_url,
            "ANALYTICS_POSTGRES_URL": postgres_url,
            "ANALYTICS_DATA_DIR": str(self.directory / "none"),
            "ANALYTICS_LOG_LEVEL": "WARNING",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def python(self) -> str:
        """The interpreter of the checkout."""
        own = self.checkout == ROOT
        return sys.executable if own else str(self.checkout / ".venv/bin/python")

    def run_command(self, *arguments: str, postgres_url: str) -> subprocess.CompletedProcess[str]:
        """Run `analytics ARGUMENTS` of the checkout to its end. Raises TimeoutExpired."""
        return subprocess.run(
            [self.python(), "-m", "pipeline.cli", *arguments],
            cwd=self.checkout,
            env=self.environment(postgres_url),
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )

    def _database(self, name: str) -> str:
        url = make_url(self._postgres_url).set(database=name)
        return url.render_as_string(hide_password=False)

    def _administer(self, statement: str) -> None:
        engine = create_engine(self._postgres_url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))
        engine.dispose()


class Stage:
    """What runs for one attack; a context manager, whose end stops it."""

    def __init__(self, servers: Servers, file_limit: int | None) -> None:
        self._servers, self._file_limit = servers, file_limit
        self._postgres_url = servers.clear()
        self._processes: list[subprocess.Popen[bytes]] = []
        with socket.create_server((HOST, 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.server_key = self._create_key("write", "--name", "shop")
        self.page_key = self._create_key("write", "--name", "page", "--origin", PAGE_ORIGIN)
        self.read_token = self._create_key("read", "--name", "customer")

    def __enter__(self) -> Stage:
        queue = ("-Q", "analytics.events", "-P", "solo", "-n", "events@attacks")
        self._start("worker", "-m", "celery", "-A", "tasks", "worker", *queue)
        web = ("-m", "pipeline.cli", "web", "--port", str(self.port))
        self._web = self._start("web", *web, file_limit=self._file_limit)
        eventually(lambda: self._answers("/livez"), 30, "the web process answers")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def attack(self, name: str) -> subprocess.Popen[str]:
        """Start the process of an attack; SIGTERM ends it, and it prints what it sent."""
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.attacker", name],
            cwd=ROOT,
            env=environment_without_settings(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        given = {
            "port": self.port,
            "page_key": self.page_key,
            "page_origin": PAGE_ORIGIN,
            "read_token": self.read_token,
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(given))
        process.stdin.close()
        process.stdin = None  # so that `communicate` leaves it alone
        return process

    def web_memory_mib(self) -> float:
        """The most memory that the web process has had, in MiB; 0 when it has ended."""
        try:
            status = Path(f"/proc/{self._web.pid}/status").read_text()
        except OSError:
            return 0
        found = status.partition("VmHWM:")[2].split()
        return int(found[0]) / 1024 if found else 0

    def web_said(self) -> str:
        """The log of the web process."""
        return (self._servers.directory / "web.log").read_text(errors="replace")

    def drained(self, timeout_s: float) -> bool:
        """Wait until no event waits or is being counted; False when that takes too long."""
        deadline_s = time.monotonic() + timeout_s
        with redis.Redis.from_url(self._servers.redis_url) as client:
            while client.llen("analytics.events") or client.hlen("analytics:unacked"):
                if time.monotonic() > deadline_s:
                    return False
                time.sleep(0.1)
        return True

    def count_of_user(self, user_id: str) -> int:
        """All events of a user, as `analytics stats user` counts them."""
        said = self._run("stats", "user", user_id, "--json")
        counts: Mapping[str, Mapping[str, int]] = json.loads(said)["counts"]
        return sum(sum(by_day.values()) for by_day in counts.values())

    def measure_command(self, command: str) -> str:
        """Run a command of `analytics`; returns how long it took, its memory and its lines."""
        path = self._servers.directory / "command.output"
        beginning_s = time.monotonic()
        process = self._start_process(path, "-m", "pipeline.cli", *shlex.split(command))
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            took_s = time.monotonic() - beginning_s
            if ended or took_s > _COMMAND_TIMEOUT_S:
                break
            time.sleep(0.02)
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"`{command}` over {_COMMAND_TIMEOUT_S:.0f} s"
        process.returncode = os.waitstatus_to_exitcode(status)
        failed = f", exit code {process.returncode}" if process.returncode else ""
        lines = len(path.read_text(errors="replace").splitlines())
        memory_mib = used.ru_maxrss / 1024
        return f"`{command}` {took_s:.1f} s, {memory_mib:.0f} MiB, {lines} lines{failed}"

    def _create_key(self, *arguments: str) -> str:
        return self._run("keys", "create", *arguments).split()[-1]

    def _run(self, *arguments: str) -> str:
        ran = self._servers.run_command(*arguments, postgres_url=self._postgres_url)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def _start(
        self, name: str, *arguments: str, file_limit: int | None = None
    ) -> subprocess.Popen[bytes]:
        path = self._servers.directory / f"{name}.log"
        self._processes.append(self._start_process(path, *arguments, file_limit=file_limit))
        return self._processes[-1]

    def _start_process(
        self, output: Path, *arguments: str, file_limit: int | None = None
    ) -> subprocess.Popen[bytes]:
        command = [self._servers.python(), *arguments]
        if file_limit is not None:
            command = ["sh", "-c", f"ulimit -n {file_limit} && exec {shlex.join(command)}"]
        environment = self._servers.environment(self._postgres_url)
        with output.open("wb") as opened:
            return start_group(command, opened, environment, self._servers.checkout)

    def _answers(self, path: str) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
