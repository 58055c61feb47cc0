"""Which processes `analytics up` runs beside the servers: their commands, ports and logs."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.context import DATA_DIR_VARIABLE
from pipeline.cli.local.supervised_process import ProcessPlan
from pipeline.errors import NotReady
from pipeline.system.ports import is_port_free
from pipeline.system.private_files import make_private_directory
from pipeline.system.processes import Command

if TYPE_CHECKING:
    from config.settings import Settings

BEAT, FLOWER, WATCH, WEB = "beat", "flower", "watch", "web"
PORTS_TRIED = 20


def plan_processes(
    settings: Settings, redis_url: str, postgres_url: str, report: Callable[[str], None]
) -> list[ProcessPlan]:
    """The processes in the order of their start, for servers at these URLs.

    `report` is given a line about what differs from the settings. Raises `NotReady` when no port is
    free.
    """
    data_dir = settings.data_dir.absolute()
    environment = _build_environment(data_dir, redis_url, postgres_url)

    def plan(
        name: str, arguments: Sequence[str], node: str | None = None, port: int | None = None
    ) -> ProcessPlan:
        return ProcessPlan(name, _build_command(name, arguments, environment, data_dir), node, port)

    workers = [f"events{number + 1}" for number in range(settings.event_workers)]
    return [
        *(plan(f"worker {name}", ["worker", "events", "--name", name], name) for name in workers),
        plan("worker flush", ["worker", "flush"], "flush"),
        plan(BEAT, ["beat"], "celerybeat"),
        *([plan(WATCH, ["watch"])] if settings.alarm_webhook or settings.alarm_mail_to else []),
        *(
            plan(name, [name, "--port", str(port)], port=port)
            for name, port in _choose_ports(settings, report)
        ),
    ]


def _choose_ports(settings: Settings, report: Callable[[str], None]) -> Iterator[tuple[str, int]]:
    """Name and port of every process that answers over HTTP."""
    wanted_ports = {FLOWER: settings.flower_port, WEB: settings.web_port}
    if settings.web_port and importlib.util.find_spec("uvicorn") is None:
        report("web: not installed (pip install 'analytics-pipeline[web]')")
        del wanted_ports[WEB]
    for name, wanted in wanted_ports.items():
        if not wanted:
            continue
        port = _choose_port(wanted, f"ANALYTICS_{name.upper()}_PORT")
        if port != wanted:
            report(f"{name}: port {wanted} is taken, so it listens on {port}")
        yield name, port


def _choose_port(wanted: int, setting: str) -> int:
    """`wanted`, or the first port after it that is free on loopback."""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65_536)):
        if is_port_free(port):
            return port
    raise NotReady(
        f"ports {wanted} to {wanted + PORTS_TRIED - 1} are taken; set {setting} to a free one, or "
        "to 0 to do without"
    )


def _build_command(
    name: str, arguments: Sequence[str], environment: Mapping[str, str], data_dir: Path
) -> Command:
    logs = data_dir / "logs"
    make_private_directory(logs)
    # -P: a package `tasks` or `config` in the current directory is not ours.
    command = [sys.executable, "-P", "-m", "pipeline.cli", *arguments]
    command += ["--parent-pid", str(os.getpid())]
    return Command(command, environment, logs / f"{name.replace(' ', '-')}.log", data_dir)


def _build_environment(data_dir: Path, redis_url: str, postgres_url: str) -> dict[str, str]:
    project = str(Path(__file__).resolve().parents[3])
    # The processes run elsewhere, where a relative entry would be another directory.
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
