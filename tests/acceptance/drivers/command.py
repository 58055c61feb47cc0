"""The `analytics` command as a user has it: processes, and what is left of them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.options import pipeline_options
from config.settings import Settings
from pipeline import server_addresses
from pipeline.cli import main
from pipeline.services import connect
from tests.helpers.support import (
    ROOT,
    check_celery_app_is_unused,
    environment_without_settings,
    eventually,
    start_group,
)

READY_WITHIN_S = 60
ENDS_WITHIN_S = 10


@dataclass
class Analytics:
    """Runs `analytics` for one data directory, from where packages of our names are in the way."""

    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A package `tasks` or `config` of the user's own must not be taken for ours.
        for package in ("tasks", "config"):
            decoy = self.directory / package
            decoy.mkdir(parents=True)
            (decoy / "__init__.py").write_text("raise RuntimeError('the wrong package')\n")

    @property
    def data_dir(self) -> Path:
        """Where the servers keep their data."""
        return self.directory / "my data"

    def command(self, *arguments: str) -> list[str]:
        """The command line of `analytics ARGUMENTS`."""
        return [sys.executable, "-P", "-m", "pipeline.cli", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user who has set nothing but `settings`."""
        settings = {f"ANALYTICS_{name}": value for name, value in self.settings.items()}
        return {**environment_without_settings(), "PYTHONPATH": str(ROOT), **settings}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end in a process, as a user does."""
        return subprocess.run(
            self.command(*arguments, "--data-dir", str(self.data_dir)),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """The one object that a command with `--json` prints.

        It runs in this process, which spares every one of many commands a second of imports. One
        that asks workers cannot: `check_celery_app_is_unused`.
        """
        out, err = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            for name, value in self.settings.items():
                patch.setenv(f"ANALYTICS_{name}", value)
            patch.setenv("ANALYTICS_DATA_DIR", "put back afterwards")
            main([*arguments, "--json", "--data-dir", str(self.data_dir)])
        assert ended.value.code == 0, err.getvalue() + self.said_last()
        check_celery_app_is_unused()
        assert out.getvalue().count("\n") == 1
        return json.loads(out.getvalue())

    def said_last(self) -> str:
        """The last lines of every process of `analytics up`: why a command failed."""
        logs = [*self.directory.glob("up.out"), *sorted(self.data_dir.glob("**/*.log"))]
        tails = {log.name: log.read_text(errors="replace").splitlines()[-8:] for log in logs}
        return "".join(f"\n== {name}\n" + "\n".join(lines) for name, lines in tails.items())

    def books(self, event_type: str) -> dict[str, int]:
        """What became of the events of a type, by the books."""
        addresses = server_addresses.read(self.data_dir)
        assert addresses is not None
        assert addresses.redis_url is not None
        assert addresses.postgres_url is not None
        services = connect(
            pipeline_options(Settings()), addresses.redis_url, addresses.postgres_url
        )
        with closing(services):
            by_type: dict[str, dict[str, int]] = services.status()["books"]["by_type"]
        return by_type.get(event_type, {})

    def up(self, *arguments: str) -> Up:
        """Start `analytics up` and wait until it says how to stop it."""
        output = self.directory / "up.out"
        with output.open("wb") as file:
            command = self.command("up", *arguments, "--data-dir", str(self.data_dir))
            process = start_group(command, file, self.environment, self.directory)
        running = Up(process, output)
        try:
            eventually(
                lambda: "Ctrl-C stops" in running.said() or process.poll() is not None,
                READY_WITHIN_S,
                "`analytics up` is not ready",
            )
            assert process.poll() is None, running.said()
        except BaseException:
            running.kill()  # the kernel takes along what it started
            raise
        return running

    def processes(self) -> dict[int, str]:
        """All processes that have to do with the data directory: process id -> command line."""
        return processes_of(str(self.data_dir).encode())


@dataclass
class Up:
    """A running `analytics up`."""

    process: subprocess.Popen[bytes]
    output: Path

    def said(self) -> str:
        """What it printed so far."""
        return self.output.read_text(errors="replace")

    def pid_of(self, name: str) -> int:
        """The process id that its table shows for a name."""
        row = next(line for line in self.said().splitlines() if line.startswith(f"│ {name} "))
        return int(row.split("│")[2])

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send it a signal and wait for the promised end; returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(ENDS_WITHIN_S)

    def kill(self) -> None:
        """SIGKILL the process alone."""
        self.process.kill()
        self.process.wait()


def processes_of(mark: bytes) -> dict[int, str]:
    """Processes whose command line, environment or directory holds `mark`."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            about = [
                command,
                (entry / "environ").read_bytes(),
                os.fsencode((entry / "cwd").readlink()),
            ]
        except OSError:
            continue  # it ended meanwhile, or is another user's
        if any(mark in text for text in about):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def rows_of(output: str) -> Sequence[Sequence[str]]:
    """The cells of the tables in an output."""
    lines = [line for line in output.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
