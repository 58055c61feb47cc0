"""Which alarms are raised and who was told, in a file: a restart repeats and forgets nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import InvalidConfiguration
from pipeline.system.private_files import write_private

_VERSION = 1


@dataclass
class Raised:
    """An alarm: since when it is seen (Unix time), what was found then, and which senders have told
    that it is raised."""

    since_s: float
    gravity: str
    what: str
    remedy: str
    told: list[str] = field(default_factory=list)
    is_raised: bool = False
    """Whether it was found for long enough, and the log has it."""


class RaisedFile:
    """The file, and its directory where there is none, for their owner alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written = ""

    def read(self) -> dict[str, Raised]:
        """The alarms by name; none where there is no file yet. Raises `InvalidConfiguration` for a
        file that is not ours."""
        try:
            content: Any = json.loads(self._path.read_text(encoding="utf-8"))
            return {name: Raised(**one) for name, one in content["alarms"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidConfiguration(
                f"{self._path} cannot be read as a list of alarms ({error}): remove it, and what "
                "is raised now is sent again"
            ) from error

    def write(self, alarms: dict[str, Raised]) -> None:
        """Replace it; a crash leaves the one before. Raises `InvalidConfiguration`."""
        content = {
            "version": _VERSION,
            "alarms": {name: asdict(one) for name, one in alarms.items()},
        }
        try:
            if (text := json.dumps(content, indent=1)) != self._written:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(self._path, text)
                self._written = text
        except OSError as error:
            raise InvalidConfiguration(
                f"{self._path} cannot be written ({error}): name another with --state"
            ) from error
