"""What an application installs to send events is little, and works with the oldest and the newest
versions of Python, celery, redis and msgspec that we allow."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import make_url

from pipeline.services import Services
from tests.clients.libraries import install_for_python
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import ROOT, Workers, environment_without_settings, eventually, rows

HERE = Path(__file__).parent
PROGRAMS = ROOT / "tests" / "helpers" / "applications"
MOST_PACKAGES = 20
MOST_BYTES = 15 * 1024 * 1024
"""As unpacked. Ours, and what Python compiles of all, is as much again."""


def find_oldest() -> str:
    """Python 3.10, such as pyenv installs. Skips where there is none: Debian has one version."""
    found = _find_python("3.10")
    if found is None:
        pytest.skip("no Python 3.10 is installed")
    return found


def find_newest() -> str:
    """The newest Python of this machine."""
    found = (_find_python(version) for version in ("3.14", "3.13", "3.12"))
    return next(filter(None, found), sys.executable)


@cache
def _find_python(version: str) -> str | None:
    pattern = f".pyenv/versions/{version}.*/bin/python"
    candidates = [shutil.which(f"python{version}"), *Path.home().glob(pattern)]
    show = "import sys; print('%d.%d' % sys.version_info[:2])"
    for candidate in filter(None, candidates):
        ran = subprocess.run([candidate, "-c", show], capture_output=True, text=True, check=False)
        if ran.stdout.strip() == version:
            return str(candidate)
    return None


PYTHONS = {"oldest.lock": find_oldest, "newest.lock": find_newest}


def run_alone(lock: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python where nothing is installed but what a lock names, beside this project."""
    python = PYTHONS[lock]()
    installed = install_for_python(HERE / lock, python)
    return subprocess.run(
        [python, "-S", *arguments],
        cwd=cwd,
        env=environment_without_settings() | {"PYTHONPATH": f"{ROOT}:{installed}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("lock", PYTHONS)
def test_events_sent_in_every_way_are_counted_once(
    lock: str, services: Services, workers: Workers, redis_url: str, tmp_path: Path
) -> None:
    sent = send_in_every_way(lock, redis_url, tmp_path / "spool")
    if lock == "newest.lock":
        sent += send_in_every_way(lock, redis_url)

    workers.start("events")

    totals = services.keys.totals
    eventually(lambda: int(services.redis.hget(totals, "counted") or 0) >= sent.total())
    services.flush()
    stored = rows(services, "analytics_daily")
    assert {event_type: count for event_type, _, count in stored} == sent
    assert services.status()["books"]["balanced"]


def send_in_every_way(lock: str, redis_url: str, spool: Path | None = None) -> Counter[str]:
    """How many events of each type were sent; as if on Windows without a directory for a spool."""
    cutter = ReplyCutter(make_url(redis_url).port or 0)
    cutter.lose_the_answer_to(b"lost_reply")
    losing = make_url(redis_url).set(host="127.0.0.1", port=cutter.port)
    arguments = [redis_url, losing.render_as_string(hide_password=False)]
    arguments += [str(spool)] if spool else []
    programs = ["every_way.py"] if spool else ["like_windows.py", "every_way.py"]
    programs = [str(PROGRAMS / program) for program in programs]
    ran = run_alone(lock, *programs, *arguments, cwd=Path(tempfile.gettempdir()))
    cutter.close()
    assert ran.returncode == 0, ran.stderr
    assert "Warning" not in ran.stderr
    assert cutter.cut == 1
    return Counter(json.loads(ran.stdout))


def test_what_an_application_installs_is_little() -> None:
    installed = install_for_python(HERE / "newest.lock", find_newest())
    assert len(list(installed.glob("*.dist-info"))) < MOST_PACKAGES  # and ours
    size = sum(path.stat().st_size for path in installed.rglob("*") if path.is_file())
    assert size < MOST_BYTES


@pytest.mark.parametrize(
    "command", [("pipeline.cli", "status"), ("celery", "-A", "tasks", "worker")]
)
def test_a_command_without_its_packages_says_what_to_install(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    ran = run_alone("newest.lock", "-m", *command, cwd=tmp_path)
    assert ran.returncode == 1
    [line] = ran.stderr.splitlines()
    assert line.startswith("analytics: commands, workers and the web server need alembic, ")
    assert line.endswith(": pip install 'analytics-pipeline[server]'")


def test_a_command_in_an_old_python_says_which_one_it_needs(tmp_path: Path) -> None:
    ran = run_alone("oldest.lock", "-m", "pipeline.cli", "status", cwd=tmp_path)
    assert ran.returncode == 1
    [line] = ran.stderr.splitlines()
    assert "need Python 3.11 or later, and this is 3.10." in line
