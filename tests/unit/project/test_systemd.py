"""The units for systemd: it finds no fault in them, and they agree with the rest of the tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from pipeline.cli.commands.processes import WorkerKind
from tasks.consumer.lane import ENDS_WITHIN_S

ROOT = Path(__file__).parents[3]
UNITS = ROOT / "deploy" / "systemd"
PROGRAM = "/opt/analytics/bin/analytics"
SERVICES = sorted(UNITS.glob("*.service"))


def read_unit(path: Path) -> ConfigParser:
    unit = ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    return unit


def verify(directory: Path) -> subprocess.CompletedProcess[str]:
    """What systemd says of all units of a directory."""
    program = shutil.which("systemd-analyze")
    if program is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("systemd-analyze is not installed (on Debian: apt-get install systemd)")
    command = [str(program), "verify", "--man=no", *sorted(map(str, directory.iterdir()))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The units, with a program that is here in place of ours, and an instance of the template."""
    for unit in [*SERVICES, *UNITS.glob("*.target")]:
        text = unit.read_text().replace(PROGRAM, "/bin/true")
        (tmp_path / unit.name.replace("@.", "@1.")).write_text(text)
    return tmp_path


def test_systemd_finds_no_fault(units: Path) -> None:
    found = verify(units)
    assert (found.returncode, found.stderr) == (0, "")


def test_systemd_would_find_one(units: Path) -> None:
    with (units / "analytics-beat.service").open("a") as unit:
        unit.write("\n[Service]\nTimeoutStopSecs=1\n")
    assert "Unknown key" in verify(units).stderr


def test_every_worker_has_a_unit() -> None:
    commands = " ".join(read_unit(path)["Service"]["ExecStart"] for path in SERVICES)
    for kind in WorkerKind:
        assert f"{PROGRAM} worker {kind.value}" in commands


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_is_confined_and_its_secrets_stand_in_no_unit(path: Path) -> None:
    service = read_unit(path)["Service"]
    assert service["User"] == "analytics"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert service["EnvironmentFile"] == "/etc/analytics/environment"
    assert service["Environment"] == f"TMPDIR=/run/{service['RuntimeDirectory']}"


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_comes_back_and_has_time_to_end(path: Path) -> None:
    unit = read_unit(path)
    if unit["Service"].get("Type") == "oneshot":
        return
    assert unit["Service"]["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(unit["Service"]["TimeoutStopSec"]) > ENDS_WITHIN_S
    assert unit["Service"]["KillMode"] == "mixed"
    assert unit["Install"]["WantedBy"] == "analytics.target"
