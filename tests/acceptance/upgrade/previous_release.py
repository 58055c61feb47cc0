"""The release before this one: its wheel, unpacked, and its processes beside ours.

The wheel is a file of the tree, so that a clone without history has it. After a release
`make previous REF=v1.2.3` puts that release's in its place.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.helpers.support import Worker, Workers, environment_without_settings, start_group

WHEELS = Path(__file__).parent / "previous"


class PreviousRelease:
    """Runs what the wheel has, with the libraries of this environment."""

    def __init__(self, directory: Path, workers: Workers) -> None:
        """Unpack it below `directory`; `workers` ends what is started."""
        [wheel] = WHEELS.glob("*.whl")
        self.path, self._workers = directory / "previous", workers
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(self.path)

    def start(self, *arguments: str, **settings: str) -> Worker:
        """Start `analytics ARGUMENTS`."""
        name = f"previous-{arguments[0]}-{len(self._workers.started)}"
        log = self._workers.directory / f"{name}.log"
        with log.open("wb") as output:
            command = [sys.executable, "-P", "-m", "pipeline.cli", *arguments]
            process = start_group(command, output, self._environment(settings), self.path)
        self._workers.started.append(Worker(name, process, log))
        return self._workers.started[-1]

    def run(self, program: str, *arguments: str) -> str:
        """Run a program of an application that has this release; returns what it printed."""
        ran = subprocess.run(
            [sys.executable, "-P", "-c", program, *arguments],
            cwd=self.path,
            env=self._environment({}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        """`PYTHONPATH` comes before the editable install of this tree."""
        path = os.pathsep.join([str(self.path), str(self.path / "pipeline" / "_rooms")])
        given = {f"ANALYTICS_{name}": value for name, value in settings.items()}
        ours = {**environment_without_settings(), **self._workers.environment}
        return {**ours, **given, "PYTHONPATH": path}
