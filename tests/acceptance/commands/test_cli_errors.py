"""What the `analytics` command says when it is used wrongly, or when something is not there.

Errors are one line on standard error, never a traceback; exit code 2 says that the command was
written wrongly, 3 that a server does not answer, 1 that it could not be done for another reason.
"""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.services import Services
from tests.helpers.support import ROOT, count_events, environment_without_settings, event

COMMANDS = [
    "up",
    "track",
    "import",
    "flush",
    "status",
    "settings",
    "migrate",
    "accept-redis-state",
    "worker",
    "beat",
    "flower",
    "stats",
    "stats count",
    "stats hourly",
    "stats series",
    "stats user",
    "stats property",
    "stats top",
    "stats types",
    "stats properties",
    "dead-letters",
    "dead-letters list",
    "dead-letters replay",
    "dead-letters drop",
]


@pytest.fixture(autouse=True)
def empty_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory without servers; what `--data-dir` sets is put back afterwards, and so is
    the log of a command that writes one."""
    monkeypatch.setenv("ANALYTICS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(logging.root, "handlers", [*logging.root.handlers])
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `analytics ARGUMENTS`."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line of a command that fails."""
    code, out, err = run(capsys, *arguments)
    assert out == ""
    assert err.startswith("analytics: ")
    assert err.count("\n") == 1, err
    return code, err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example_of_it(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, out, _ = run(capsys, *command.split(), "--help")

    assert code == 0
    assert f"Example: analytics {command}" in " ".join(out.split())


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--help")

    listed = {
        line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()
    }
    assert {command for command in COMMANDS if " " not in command} <= listed


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["stats", "count", "x", "--date", "2026-02-30"],
            "--date: '2026-02-30' is not a day; write a date that exists as YYYY-MM-DD",
        ),
        (["stats", "count", "x", "--from", "yesterday"], "--from: 'yesterday' is not a day"),
        (["stats", "count", "x", "--date", "20260131"], "--date: '20260131' is not a day"),
        (
            ["stats", "count", "x", "--from", "2026-02-02", "--to", "2026-02-01"],
            "--from: '2026-02-02' is after the last day, 2026-02-01; give the earlier day first",
        ),
        (["stats", "count", "x", "--to", "2026-02-01"], "add --from YYYY-MM-DD"),
        (
            ["stats", "count", "x", "--date", "2026-02-01", "--from", "2026-02-01"],
            "--date: '2026-02-01' cannot be given together with --from or --to",
        ),
        (
            ["stats", "count", "x", "--from", "0001-01-01", "--to", "9999-12-31"],
            "ask for at most 3660 days at a time",
        ),
        (["stats", "hourly", "x"], "Missing option '--date'"),
        (["stats", "top", "x", "user", "--limit", "0"], "--limit"),
        (["stats", "series", "x", "--from", "2026-01-01", "--by", "fortnight"], "'fortnight'"),
        (
            ["import", "x.log", "--format", "xml"],
            "'xml' is not one of 'auto', 'combined'",
        ),
        (["nonsense"], "No such command 'nonsense'"),
        (["status", "--colour"], "No such option: --colour"),
        (["track"], "Missing argument 'EVENT'"),
        (["status", "--data-dir"], "--data-dir: needs a directory"),
    ],
)
def test_a_command_written_wrongly_is_told_so_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    code, err = error(capsys, *arguments)

    assert code == 2
    assert line in err


@pytest.mark.parametrize("command", ["stats count x", "status", "flush", "track x", "migrate"])
def test_where_no_server_was_started_a_command_says_how_to_start_one(
    capsys: pytest.CaptureFixture[str], empty_data_dir: Path, command: str
) -> None:
    code, err = error(capsys, *command.split())

    assert code == 1
    assert "start `analytics up` there" in err
    assert str(empty_data_dir) in err


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_the_data_directory_may_be_given_anywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, place: int
) -> None:
    arguments = ["stats", "count", "x"]
    arguments[place:place] = ["--data-dir", str(tmp_path / "elsewhere")]

    _, err = error(capsys, *arguments)

    assert str(tmp_path / "elsewhere") in err


def test_private_servers_that_were_stopped_are_named(
    capsys: pytest.CaptureFixture[str], empty_data_dir: Path
) -> None:
    no_process = 2**22 + 1
    (empty_data_dir / "servers.json").write_text(
        '{"redis_url": "redis://127.0.0.1:1/0", "postgres_url": "postgresql://127.0.0.1:1/a", '
        f'"pid": {no_process}}}'
    )

    code, err = error(capsys, "status")

    assert code == 3
    assert f"the private servers of {empty_data_dir} are not running: start `analytics up`" in err


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "command", ["track x", "status", "flush", "stats count x", "dead-letters list", "audit"]
)
def test_a_server_that_is_down_is_named_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("ANALYTICS_REDIS_URL", f"redis://:secret@127.0.0.1:{port}/0")
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", f"postgresql://a:secret@127.0.0.1:{port}/a")

    code, err = error(capsys, *command.split())

    assert code == 3
    assert f"127.0.0.1:{port}" in err
    assert "secret" not in err


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("ANALYTICS_REDIS_URL", "http://:secret@host", "ANALYTICS_REDIS_URL=http://:***@host"),
        ("ANALYTICS_FLUSH_INTERVAL_S", "soon", "ANALYTICS_FLUSH_INTERVAL_S=soon: must be a number"),
        ("ANALYTICS_FLUSH_INTERVALL_S", "5", "did you mean ANALYTICS_FLUSH_INTERVAL_S?"),
    ],
)
def test_a_wrong_setting_stops_every_command_with_its_name(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    line: str,
) -> None:
    monkeypatch.setenv(variable, value)

    code, err = error(capsys, "status")

    assert code == 1
    assert line in err
    assert "secret" not in err


def test_a_wrong_password_of_redis_is_told_without_showing_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    place = redis_url.partition("@")[2]
    monkeypatch.setenv("ANALYTICS_REDIS_URL", f"redis://:wrong-secret@{place}")

    code, err = error(capsys, "track", "x")

    assert code == 1
    assert "correct ANALYTICS_REDIS_URL" in err
    assert "wrong-secret" not in err


def test_a_wrong_password_of_postgres_is_told_without_showing_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    postgres_url: str,
) -> None:
    place = postgres_url.partition("@")[2]
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", f"postgresql://analytics:wrong-secret@{place}")

    code, err = error(capsys, "stats", "count", "x")

    assert code == 1
    assert "correct ANALYTICS_POSTGRES_URL" in err
    assert "wrong-secret" not in err


@pytest.mark.parametrize("command", ["stats count x", "flush", "status", "stats top x user"])
def test_a_database_without_our_tables_is_told_to_be_migrated(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    empty_postgres_url: str,
    command: str,
) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", empty_postgres_url)

    code, err = error(capsys, *command.split())

    assert code == 1
    assert "run `analytics migrate`" in err


@pytest.mark.parametrize(
    "command", ["flush", "stats top page_view path --fresh", "rebuild --from 2026-01-01"]
)
def test_a_redis_that_went_back_is_named_with_its_remedy(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    services: Services,
    redis_url: str,
    postgres_url: str,
    command: str,
) -> None:
    go_back(monkeypatch, services, redis_url, postgres_url)

    code, err = error(capsys, *command.split())

    assert code == 1
    assert err.startswith("analytics: Redis is at claim 1 of epoch 0, but Postgres has stored")
    assert "run `analytics accept-redis-state` to go on" in err


@pytest.mark.parametrize(
    "command", ["archive", "forget u1", "stats count page_view --date 2025-03-14"]
)
def test_what_takes_no_claim_works_on_a_redis_that_went_back(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    services: Services,
    redis_url: str,
    postgres_url: str,
    command: str,
) -> None:
    go_back(monkeypatch, services, redis_url, postgres_url)

    code, _, err = run(capsys, *command.split())

    assert code == 0
    # That a user was forgotten is logged.
    assert err == "" or (command == "forget u1" and "had a user forgotten" in err)


def go_back(
    monkeypatch: pytest.MonkeyPatch, services: Services, redis_url: str, postgres_url: str
) -> None:
    """Have the commands use the servers of `services`, whose Redis numbers fewer claims than are
    stored."""
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", postgres_url)
    for _ in range(2):
        count_events(services, event())
        services.flush()
    services.redis.hset(services.keys.totals, "claims", 1)


@pytest.mark.usefixtures("redis_url")
def test_migrating_makes_the_tables_and_may_be_repeated(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    empty_postgres_url: str,
) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", empty_postgres_url)

    first = run(capsys, "migrate")
    again = run(capsys, "migrate")

    assert first[0] == again[0] == 0
    assert first[1] == again[1]
    assert run(capsys, "stats", "count", "x", "--json")[1] == '{"count": 0}\n'


def test_a_secret_is_masked_where_the_settings_are_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANALYTICS_REDIS_URL", "redis://:hush@host:6379/0")

    code, out, _ = run(capsys, "settings")

    assert code == 0
    assert "redis://:***@host:6379/0" in out
    assert "hush" not in out


@pytest.mark.timeout(60)
def test_a_full_disk_is_told_in_one_line() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    with full.open("w") as out:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "pipeline.cli", "settings"],
            env=environment_without_settings() | {"PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.startswith("analytics: the system refused: No space left on device")
    assert "Traceback" not in done.stderr
