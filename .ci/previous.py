"""Put the wheel of another commit where the tests of upgrades find the release before this one:
`python .ci/previous.py REF`, after each release."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "tests" / "acceptance" / "upgrade" / "previous"


def main(ref: str) -> None:
    """Build the wheel of a commit, and drop the one that is there."""
    packed = subprocess.run(["git", "archive", ref], cwd=ROOT, check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as source:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(source, filter="data")
        for old in TARGET.glob("*.whl"):
            old.unlink()
        options = ("-q", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", TARGET)
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: make previous REF=v1.2.3")
    main(sys.argv[1])
