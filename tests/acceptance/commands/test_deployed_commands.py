"""Every command of ours in the Compose file, the Helm chart and the units for systemd runs, all of
them side by side, from a directory into which nothing is written: file systems are read-only. And
on servers as managed ones are: Redis without CONFIG and INFO, Postgres for the owner of a database
who is no superuser."""

from __future__ import annotations

import base64
import re
import secrets
import shlex
import socket
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from sqlalchemy import make_url

from config.options import pipeline_options
from config.settings import Settings
from pipeline.services import Services, connect
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import (
    ROOT,
    Worker,
    Workers,
    count_events,
    event,
    eventually,
    start_group,
    stored_total,
)
from tests.integration.postgres.conftest import as_user, run_as_owner
from tests.unit.project.test_chart import VARIANTS, render

LOGIN = "ann:secret"
PING = "analytics status --node {}@HOST"
LONG_LIVED: Mapping[str, str] = {
    "analytics worker events": "events@HOST",
    "analytics worker flush": "flush@HOST",
    "analytics beat": "celerybeat@HOST",
    "analytics web": "/readyz?for=collecting /readyz?for=reading /livez",
    "analytics flower": "/healthcheck",
    "analytics metrics": "/metrics",
    "analytics watch": "",
}
"""Each with what its probes ask: its name in Celery, or paths."""
OTHERS = {"analytics migrate", "sleep 5", *(PING.format(name) for name in ("events", "flush"))}
"""They end by themselves; the chart and Compose ask beat in the same way."""
_SUBSTITUTED = re.compile(r" --(host|address|port|name|state)[ =]\S+")
"""Options of the machine; a worker's name, which a template of systemd numbers."""


def find_commands() -> Iterator[str]:
    """Every command, without options of the machine."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    for service in compose:
        if service["command"][:1] == ["analytics"]:
            yield shlex.join(service["command"])
            kind, *test = service.get("healthcheck", {}).get("test", ["NONE"])
            yield from test if kind == "CMD-SHELL" else []
    for options in VARIANTS.values():
        for one in render(*options):
            pod = one.get("spec", {}).get("template", {}).get("spec", {})
            for container in pod.get("containers", ()):
                yield shlex.join(container["args"])
                yield from _find_probes(container)
    for unit in (ROOT / "deploy" / "systemd").glob("*.service"):
        yield from re.findall(r"^ExecStart=/opt/analytics/bin/(.+)$", unit.read_text(), re.M)


def _find_probes(container: Mapping[str, Any]) -> Iterator[str]:
    hooks = container.get("lifecycle", {})
    probes = [one for name, one in container.items() if name.endswith("Probe")]
    for one in [*hooks.values(), *probes]:
        if "exec" in one:
            command = one["exec"]["command"]
            yield command[-1] if command[:2] == ["sh", "-c"] else shlex.join(command)


def find_paths() -> Iterator[str]:
    """The paths that probes over HTTP ask."""
    for place in (ROOT / "docker-compose.yml").read_text().splitlines():
        yield from re.findall(r'urlopen\("http://127.0.0.1:\d+(/[^"]*)"', place)
    for one in render():
        for container in (
            one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ())
        ):
            for name, probe in container.items():
                if name.endswith("Probe") and "httpGet" in probe:
                    yield probe["httpGet"]["path"]


def plain(command: str) -> str:
    """A command without the options of the machine, with HOST for its name."""
    command = re.sub(r"@\$+HOSTNAME", "@HOST", command)
    return _SUBSTITUTED.sub("", command)


def test_every_command_and_path_is_run_below() -> None:
    asked = {f"{PING.format('celerybeat')}"}
    assert {plain(one) for one in find_commands()} == {*LONG_LIVED, *OTHERS, *asked}
    asked_paths = {
        path for paths in LONG_LIVED.values() for path in paths.split() if path[0] == "/"
    }
    assert set(find_paths()) <= asked_paths


@pytest.fixture
def postgres(empty_postgres_url: str) -> Iterator[str]:
    """The URL of an empty database for its owner, who is an ordinary user."""
    name, database = f"owner_{secrets.token_hex(6)}", make_url(empty_postgres_url).database
    run_as_owner(
        empty_postgres_url,
        f"CREATE ROLE {name} LOGIN PASSWORD '{name}'",
        f"ALTER DATABASE {database} OWNER TO {name}",
    )
    yield as_user(empty_postgres_url, name)
    run_as_owner(
        empty_postgres_url,
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{name}'",
        f"REASSIGN OWNED BY {name} TO CURRENT_USER",
        f"DROP ROLE {name}",
    )


@pytest.fixture
def services(redis_url: str, client: redis.Redis, postgres: str) -> Iterator[Services]:
    """Of both servers, with the user of Redis that the page names first."""
    page = (ROOT / "docs" / "guides" / "deploying" / "redis-rights.md").read_text()
    [rights] = re.findall(r"^user analytics (.+)$", page, re.MULTILINE)
    client.execute_command("ACL", "SETUSER", "plain", *rights.replace("PASSWORD", LOGIN).split())
    url = make_url(redis_url).set(username="plain", password=LOGIN)
    address = url.render_as_string(hide_password=False)
    with closing(connect(pipeline_options(Settings()), address, postgres)) as made:
        yield made
    client.acl_deluser("plain")


@pytest.fixture
def start(
    services: Services, redis_url: str, postgres: str, workers: Workers, tmp_path: Path
) -> Callable[..., Worker]:
    """Starts a command as a container does; its directory has to stay empty."""
    directory = tmp_path / "root"
    directory.mkdir()
    redis_address = make_url(redis_url).set(username="plain", password=LOGIN)

    def start(command: str, *options: str) -> Worker:
        program, *arguments = shlex.split(command)
        module = {"analytics": "pipeline.cli", "celery": "celery"}[program]
        log = workers.directory / f"{len(workers.started)}.log"
        environment = {
            **workers.environment,
            "ANALYTICS_REDIS_URL": redis_address.render_as_string(hide_password=False),
            "ANALYTICS_POSTGRES_URL": postgres,
            "PYTHONPATH": str(ROOT),
            "FLOWER_BASIC_AUTH": LOGIN,
            "ANALYTICS_FLUSH_INTERVAL_S": "0.5",
        }
        with log.open("wb") as output:
            process = start_group(
                [sys.executable, "-P", "-m", module, *arguments, *options],
                output,
                environment,
                directory,
            )
        name = "flower" if "flower" in arguments else command  # which ends warmly
        workers.started.append(Worker(name, process, log))
        return workers.started[-1]

    return start


@pytest.mark.timeout(180)
def test_every_command_runs_and_writes_nothing_beside_it(
    services: Services, workers: Workers, start: Callable[..., Worker]
) -> None:
    migrate = start("analytics migrate")
    assert migrate.wait(60) == 0, migrate.said()
    running, ports = {}, {}
    for command in LONG_LIVED:
        options = ["--state", str(workers.directory / "alarms.json")] if "watch" in command else []
        if LONG_LIVED[command].startswith("/"):
            ports[command] = free_port()
            address = "--address" if "flower" in command else "--host"
            options = ["--port", str(ports[command]), address, "127.0.0.1"]
        running[command] = start(command, *options)

    for command, port in ports.items():
        for path in LONG_LIVED[command].split():
            eventually(lambda url=f"http://127.0.0.1:{port}{path}": _answers(url), what=path)
    count_events(services, event())
    eventually(lambda: stored_total(services) == 1, what="beat and the flush worker do not store")
    names = [name for name in LONG_LIVED.values() if name.endswith("@HOST")]
    asked = [
        start(PING.format(name.removesuffix("@HOST")).replace("HOST", socket.gethostname()))
        for name in names
    ]
    for one in asked:
        assert one.wait(30) == 0, one.said()
    for command, process in running.items():
        assert process.alive(), f"{command}: {process.said()}"
    assert list((workers.directory / "root").iterdir()) == []
    workers.kill()  # while their users live


def _answers(url: str) -> bool:
    request = urllib.request.Request(url)
    login = base64.b64encode(LOGIN.encode()).decode()
    request.add_header("Authorization", f"Basic {login}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False
