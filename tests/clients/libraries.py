"""Segment's client libraries, unchanged, as processes that send events to our collector."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import pytest

from tests.helpers.support import environment_without_settings

HERE = Path(__file__).parent
_NODE = HERE / "node"
_NODE_SINCE = 20

Send = Callable[..., subprocess.Popen[str]]


def python_client(*arguments: str) -> subprocess.Popen[str]:
    """segment-analytics-python, which the lock names."""
    return _start([sys.executable, str(HERE / "send.py"), *arguments])


def node_client(*arguments: str) -> subprocess.Popen[str]:
    """@segment/analytics-node, installed on first use beside the packages of this Python."""
    node, npm = _need("node", "nodejs"), _need("npm", "npm")
    version = subprocess.check_output([node, "--version"], text=True).strip()
    if int(version.removeprefix("v").partition(".")[0]) < _NODE_SINCE:
        pytest.skip(f"Node {version} is too old for the client, which needs {_NODE_SINCE} or later")
    directory = Path(sys.prefix) / "segment-node"
    _install(npm, directory)
    shutil.copy(_NODE / "send.mjs", directory)
    return _start([node, str(directory / "send.mjs"), *arguments])


def _install(npm: str, directory: Path) -> None:
    names = ("package.json", "package-lock.json", ".npmrc")
    wanted = sha256(b"".join((_NODE / name).read_bytes() for name in names)).hexdigest()
    stamp = directory / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    directory.mkdir(exist_ok=True)
    for name in names:
        shutil.copy(_NODE / name, directory)
    done = subprocess.run(
        [npm, "ci", "--no-progress"], cwd=directory, capture_output=True, text=True, check=False
    )
    if done.returncode:
        _without(f"npm cannot install @segment/analytics-node: {done.stderr[-500:]}")
    stamp.write_text(wanted)


def _need(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        _without(f"{program} is not installed (on Debian: apt-get install {package})")
    return str(found)


def _without(reason: str) -> None:
    """Where CI is set fails, elsewhere skips."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def _start(command: list[str]) -> subprocess.Popen[str]:
    environment: Mapping[str, str] = environment_without_settings()
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
