"""Where `config` and `tasks` lie, which the processes of the pipeline need and applications do not.

Applications have packages of these names too. In a wheel ours are inside this package, so that no
file of one is a file of the other; in the project's directory they lie beside it.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path

from pipeline.errors import InvalidConfiguration

_PACKAGE = Path(__file__).resolve().parents[1]
_DISTRIBUTION = "analytics-pipeline"


def find_rooms() -> Path:
    """The directory that holds `config` and `tasks`."""
    inside = _PACKAGE / "_rooms"
    return inside if inside.is_dir() else _PACKAGE.parent


def use_rooms() -> None:
    """Have `config` and `tasks` found here before any others. Called first by each process of the
    pipeline's own; may be repeated."""
    rooms = str(find_rooms())
    if sys.path[:1] != [rooms]:
        sys.path.insert(0, rooms)


def check_room(room: str) -> None:
    """Raise `InvalidConfiguration` where `config` or `tasks` is another's, which was imported
    before ours."""
    found = importlib.util.find_spec(room)
    ours = find_rooms() / room / "__init__.py"
    if found is None or found.origin is None or Path(found.origin).resolve() != ours.resolve():
        where = found.origin if found is not None else "nowhere"
        raise InvalidConfiguration(
            f"the package `{room}` of this project is hidden by another (found: {where}); "
            "take its directory off PYTHONPATH, or start `analytics` from another directory"
        )


def check_package() -> None:
    """Raise `InvalidConfiguration` where another program has overwritten files of `pipeline`."""
    if "track_event" not in getattr(sys.modules["pipeline"], "__all__", ()):
        raise InvalidConfiguration(
            f"the package `pipeline` in {_PACKAGE} is not that of {_DISTRIBUTION} only: "
            f"{_name_others()} has overwritten files of it. The two cannot be installed in one "
            "environment: uninstall that one, then run pip install --force-reinstall --no-deps "
            f"{_DISTRIBUTION}"
        )


def warn_of_overwritten() -> str | None:
    """A line that names who else has installed files into `pipeline`, as django-pipeline does: ours
    were installed last and are whole, theirs are not. None where there is none."""
    others = find_others()
    if not others:
        return None
    return (
        f"{', '.join(others)} and {_DISTRIBUTION} have installed files of the same names in "
        f"{_PACKAGE}, so one has overwritten the other's: install them in two environments"
    )


def find_others() -> list[str]:
    """Names of the other distributions that have installed a package `pipeline`."""
    found = set()
    for one in metadata.distributions():
        name, files = one.name, one.read_text("RECORD") or ""
        if name != _DISTRIBUTION and ("\n" + files).find("\npipeline/__init__.py,") >= 0:
            found.add(name)
    return sorted(found)


def _name_others() -> str:
    return ", ".join(find_others()) or "another program"
