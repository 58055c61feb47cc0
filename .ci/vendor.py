"""Fetch the files of other projects that the dashboard serves, as `vendored.json` locks them.

The packages come from the npm registry that npm is configured with. A file whose digest is another
than the lock's is refused; `python .ci/vendor.py --update` writes the digests of the versions that
the lock names, for a change that is then reviewed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "pipeline/web/dashboard/assets"
LOCK = ASSETS / "vendored.json"


def main(*, update: bool) -> None:
    """Write every file of the lock."""
    lock = json.loads(LOCK.read_text())
    for package, entry in lock.items():
        with tempfile.TemporaryDirectory() as directory:
            _fetch(f"{package}@{entry['version']}", Path(directory))
            for name, file in entry["files"].items():
                body = (Path(directory) / "package" / file["from"]).read_bytes()
                digest = hashlib.sha256(body).hexdigest()
                if update:
                    file["sha256"] = digest
                elif digest != file["sha256"]:
                    sys.exit(f"{file['from']} of {package} is not what {LOCK.name} locks: {digest}")
                (ASSETS / name).write_bytes(body)
    if update:
        LOCK.write_text(json.dumps(lock, indent=2) + "\n")


def _fetch(package: str, directory: Path) -> None:
    """Unpack a package below `directory`; nothing of it runs."""
    command = ["npm", "pack", "--silent", "--ignore-scripts", package]
    packed = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    with tarfile.open(directory / packed.stdout.split()[-1]) as archive:
        archive.extractall(directory, filter="data")


if __name__ == "__main__":
    main(update="--update" in sys.argv[1:])
