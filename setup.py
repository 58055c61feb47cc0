"""How the wheel differs from this directory: it has one package at its top, `pipeline`.

`config` and `tasks` are names that applications have too, and of two wheels with the same files pip
lets the second overwrite the first without a word. Only the processes of the pipeline need the two,
so they lie in `pipeline/_rooms`, which `pipeline.system.rooms` puts first on their path; for others
(`celery -A tasks worker`) a .pth file puts it last, behind any package of the application's.

All else is in pyproject.toml. An editable install has the directory as it is.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.egg_info import egg_info

ROOMS = ("config", "tasks")


class BuildWithRooms(build_py):
    """Moves the rooms that workers need into the package."""

    def run(self) -> None:
        """Build as usual, then move."""
        super().run()
        if self.editable_mode:
            return
        top = Path(self.build_lib)
        inside = top / "pipeline" / "_rooms"
        shutil.rmtree(inside, ignore_errors=True)  # of a build before
        inside.mkdir()
        for room in ROOMS:
            shutil.move(top / room, inside / room)
        # Read at every start of Python, in the order of the names.
        (top / "zz-analytics-pipeline.pth").write_text("pipeline/_rooms\n")


class NameOnePackage(egg_info):
    """Says what is at the top of the wheel."""

    def run(self) -> None:
        """Write the metadata as usual, then that."""
        super().run()
        (Path(self.egg_info) / "top_level.txt").write_text("pipeline\n")


setup(cmdclass={"build_py": BuildWithRooms, "egg_info": NameOnePackage})
