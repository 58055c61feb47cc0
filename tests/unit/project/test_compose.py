"""The Docker files, as far as they can be checked without Docker: against the published schema of
the Compose file, and against what they say about the rest of the tree.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from typer.main import get_command

from config.description import name_variable
from config.settings import Settings, load
from pipeline.cli.app import app as command_line
from pipeline.cli.commands.processes import WorkerKind
from pipeline.embedded.postgres import find_installation
from pipeline.embedded.redis import find_binary

ROOT = Path(__file__).parents[3]
COMPOSE_FILE = ROOT / "docker-compose.yml"
SECRETS = {"REDIS_PASSWORD", "POSTGRES_PASSWORD", "FLOWER_PASSWORD"}
RUNS_ONCE = {"migrate"}

Service = dict[str, Any]


def interpolated(text: str, values: dict[str, str]) -> str:
    """What `docker compose` makes of the file: ${NAME:?why} is a value or an error, $$ a dollar."""

    def replacement(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else values[found["name"]]

    return re.sub(r"\$\$|\$\{(?P<name>\w+):\?[^}]+\}", replacement, text)


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    text = interpolated(COMPOSE_FILE.read_text(), {name: f"s3cret-{name}" for name in SECRETS})
    loaded: dict[str, Service] = yaml.safe_load(text)["services"]
    return loaded


def commands(services: dict[str, Service]) -> dict[str, list[str]]:
    return {
        name: service["command"]
        for name, service in services.items()
        if service["command"][:1] == ["analytics"]
    }


# The Compose file


def test_the_compose_file_keeps_to_the_published_schema() -> None:
    checked = subprocess.run(
        [
            sys.executable,
            *("-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"),
            str(COMPOSE_FILE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_password_must_be_given_and_has_no_default() -> None:
    text = COMPOSE_FILE.read_text()
    substitutions = re.findall(r"(?<!\$)\$(?!\$)\{?(\w+)([^}]*)\}?", text)
    assert {name for name, _ in substitutions} == SECRETS
    for name, rest in substitutions:
        assert rest == f":?set {name} in .env"


def test_no_password_stands_in_the_file() -> None:
    for line in COMPOSE_FILE.read_text().splitlines():
        if re.search(r"PASSWORD|AUTH|requirepass", line) and not line.lstrip().startswith("#"):
            assert "${" in line, line


def test_no_password_stands_in_a_command_line(services: dict[str, Service]) -> None:
    for name, service in services.items():
        shown = [*service["command"], *service.get("healthcheck", {}).get("test", ())]
        assert not any("s3cret" in part or "--requirepass" in part for part in shown), name


def test_the_image_is_built_once(services: dict[str, Service]) -> None:
    assert [name for name, service in services.items() if "build" in service] == ["migrate"]
    for name in set(commands(services)) - {"migrate"}:
        assert services[name]["pull_policy"] == "never"  # there is no such image elsewhere


def test_settings_of_the_env_file_reach_every_process_and_passwords_do_not(
    services: dict[str, Service],
) -> None:
    for name in commands(services):
        assert services[name]["env_file"] == [{"path": ".env", "required": False}], name
        given = services[name]["environment"]
        assert {given[secret] for secret in SECRETS} == {""}, name
        assert ("s3cret-FLOWER_PASSWORD" in str(given)) == (name == "flower")
    assert not {"env_file", "REDIS_PASSWORD"} & set(services["postgres"])


def test_no_service_can_take_the_whole_host(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert 0 < service["pids_limit"] <= 256, name
        assert service["logging"]["driver"] == "json-file", name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
    assert services["web"]["ulimits"]["nofile"]["hard"] >= 65_536


def test_only_what_is_published_is_on_a_network_with_a_way_out(
    services: dict[str, Service],
) -> None:
    networks = yaml.safe_load(COMPOSE_FILE.read_text())["networks"]
    assert networks["backend"] == {"internal": True}
    reachable = {name for name, one in services.items() if "published" in one["networks"]}
    assert reachable == {name for name, one in services.items() if "ports" in one}
    gateway = networks["published"]["ipam"]["config"][0]["gateway"]
    for document in (COMPOSE_FILE, ROOT / "docs" / "guides" / "deploying" / "docker.md"):
        assert f'ANALYTICS_TRUSTED_PROXIES=["{gateway}"]' in document.read_text()


def test_flower_in_a_container_listens_where_its_port_is_published(
    services: dict[str, Service],
) -> None:
    command = services["flower"]["command"]
    assert command[command.index("--address") + 1] == "0.0.0.0"
    assert services["flower"]["ports"] == [f"127.0.0.1:5555:{command[command.index('--port') + 1]}"]


def test_every_service_has_a_health_check_and_comes_back(services: dict[str, Service]) -> None:
    for name, service in services.items():
        if name in RUNS_ONCE:
            assert service["restart"] == "no"
        else:
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_data_outlives_the_containers(services: dict[str, Service]) -> None:
    named = yaml.safe_load(COMPOSE_FILE.read_text())["volumes"]
    kept = {
        volume.split(":")[0]
        for service in services.values()
        for volume in service.get("volumes", ())
        if not volume.startswith(".")
    }
    servers = ("redis", "postgres", "prometheus", "grafana")
    assert kept == set(named) == {f"{server}-data" for server in servers}


def test_every_mounted_file_exists(services: dict[str, Service]) -> None:
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source


def test_what_people_open_is_published_and_only_on_loopback(
    services: dict[str, Service],
) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    published = {"flower": 5555, "web": 8080, "prometheus": 9090, "grafana": 3000}
    assert ports == {name: [f"127.0.0.1:{port}:{port}"] for name, port in published.items()}


def test_what_watches_starts_where_it_is_asked_for(services: dict[str, Service]) -> None:
    profiles = {name: one["profiles"] for name, one in services.items() if "profiles" in one}
    watching = ("metrics", "prometheus", "grafana")
    assert profiles == {name: ["monitoring"] for name in watching}
    scraped = yaml.safe_load((ROOT / "config/prometheus/prometheus.yml").read_text())
    state, processes = scraped["scrape_configs"]
    assert state["static_configs"] == [{"targets": ["metrics:9464"]}]
    [found] = processes["dns_sd_configs"]
    assert found["names"] == ["events", "flush", "web"]
    assert set(found["names"]) <= set(services)


def test_workers_start_after_redis_is_healthy_and_the_tables_are_there(
    services: dict[str, Service],
) -> None:
    for name in set(commands(services)) - RUNS_ONCE:
        conditions = {
            other: how["condition"] for other, how in services[name]["depends_on"].items()
        }
        assert conditions == {
            "redis": "service_healthy",
            "migrate": "service_completed_successfully",
        }, name


def test_every_queue_has_a_worker(services: dict[str, Service]) -> None:
    kinds = [command[2] for command in commands(services).values() if command[1] == "worker"]
    assert kinds == list(WorkerKind)


def test_every_command_of_ours_exists(services: dict[str, Service]) -> None:
    ours = [command[1] for command in commands(services).values()]
    known = get_command(command_line)
    assert ours == ["migrate", "worker", "worker", "beat", "flower", "web", "metrics"]
    assert set(ours) <= set(getattr(known, "commands", {}))


def test_a_health_check_asks_the_process_by_the_name_it_was_given(
    services: dict[str, Service],
) -> None:
    for name, command in commands(services).items():
        asked = " ".join(services[name].get("healthcheck", {}).get("test", ()))
        if "worker" in command:
            assert command[2] == name  # and the worker's name, unless --name says another
            assert asked.endswith(f"analytics status --node {name}@$HOSTNAME")


def test_the_settings_given_to_containers_are_accepted(
    services: dict[str, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ:
        if name.startswith("ANALYTICS_"):
            monkeypatch.delenv(name)
    for name in commands(services):
        for key, value in services[name]["environment"].items():
            monkeypatch.setenv(key, value)
        settings = load()
        assert settings.redis_url is not None
        assert settings.postgres_url is not None
        assert "@redis:6379/0" in settings.redis_url.get_secret_value()
        assert "@postgres:5432/analytics" in settings.postgres_url.get_secret_value()


def test_the_image_carries_the_version_of_the_project(services: dict[str, Service]) -> None:
    declared = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert declared is not None
    assert {services[name]["image"] for name in commands(services)} == {
        f"analytics-pipeline:{declared[1]}"
    }


# The image


def test_the_image_is_built_from_files_that_are_let_into_the_build() -> None:
    let_in = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert let_in == {
        *("pyproject.toml", "setup.py", "requirements.lock", "config", "pipeline", "tasks")
    }
    assert all((ROOT / name).exists() for name in let_in)


def test_the_image_runs_as_an_ordinary_user() -> None:
    last_stage = (ROOT / "Dockerfile").read_text().split("\nFROM ")[-1]
    assert re.search(r"^USER (?!root|0)\w+$", last_stage, re.MULTILINE)


def test_every_package_of_the_image_is_checked_by_its_hash() -> None:
    installs = re.findall(r"^RUN (pip .+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-index" in installs[1]


# The servers' own files


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def mounted_file(service: Service) -> str:
    [target] = [one.split(":")[1] for one in service["volumes"] if one.startswith("./")]
    return str(target)


def test_redis_starts_as_composed_and_keeps_what_it_acknowledges(
    services: dict[str, Service], tmp_path: Path
) -> None:
    socket = tmp_path / "redis.sock"
    script(tmp_path / "docker-entrypoint.sh", 'exec "$@"')
    options_here = f"--port 0 --unixsocket {socket} --dir {tmp_path}"
    own_file = ROOT / "config/redis/redis.conf"
    script(
        tmp_path / "redis-server",
        f'test "$1" = {mounted_file(services["redis"])} || exit 9\nshift\n'
        f'exec {find_binary()} {own_file} {options_here} "$@"',
    )
    server = subprocess.Popen(
        services["redis"]["command"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDISCLI_AUTH": "s3cret"},
        stdout=subprocess.DEVNULL,
    )
    try:
        until_it_answers = Retry(ConstantBackoff(0.05), retries=200)
        with redis.Redis(
            unix_socket_path=str(socket), password="s3cret", retry=until_it_answers
        ) as client:
            options = client.config_get("append*", "maxmemory-policy", "save", "maxmemory")
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(unix_socket_path=str(socket)).ping()
        assert b"s3cret" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    finally:
        server.terminate()
        server.wait(timeout=10)
    assert options["appendonly"] == "yes"
    assert options["appendfsync"] == "always"
    assert options["maxmemory-policy"] == "noeviction"
    assert options["save"] == ""
    # With room for the fork of a rewrite: at the limit producers are refused, nothing is killed.
    assert services["redis"]["mem_limit"] == "4g"
    assert 0 < int(options["maxmemory"]) <= 2 * 1024**3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("synchronous_commit", "on"),
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("TimeZone", "UTC"),
    ],
)
def test_postgres_understands_the_file_and_keeps_what_it_commits(
    tmp_path: Path, option: str, value: str
) -> None:
    postgres = find_installation(None, tmp_path).binary("postgres")
    asked = subprocess.run(
        [
            postgres,
            *("-C", option, "-D", str(tmp_path)),
            *("-c", f"config_file={ROOT / 'config/postgres/postgresql.conf'}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.stdout.strip() == value, asked.stderr


# The variables


def test_no_service_is_given_a_setting_that_does_not_exist(services: dict[str, Service]) -> None:
    known = {name_variable(name) for name in Settings.model_fields}
    for service in services.values():
        for name in service.get("environment", {}):
            if name.startswith("ANALYTICS_"):
                assert name in known
