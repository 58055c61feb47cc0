"""Where the private servers of a data directory listen.

The process that starts them writes one small file; producers, commands and workers read it. Only
the standard library is imported here, because applications import this module through the producer.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import InvalidConfiguration

FILE = "servers.json"


@dataclass(frozen=True)
class Addresses:
    """URLs of the private servers (None: not one of them) and the process id of their owner.

    The URLs hold the password, so `repr` leaves them out.
    """

    redis_url: str | None = field(repr=False)
    postgres_url: str | None = field(repr=False)
    pid: int


def read(data_dir: Path) -> Addresses | None:
    """What the last owner of `data_dir` wrote, or None where no servers were ever started.

    The file stays when the servers stop, and a restart keeps the ports: an answer does not mean
    that they run now. Raises InvalidConfiguration when the file cannot be read or is not ours.
    """
    path = data_dir / FILE
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidConfiguration(
            f"{path} cannot be read ({error.strerror}): run as the user who started the private "
            "servers, or set ANALYTICS_REDIS_URL and ANALYTICS_POSTGRES_URL"
        ) from error
    try:
        fields = json.loads(content)
        return Addresses(
            redis_url=_url(fields["redis_url"]),
            postgres_url=_url(fields["postgres_url"]),
            pid=int(fields["pid"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidConfiguration(
            f"{path} is damaged ({type(error).__name__}): delete it and start the private servers "
            "again; their data is kept"
        ) from error


def write(data_dir: Path, addresses: Addresses) -> None:
    """Store `addresses` for `read`, mode 0600; a reader sees the old file or the new one, whole."""
    fields = {
        "redis_url": addresses.redis_url,
        "postgres_url": addresses.postgres_url,
        "pid": addresses.pid,
    }
    write_private(data_dir / FILE, json.dumps(fields, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace the file `path` by one that holds `text` and only its owner can read.

    A crash or a power cut leaves the old file or the new one, whole.
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
    """Bring the names in directory `path` to the disk: no power cut takes a rename in it back."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def redis_url(url: str | None, data_dir: Path) -> str:
    """`url` when it is given, else that of the private Redis of `data_dir`.

    Raises InvalidConfiguration with the remedy when there is neither.
    """
    if url:
        return url
    addresses = read(data_dir)
    if addresses is None or addresses.redis_url is None:
        raise _nothing_there("Redis", "ANALYTICS_REDIS_URL", data_dir)
    return addresses.redis_url


def postgres_url(url: str | None, data_dir: Path) -> str:
    """`url` when it is given, else that of the private Postgres of `data_dir`.

    Raises InvalidConfiguration with the remedy when there is neither.
    """
    if url:
        return url
    addresses = read(data_dir)
    if addresses is None or addresses.postgres_url is None:
        raise _nothing_there("Postgres", "ANALYTICS_POSTGRES_URL", data_dir)
    return addresses.postgres_url


def _url(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError("a URL is text")


def _nothing_there(server: str, variable: str, data_dir: Path) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"no {server}: {variable} is not set and no private {server} was started in "
        f"{data_dir.absolute()}; set {variable}, start `analytics up` there, or point "
        "ANALYTICS_DATA_DIR at the directory where it runs"
    )
