"""How a process ends with its owner, and a script that becomes a server which does.

    python -I -S launcher.py SPECIFICATION BINARY [ARGUMENT...]

The script gives up root, ties itself to its owner and becomes BINARY. It is no `preexec_fn`,
because Python code between fork and exec can deadlock in a process with threads. It keeps its
process id through `exec`, so its parent's child is the server itself. It must stand alone: `-I -S`
hides the project.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

# From the Linux headers prctl.h, securebits.h, capability.h and sched.h.
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 1 << 2
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CLONE_NEWUSER = 0x10000000


@dataclass(frozen=True)
class Specification:
    """How to become the server.

    `owner_pid`: the process to end with. `owner_death_signal`: what the kernel sends when it has
    died. `way`: "stay", "switch", "capability" or "namespace" (see `privileges`). `uid`, `gid`:
    whom to become, or to appear to be. `capability`: the one kept by the way of that name.
    `directory`: where to run. `lock`: descriptor of the lock file to hold, or -1.
    """

    owner_pid: int
    owner_death_signal: int
    way: str
    uid: int
    gid: int
    capability: int
    directory: str
    lock: int

    def encode(self) -> str:
        """As the script's first argument."""
        return json.dumps(asdict(self))


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilitySets(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def _call(name: str, *arguments: object) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _prctl(option: int, first: int, second: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", option, ctypes.c_ulong(first), ctypes.c_ulong(second), zero, zero)


def become_user(uid: int, gid: int) -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def become_user_with_capability(uid: int, gid: int, capability: int) -> None:
    """Give up root, but keep one capability through `exec` (ambient, see capabilities(7))."""
    # Not PR_SET_KEEPCAPS: access(2), with which Postgres looks for its own files, would then still
    # ignore the capability.
    _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    become_user(uid, gid)
    sets = (_CapabilitySets * 2)()
    mask = 1 << (capability % 32)
    sets[capability // 32] = _CapabilitySets(mask, mask, mask)
    _call("capset", ctypes.byref(_CapabilityHeader(CAPABILITY_VERSION_3, 0)), sets)
    _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def become_user_in_namespace(uid: int, gid: int) -> None:
    """Appear as `uid` and `gid`; files still see the caller's own ids (user_namespaces(7))."""
    own_uid, own_gid = os.geteuid(), os.getegid()
    _call("unshare", CLONE_NEWUSER)
    for name, content in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {own_uid} 1"),
        ("gid_map", f"{gid} {own_gid} 1"),
    ):
        Path("/proc/self", name).write_text(content, encoding="ascii")


def end_with_parent(parent_pid: int, death_signal: int = signal.SIGKILL) -> None:
    """Have the kernel send `death_signal` to this process when its parent has died, even by
    `kill -9`.

    Exits when the parent has died already. Called by the child itself, not between fork and exec,
    where Python code can deadlock, and after a change of user, which clears the setting (prctl(2)).
    Where the system is not Linux the child stays when its parent is killed.
    """
    if sys.platform == "linux":
        _prctl(PR_SET_PDEATHSIG, death_signal)
    if os.getppid() != parent_pid:
        sys.exit(f"the process that started this one, {parent_pid}, has ended")


def main(arguments: list[str]) -> None:
    """Become the server that `arguments` describe, or say why not on stderr and exit with 1."""
    specification = Specification(**json.loads(arguments[0]))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if specification.lock >= 0:
        os.ftruncate(specification.lock, 0)
        os.pwrite(specification.lock, str(os.getpid()).encode(), 0)
    try:
        if specification.way == "switch":
            become_user(specification.uid, specification.gid)
        elif specification.way == "capability":
            become_user_with_capability(
                specification.uid, specification.gid, specification.capability
            )
        elif specification.way == "namespace":
            become_user_in_namespace(specification.uid, specification.gid)
        end_with_parent(specification.owner_pid, specification.owner_death_signal)
        os.chdir(specification.directory)
        os.execv(arguments[1], arguments[1:])
    except (
        OSError,
        AttributeError,
    ) as error:  # AttributeError: a system call this system does not have
        sys.exit(f"cannot start {arguments[1]}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
