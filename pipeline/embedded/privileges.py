"""As whom a server runs. Postgres refuses to run as root; an ordinary user needs nothing of this.

As root there are three ways, tried in this order, because the directories above the data or above
the binaries (such as /root) may be closed to everybody else, and are not ours to open:

- switch: become an unprivileged user. Needs directories that this user can pass.
- capability: become that user and keep one capability, to pass closed directories.
- namespace: appear as that user inside a user namespace; for files the process is still root,
  without its capabilities.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import EmbeddedServerFailed
from pipeline.system import launcher

PROBE_LIMIT_S = 30
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2


@dataclass(frozen=True)
class Way:
    """One way to run a server: `uid` and `gid` to become, `owner` (uid, gid) of its files; None:
    they stay as they are.
    """

    name: str
    uid: int = -1
    gid: int = -1
    owner: tuple[int, int] | None = None
    capability: int = -1


STAY = Way("stay")


def build_command(
    program: Sequence[str], way: Way, directory: Path, lock: int, owner_death_signal: signal.Signals
) -> list[str]:
    """The command line that runs `program` in `directory` as a child that ends with this process.

    `lock` is the descriptor of the lock file that the program holds while it lives (-1: none); pass
    it on to the child.
    """
    specification = launcher.Specification(
        owner_pid=os.getpid(),
        owner_death_signal=owner_death_signal,
        way=way.name,
        uid=way.uid,
        gid=way.gid,
        capability=way.capability,
        directory=str(directory),
        lock=lock,
    )
    return [sys.executable, "-I", "-S", launcher.__file__, specification.encode(), *program]


def build_environment() -> dict[str, str]:
    """What servers see of our environment: none of its secrets, and no PG* that configures them."""
    kept = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def choose_way(trial: Path, existing: Path, program: Sequence[str]) -> Way:
    """The first way in which `program` runs and reaches a directory whose path begins with `trial`.

    Such a directory is made and removed. `program` must end at once (`postgres --version`).
    `existing` is the server's own directory: when it belongs to an ordinary user, that is the user
    taken. Raises EmbeddedServerFailed with what was tried when no way works.
    """
    if os.geteuid() != 0:
        return STAY
    reasons = []
    for way in _list_ways(*_choose_account(existing)):
        reason = _try_way(way, trial, program)
        if reason is None:
            return way
        reasons.append(f"{way.name}: {reason}")
    raise EmbeddedServerFailed(
        f"{program[0]} cannot run as root, and no way to run it as another user works here "
        f"({'; '.join(reasons)}). Start as an ordinary user, or set ANALYTICS_POSTGRES_URL to a "
        "server of your own"
    )


def hand_over(directory: Path, way: Way) -> None:
    """Give `directory` and all in it to the user that `way` runs as, unless it is theirs."""
    if way.owner is None or _read_owner(directory) == way.owner:
        return
    for parent, _, files in os.walk(directory, topdown=False):
        for name in files:
            os.lchown(Path(parent) / name, *way.owner)
        # The directory after its content, so that a crash half-way is seen by the next start.
        os.lchown(parent, *way.owner)


def _choose_account(existing: Path) -> tuple[int, int]:
    if existing.exists() and _read_owner(existing)[0] != 0:
        return _read_owner(existing)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        # initdb asks for the name of its user, so any number will not do.
        others = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
        if not others:
            raise EmbeddedServerFailed(
                "Postgres cannot run as root, and this system knows no other user: add the user "
                "`nobody`"
            ) from None
        entry = others[-1]
    return entry.pw_uid, entry.pw_gid


def _read_owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


def _list_ways(uid: int, gid: int) -> Iterator[Way]:
    yield Way("switch", uid, gid, (uid, gid))
    if sys.platform == "linux":
        # Reading and passing is enough, but for binaries that only root may run; and containers
        # often have only the second.
        for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
            yield Way("capability", uid, gid, (uid, gid), capability)
        yield Way("namespace", uid, gid, (0, 0))


def _try_way(way: Way, prefix: Path, program: Sequence[str]) -> str | None:
    """Why `program` does not run the given way, or None when it does."""
    trial = Path(tempfile.mkdtemp(prefix=prefix.name, dir=prefix.parent))
    try:
        hand_over(trial, way)
        result = subprocess.run(
            build_command(program, way, trial, -1, signal.SIGKILL),
            env=build_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    if result.returncode == 0:
        return None
    return result.stderr.strip() or f"ended with {result.returncode}"
