"""`analytics doctor` on real servers: each fault has its line, how to mend it, and no other line is
wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from pipeline.cli import main
from pipeline.cli.commands.care import doctor
from pipeline.embedded import PrivateServers
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.partitions import make_ahead
from pipeline.redis.keys import Keys
from pipeline.upkeep.checkup import redis_rights
from tests.conftest import chosen_programs
from tests.helpers.postgres.databases import copy_data_dir
from tests.helpers.support import ROOT, eventually
from tests.integration.upkeep.checkup.faults import FAULTS, Bench, redis_option, redis_user


@pytest.fixture(scope="module")
def sound_servers(
    new_cluster: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrivateServers]:
    """Servers that are not hurried, with tables and partitions."""
    directory = tmp_path_factory.mktemp("sound") / "servers"
    copy_data_dir(new_cluster, directory)
    with PrivateServers.start(directory, **chosen_programs()) as running:
        assert running.postgres_url is not None
        engine = postgres_engine(running.postgres_url)
        schema.migrate(engine)
        make_ahead(engine, date.today(), 1)  # noqa: DTZ011
        engine.dispose()
        yield running


@pytest.fixture
def bench(
    sound_servers: PrivateServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Bench]:
    redis_url, postgres_url = sound_servers.redis_url, sound_servers.postgres_url
    assert redis_url is not None
    assert postgres_url is not None
    monkeypatch.setenv("ANALYTICS_REDIS_URL", redis_url)
    monkeypatch.setenv("ANALYTICS_POSTGRES_URL", postgres_url)
    monkeypatch.setattr(doctor, "_WORKERS_ANSWER_WITHIN_S", 0.01)
    with (
        redis.Redis.from_url(redis_url) as client,
        Celery(broker=redis_url, set_as_current=False) as app,
    ):
        monkeypatch.setattr(doctor, "load_celery_app", lambda: app)
        yield Bench(redis_url, postgres_url, client, monkeypatch, tmp_path)


@pytest.fixture
def run(capfd: Any) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Runs `analytics doctor --json`: its status, its checks by name, and standard error."""

    def run_doctor(*options: str) -> tuple[int, dict[str, Any], str]:
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--json", *options])
        said = capfd.readouterr()
        found = json.loads(said.out)["checks"]
        checks = {one["name"]: one for one in found}
        assert len(checks) == len(found), "two lines of one name"
        return int(ended.value.code or 0), checks, said.err

    return run_doctor


def test_all_is_fine_on_sound_servers(
    bench: Bench, run: Callable[..., tuple[int, dict[str, Any], str]], tmp_path: Path
) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    status, checks, err = run("--spool", f"{tmp_path / 'spool'}")
    assert {name: one for name, one in checks.items() if one["state"] != "fine"} == {}
    assert (status, err) == (0, "")
    assert {name for name, _, _ in FAULTS.values()} <= set(checks)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_has_its_line_and_only_that(
    bench: Bench, run: Callable[..., tuple[int, dict[str, Any], str]], fault: str
) -> None:
    name, spoil, remedy = FAULTS[fault]
    with spoil(bench):
        status, checks, err = run()
    failed = {one for one, check in checks.items() if check["state"] in ("wrong", "away")}
    assert failed == {name}, checks
    assert remedy in f"{checks[name]['what']}: {checks[name]['remedy']}"
    assert err.startswith(f"analytics: 1 of {len(checks)} checks failed; {name}: ")
    assert status == (3 if checks[name]["state"] == "away" else 1)


def test_what_may_not_be_asked_is_unknown_and_no_fault(
    bench: Bench, run: Callable[..., tuple[int, dict[str, Any], str]]
) -> None:
    with redis_user(bench, "-info", "-config"):
        status, checks, err = run()
    unknown = {name for name, one in checks.items() if one["state"] == "unknown"}
    asked = ("version", "eviction", "append-only file", "sync", "memory")
    assert unknown == {f"redis {what}" for what in asked}
    assert all("make sure of it yourself" in checks[name]["remedy"] for name in unknown)
    assert (status, err) == (0, "")


@pytest.mark.parametrize("user", ["worker", "flush", "beat", "web"])
def test_the_users_that_the_page_of_rights_makes_have_them(bench: Bench, user: str) -> None:
    page = (ROOT / redis_rights.PAGE).read_text(encoding="utf-8")
    [rules] = re.findall(rf"^user {user} on >PASSWORD (.+)$", page, re.MULTILINE)
    with redis_user(bench, "-@all", *rules.split()), redis.Redis.from_url(bench.redis_url) as one:
        one.auth("secret", "clerk")
        assert redis_rights.check_rights(one, Keys()).state == "fine"


@pytest.mark.parametrize("option", ["--data-dir", "--spool"])
@pytest.mark.parametrize("is_file", [True, False])
def test_directories_that_others_may_look_into_are_found(
    bench: Bench,
    run: Callable[..., tuple[int, dict[str, Any], str]],
    option: str,
    is_file: bool,
) -> None:
    directory = bench.directory / "private"
    directory.mkdir()
    directory.chmod(0o700 if is_file else 0o750)
    (directory / "messages").touch()
    (directory / "messages").chmod(0o644 if is_file else 0o600)
    name = "spool" if option == "--spool" else "data directory"
    if option == "--data-dir":  # is looked into where private servers may be meant
        bench.patch.setenv("ANALYTICS_DATA_DIR", f"{directory}")
        bench.patch.delenv("ANALYTICS_REDIS_URL")
        bench.patch.setattr(doctor, "find_redis_url", lambda _: bench.redis_url)
    status, checks, _ = run(*(["--spool", f"{directory}"] if option == "--spool" else []))
    assert {one for one, check in checks.items() if check["state"] == "wrong"} == {name}
    assert checks[name]["remedy"].startswith("chmod go-rwx" if is_file else "chmod go-rw ")
    assert status == 1


def test_a_worker_that_would_discard_events_is_named(
    bench: Bench,
    run: Callable[..., tuple[int, dict[str, Any], str]],
    capfd: Any,
) -> None:
    bench.patch.setattr(doctor, "_WORKERS_ANSWER_WITHIN_S", 1.0)
    # A process of its own: signals of our own app, once it is imported here, would reach it.
    command = ("-m", "celery", "--broker", bench.redis_url, "worker", "--pool", "solo")
    log = (bench.directory / "worker.log").open("wb")
    with log, subprocess.Popen([sys.executable, *command], stdout=log, stderr=log) as worker:
        try:
            found = eventually(lambda: find_wrong(run))
        finally:
            worker.kill()
    assert set(found) == {"default queue"}
    assert "listens on Celery's default queue" in found["default queue"]["what"]


def find_wrong(run: Callable[..., tuple[int, dict[str, Any], str]]) -> dict[str, Any]:
    return {name: one for name, one in run()[1].items() if one["state"] == "wrong"}


def test_people_read_a_line_a_check(bench: Bench, capfd: Any) -> None:
    with redis_option(bench, "maxmemory-policy", "allkeys-lru"), pytest.raises(SystemExit):
        main(["doctor"])
    lines = capfd.readouterr().out.splitlines()
    assert "fine    redis: answers" in lines
    wrong = [line for line in lines if not line.startswith("fine")]
    assert wrong == [
        "wrong   redis eviction: Redis evicts keys (maxmemory-policy allkeys-lru): set "
        "maxmemory-policy noeviction, or counts are lost when memory is short"
    ]


def test_every_command_of_our_scripts_is_asked_for() -> None:
    """But for those of a backup, which the user of workers need not make."""
    in_scripts = {
        name
        for script in (*ROOT.glob("pipeline/**/*.lua"), *ROOT.glob("tasks/**/*.lua"))
        for name in re.findall(r"redis\.p?call\('([A-Z]+)'", script.read_text())
    }
    asked = {name for name, *_ in redis_rights.list_commands(Keys())}
    assert in_scripts - asked == {"DUMP", "PEXPIRETIME"}
