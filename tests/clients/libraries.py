"""Client libraries of others, unchanged, as processes that send events to our collector.

Those for Python that the lock does not name are installed on first use, each with what it needs in
a directory of its own beside the packages of this Python: some cannot live with each other. Those
for Node and browsers are installed there together.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.helpers.support import environment_without_settings

HERE = Path(__file__).parent
_INSTALLED = Path(sys.prefix) / "client-libraries"
_NODE = HERE / "node"
_NODE_SINCE = 20

Send = Callable[..., subprocess.Popen[str]]


@dataclass(frozen=True)
class Sender:
    """A script that sends events with a library: its path below this folder, its first arguments,
    and the lock in `python/` that names the library, None where the lock of the tests does."""

    script: str
    arguments: tuple[str, ...] = ()
    lock: str | None = None

    def install(self) -> None:
        """Install the library. Skips, or fails where CI is set, when something is missing."""
        if self.script.endswith(".mjs"):
            install_for_node()
        elif self.lock:
            install_for_python(self.lock)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run the script with these arguments behind its own."""
        arguments = *self.arguments, *arguments
        if self.script.endswith(".mjs"):
            script = install_for_node() / Path(self.script).name
            return _start([_need_node(), str(script), *arguments])
        command = [str(HERE / self.script), *arguments]
        if self.lock is None:
            return _start([sys.executable, *command])
        # With what its lock names and nothing else.
        path = install_for_python(self.lock)
        return _start([sys.executable, "-S", *command], {"PYTHONPATH": str(path)})


python_client: Send = Sender("python/segment_under_kills.py").start
node_client: Send = Sender("node/segment_under_kills.mjs").start


def install_for_node(source: Path = _NODE) -> Path:
    """The directory that holds `node_modules` and the scripts of a folder with a lock, by default
    that of the clients."""
    _need_node()
    npm = _need("npm", "npm")

    def install(directory: Path) -> list[str]:
        for path in source.iterdir():
            shutil.copy(path, directory)
        return [npm, "--prefix", str(directory), "ci", "--no-progress"]

    name = "-".join(source.relative_to(HERE.parent).parts[1:])
    return _install_once(name, sorted(source.iterdir()), install)


def install_for_python(lock: str | Path, interpreter: str = sys.executable) -> Path:
    """The directory that holds what a lock names: one of `python/`, or any by its whole path, which
    is installed for one interpreter only."""
    path = HERE / "python" / lock
    # From wheels alone: nothing of it runs while it is installed.
    pip = [sys.executable, "-m", "pip", "--python", interpreter, "install", "-qq"]
    pip += ["--no-compile", "--no-deps"]
    locked = ["--only-binary", ":all:", "--require-hashes", "-r", str(path)]

    def install(directory: Path) -> list[str]:
        return [*pip, "--target", str(directory), *locked]

    return _install_once(path.stem, [path], install)


def _install_once(name: str, inputs: Sequence[Path], install: Callable[[Path], list[str]]) -> Path:
    """The directory in which `install` has put what the inputs name; it prepares an empty one, and
    returns the command that fills it."""
    wanted = sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    directory, stamp = _INSTALLED / name, _INSTALLED / f"{name}.stamp"
    with _alone(name):
        if stamp.exists() and stamp.read_text() == wanted:
            return directory
        stamp.unlink(missing_ok=True)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        done = subprocess.run(
            install(directory), cwd=directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            _without(f"the libraries of {name} cannot be installed: {done.stderr[-500:]}")
        stamp.write_text(wanted)
    return directory


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """While no other process of the tests installs the same."""
    _INSTALLED.mkdir(exist_ok=True)
    with (_INSTALLED / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _need_node() -> str:
    node = _need("node", "nodejs")
    version = subprocess.check_output([node, "--version"], text=True).strip()
    if int(version.removeprefix("v").partition(".")[0]) < _NODE_SINCE:
        pytest.skip(f"Node {version} is too old for the client, which needs {_NODE_SINCE} or later")
    return node


def _need(program: str, package: str) -> str:
    found = shutil.which(program)
    if found is None:
        _without(f"{program} is not installed (on Debian: apt-get install {package})")
    return str(found)


def _without(reason: str) -> None:
    """Where CI is set fails, elsewhere skips."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


def _start(command: list[str], more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env=environment_without_settings() | dict(more or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
