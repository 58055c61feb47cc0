"""All of a pipeline at its default settings, each process as its command starts it, and both who
watch it: `analytics watch`, and a Prometheus with the configuration of this project."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import yaml

from config.options import pipeline_options
from config.settings import Settings
from pipeline.embedded import PrivateServers
from pipeline.services import connect
from tests.alarms.listeners import (
    Receiver,
    find_prometheus,
    list_firing,
    prometheus_command,
)
from tests.conftest import chosen_programs
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import ROOT, environment_without_settings, eventually, start_group

_OURS = (sys.executable, "-P", "-m", "pipeline.cli")
_PARTS = {
    "events": ("worker", "events"),
    "flush": ("worker", "flush"),
    "beat": ("beat",),
    "watch": ("watch",),
}
_WAIT_S = 60.0


class Stage:
    """A context manager: its end stops everything. Each has servers of its own."""

    def __init__(self, directory: Path, rate: float, settings: Mapping[str, str]) -> None:
        """`rate` events a second are sent meanwhile; `settings` are variables that differ from the
        defaults."""
        directory.mkdir()
        directory.chmod(0o711)  # Postgres may run as another user
        self.receiver = Receiver()
        self._directory, self._rate, self._settings = directory, rate, settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._metrics_port, self._prometheus_port = free_port(), free_port()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._processes):
            self.kill(name)
        self.receiver.close()
        if hasattr(self, "services"):
            self.services.close()
        if hasattr(self, "servers"):
            self.servers.stop()

    def _start(self) -> None:
        self.servers = PrivateServers.start(self._directory / "servers", **chosen_programs())
        assert self.servers.redis_url is not None
        assert self.servers.postgres_url is not None
        self._environment = environment_without_settings() | {
            "ANALYTICS_REDIS_URL": self.servers.redis_url,
            "ANALYTICS_POSTGRES_URL": self.servers.postgres_url,
            "ANALYTICS_DATA_DIR": str(self._directory / "data"),
            "ANALYTICS_ALARM_WEBHOOK": self.receiver.url,
            "PYTHONPATH": str(ROOT),
            **self._settings,
        }
        subprocess.run([*_OURS, "migrate"], env=self._environment, check=True, capture_output=True)
        urls = self.servers.redis_url, self.servers.postgres_url
        self.services = connect(pipeline_options(Settings()), *urls)
        for name in ("events", "flush", "beat"):
            self.start(name)
        client, keys = self.services.redis, self.services.keys
        eventually(lambda: client.zcard(keys.workers) == 2, _WAIT_S, "workers are not there")
        eventually(lambda: client.hexists(keys.requests, "beat:ticked_ms"), _WAIT_S, "no beat")
        # Partitions are made by the first maintenance, as in any new installation.
        done = "analytics.maintain:ended_ms"
        eventually(lambda: client.hexists(keys.requests, done), _WAIT_S, "no maintenance")
        for name in ("metrics", "prometheus", "watch", "traffic"):
            self.start(name)

    def start(self, name: str) -> None:
        """Start a process by its command."""
        with (self._directory / f"{name}.log").open("ab") as output:
            self._processes[name] = start_group(self._command(name), output, self._environment)

    def _command(self, name: str) -> list[str]:
        match name:
            case "metrics":
                return [*_OURS, "metrics", "--port", str(self._metrics_port)]
            case "prometheus":
                self._configure_prometheus()
                program = find_prometheus()
                assert program is not None, "prometheus is not installed (package prometheus)"
                return prometheus_command(program, self._directory, self._prometheus_port)
            case "traffic":
                return [sys.executable, "-m", "tests.alarms.traffic", str(self._rate)]
        return [*_OURS, *_PARTS[name]]

    def _configure_prometheus(self) -> None:
        """The configuration of this project, which names the containers of docker-compose.yml."""
        ours = ROOT / "config" / "prometheus"
        configuration = yaml.safe_load((ours / "prometheus.yml").read_text(encoding="utf-8"))
        [state] = (
            one for one in configuration["scrape_configs"] if one["job_name"] == "analytics-state"
        )
        state["static_configs"] = [{"targets": [f"127.0.0.1:{self._metrics_port}"]}]
        configuration["scrape_configs"] = [state]
        (self._directory / "alerts.yml").write_bytes((ours / "alerts.yml").read_bytes())
        (self._directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def kill(self, name: str) -> None:
        """`kill -9` a process and those that it has forked."""
        process = self._processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> None:
        """End a process by SIGTERM."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(_WAIT_S)

    def ask_watch(self) -> set[str]:
        """The alarms that `analytics watch` has raised."""
        return self.receiver.raised

    def ask_prometheus(self) -> set[str]:
        """The alarms that fire in Prometheus. Raises OSError while it does not answer."""
        return list_firing(self._prometheus_port)
