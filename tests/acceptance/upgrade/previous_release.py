"""The release before this one: its wheel, unpacked, and its processes beside ours.

The wheel is a file of the tree, so that a clone without history has it. After a release
`make previous REF=v1.2.3` puts that release's in its place.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    @contextmanager
    def application(self, program: str) -> Iterator[Callable[..., None]]:
        """An application that has this release: its program answers each line of its input with
        one. Yields what gives it a line."""
        with subprocess.Popen(
            [sys.executable, "-P", "-c", program],
            cwd=self.path,
            env=self._environment({}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def order(*words: object) -> None:
                print(*words, file=process.stdin, flush=True)
                assert process.stdout is not None
                assert process.stdout.readline() == "done\n"

            yield order
            process.stdin.close()
        assert process.returncode == 0

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        """`PYTHONPATH` comes before the editable install of this tree."""
        path = os.pathsep.join([str(self.path), str(self.path / "pipeline" / "_rooms")])
        given = {f"ANALYTICS_{name}": value for name, value in settings.items()}
        ours = {**environment_without_settings(), **self._workers.environment}
        return {**ours, **given, "PYTHONPATH": path}
