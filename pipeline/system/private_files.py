"""Files that only their owner can read, and that no crash leaves half-written.

Whatever the umask, and also where another user of the machine was there before: links of theirs
are not followed, files and directories of theirs are not used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_private_directory(path: Path, *, passable: bool = False) -> None:
    """Make the directory `path`, of mode 0700; one that exists is closed to other users.

    `passable`: others may pass (0711), for a server that runs as another user; then the files in it
    are closed too. Raises PermissionError for a directory that belongs to another user, or that all
    users share.
    """
    mode = 0o711 if passable else 0o700
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        path.chmod(mode)
        sync_directory(path.parent)
    if path.is_symlink():
        _check_owner(path, path.lstat())
    found = path.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, "is no directory", str(path))
    if found.st_mode & stat.S_ISVTX and found.st_mode & stat.S_IWOTH:
        raise PermissionError(errno.EPERM, "all users share it; name one inside it", str(path))
    _check_owner(path, found)
    if found.st_uid == os.geteuid():
        if found.st_mode & _OTHERS & ~mode:
            path.chmod(found.st_mode & mode)
    else:
        check_shared_directory(path)  # root's, given to this user by a group
    if passable:
        _close_files(path)


def check_shared_directory(path: Path) -> None:
    """Raise PermissionError for a directory in which every user may put files."""
    if path.stat().st_mode & stat.S_IWOTH:
        raise PermissionError(
            errno.EPERM, "every user of this machine may write there: chmod o-w", str(path)
        )


def open_private(path: Path, *, append: bool = False) -> int:
    """A descriptor of the file `path`, made with mode 0600 when absent, emptied unless `append`.

    One that exists is closed to other users. Raises OSError for a link, and for a file of another
    user.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags | (os.O_APPEND if append else 0), 0o600)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        _check_owner(path, found)
        if found.st_mode & _OTHERS:
            os.fchmod(descriptor, 0o600)
        if not append:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_private(path: Path, text: str) -> None:
    """Replace the file `path` by one that holds `text` and has mode 0600.

    A reader, a crash or a power cut sees the old file or the new one, whole.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def sync_directory(path: Path) -> None:
    """Bring the names in the directory `path` to the disk, so that no power cut undoes a rename."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise PermissionError(
            errno.EPERM, f"belongs to another user ({found.st_uid}): run as that one", str(path)
        )


def _close_files(directory: Path) -> None:
    for path in directory.iterdir():
        found = path.lstat()
        is_ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if is_ours and found.st_mode & _OTHERS:
            path.chmod(0o600)
