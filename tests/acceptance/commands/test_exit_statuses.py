"""The exit status of every command, for scripts to build on, as its page of reference says."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from pipeline.cli import main
from pipeline.cli.app import app
from pipeline.cli.commands import archiving
from pipeline.services import Services
from tests.helpers.support import (
    ROOT,
    TODAY,
    count_events,
    environment_without_settings,
    event,
    execute,
)

PAGE = (ROOT / "docs" / "reference" / "exit-statuses.md").read_text(encoding="utf-8")
ARGUMENTS = {
    "accept-redis-state": "",
    "archive": "",
    "audit": "",
    "backup": "backups/none",
    "beat": "",
    "dead-letters drop": "1-0",
    "dead-letters edit": "1-0 --set event_type=sale",
    "dead-letters list": "",
    "dead-letters replay": "1-0",
    "dead-letters show": "1-0",
    "doctor": "",
    "events": "",
    "export": "-",
    "flower": "",
    "flush": "",
    "forget": "u1",
    "import": "-",
    "keys change": "3f9c2a7be001 --max-age 1h",
    "keys create": "write",
    "keys list": "",
    "keys revoke": "3f9c2a7be001",
    "metrics": "--once",
    "migrate": "",
    "prune": "",
    "rebuild": "--from 2026-01-01 --to 2026-01-01",
    "restore": "backups/none",
    "seal": "",
    "settings": "",
    "stats active": "",
    "stats breakdown": "page_view",
    "stats count": "page_view",
    "stats funnel": "page_view signup",
    "stats histogram": "sale total",
    "stats hourly": "page_view --date 2026-01-01",
    "stats percentiles": "sale total",
    "stats properties": "page_view",
    "stats property": "page_view path /",
    "stats retention": "signup login --by week",
    "stats series": "page_view --from 2026-01-01 --to 2026-01-02",
    "stats sum": "sale total",
    "stats top": "page_view user",
    "stats types": "",
    "stats user": "u1",
    "stats users": "page_view",
    "status": "",
    "track": "page_view",
    "types": "",
    "types remove": "junk --yes",
    "types restore": "junk",
    "up": "",
    "watch": "--once",
    "web": "",
    "worker": "flush",
}
"""Every command, with arguments with which it can be run."""
WAITING = ("beat", "flower", "web", "metrics", "watch")
"""Begin while a server is away, and wait for it."""
STARTING = ("restore",)
"""Start private servers that do not run."""
WITHOUT_SERVERS = ("settings",)
NEEDING = sorted(set(ARGUMENTS) - {*WITHOUT_SERVERS, "up"})
IN_PROCESSES = ("worker", "beat", "flower")
"""Keep their settings for the life of a process."""


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A data directory without servers, no input, and the handlers of logs and signals put back."""
    monkeypatch.setenv("ANALYTICS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])
    terminate = signal.getsignal(signal.SIGTERM)
    with Path("/dev/null").open(encoding="ascii") as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield
    signal.signal(signal.SIGTERM, terminate)


def list_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of all commands that do something, `keys list` for example."""
    children = getattr(command, "commands", {})
    if path and (not children or command.invoke_without_command):
        yield " ".join(path)
    for name, child in children.items():
        yield from list_commands(child, (*path, name))


def run(command: str, *more: str) -> tuple[int, str]:
    """Exit status and standard error of a command in this process, or one of its own."""
    arguments = [*command.split(), *ARGUMENTS[command].split(), *more]
    if command in IN_PROCESSES:
        return run_process(*arguments)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        said: list[str] = []
        patch.setattr(sys.stderr, "write", said.append)
        main(arguments)
    code = ended.value.code
    return (0 if code is None else int(code)), "".join(said)


def run_process(*arguments: str) -> tuple[int, str]:
    given = {name: value for name, value in os.environ.items() if name.startswith("ANALYTICS_")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline.cli", *arguments],
        env={**environment_without_settings(), **given, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_every_command_is_tried_here() -> None:
    assert set(list_commands(typer.main.get_command(app))) == set(ARGUMENTS)


@pytest.mark.parametrize("command", ARGUMENTS)
def test_the_page_has_the_statuses_of_every_command(command: str) -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert any(f"`{command}`" in row for row in rows)


@pytest.mark.timeout(90)
@pytest.mark.parametrize("command", [one for one in [*NEEDING, "up"] if one not in WAITING])
def test_a_server_that_is_down_has_a_status_of_its_own(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("ANALYTICS_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", f"postgresql://a:b@127.0.0.1:{port}/a")

    status, said = run(command)

    assert status == 3
    assert "does not answer" in said


@pytest.mark.timeout(90)
@pytest.mark.parametrize("command", [one for one in NEEDING if one not in STARTING])
def test_private_servers_that_are_stopped_have_the_same_status(
    tmp_path: Path, command: str
) -> None:
    no_process = 2**22 + 1
    (tmp_path / "servers.json").write_text(
        '{"redis_url": "redis://127.0.0.1:1/0", "postgres_url": "postgresql://127.0.0.1:1/a", '
        f'"pid": {no_process}}}'
    )
    (tmp_path / "servers.json").chmod(0o600)

    status, said = run(command)

    assert status == 3
    assert "are not running: start `analytics up` there" in said


@pytest.mark.timeout(90)
@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_wrong_setting_is_no_server_that_is_down(
    monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", "http://127.0.0.1")

    status, said = run(command)

    assert status == (4 if command == "audit" else 1)
    assert "ANALYTICS_REDIS_URL=http://127.0.0.1" in said


@pytest.mark.parametrize("command", [one for one in ARGUMENTS if one not in IN_PROCESSES])
def test_a_command_written_wrongly_has_a_status_of_its_own(command: str) -> None:
    assert run(command, "--nonsense")[0] == 2


# What an audit found, and what kept it from being made


@pytest.fixture
def audited(services: Services) -> Services:
    """Services on the servers that the command uses, with an event counted and stored."""
    count_events(services, event())
    services.flush()
    return services


def test_an_audit_that_finds_a_difference_is_told_from_one_that_could_not_be_made(
    analytics: Any, audited: Services
) -> None:
    audit = ("audit", "--from", str(TODAY), "--to", str(TODAY))
    assert analytics(*audit)[0] == 0

    execute(audited, "UPDATE analytics_daily SET count = count + 1")
    assert analytics(*audit)[0] == 1

    execute(audited, "ALTER TABLE event_log_gaps RENAME TO gaps_of_old")
    status, out, err = analytics(*audit)
    assert (status, out) == (4, "")
    assert "run `analytics migrate`" in err


@pytest.mark.parametrize(
    ("setting", "value"),
    [("REDIS_URL", "redis://:wrong@{redis}"), ("POSTGRES_URL", "postgresql://a:wrong@{postgres}")],
)
def test_a_server_that_refuses_an_audit_is_not_a_difference(
    analytics: Any,
    redis_url: str,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
) -> None:
    places = {
        "redis": redis_url.partition("@")[2],
        "postgres": postgres_url.partition("@")[2],
    }
    monkeypatch.setenv(f"ANALYTICS_{setting}", value.format(**places))

    assert analytics("audit")[0] == 4


@pytest.mark.parametrize("away", ["REDIS_URL", "POSTGRES_URL"])
def test_one_server_away_is_enough_for_an_audit_to_be_tried_again(
    analytics: Any, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    scheme = "redis" if away == "REDIS_URL" else "postgresql"
    monkeypatch.setenv(f"ANALYTICS_{away}", f"{scheme}://127.0.0.1:1/0")

    assert analytics("audit")[0] == 3


def test_output_that_is_cut_off_is_no_loss_of_events() -> None:
    command = [sys.executable, "-P", "-m", "pipeline.cli", "settings"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as settings:
        assert settings.stdout is not None
        settings.stdout.close()
    assert settings.returncode == 141


def test_a_fault_of_the_program_is_no_difference(
    analytics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(archiving, "today", fail)

    status, _, err = analytics("audit")

    assert status == 70
    assert "ZeroDivisionError: a fault" in err
