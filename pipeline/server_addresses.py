"""Where the servers are: at the URL given, else where the private ones of a data directory listen.

The process that starts private servers writes one small file; producers, commands and workers read
it. Only the standard library is imported here, because applications load this module with the
producer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.errors import InvalidConfiguration
from pipeline.system.private_files import write_private

FILE = "servers.json"


class Secret(Protocol):
    """Text that is not shown by accident, such as a URL of the settings (pydantic's SecretStr)."""

    def get_secret_value(self) -> str:
        """The text."""


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
            redis_url=_check_url(fields["redis_url"]),
            postgres_url=_check_url(fields["postgres_url"]),
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


def find_redis_url(given: str | Secret | None, data_dir: Path) -> str:
    """The URL `given`, else that of the private Redis of `data_dir`.

    Raises InvalidConfiguration with the remedy when there is neither.
    """
    url = reveal_url(given)
    if url:
        return url
    addresses = read(data_dir)
    if addresses is None or addresses.redis_url is None:
        raise _no_server("Redis", "ANALYTICS_REDIS_URL", data_dir)
    return addresses.redis_url


def find_postgres_url(given: str | Secret | None, data_dir: Path) -> str:
    """The URL `given`, else that of the private Postgres of `data_dir`.

    Raises InvalidConfiguration with the remedy when there is neither.
    """
    url = reveal_url(given)
    if url:
        return url
    addresses = read(data_dir)
    if addresses is None or addresses.postgres_url is None:
        raise _no_server("Postgres", "ANALYTICS_POSTGRES_URL", data_dir)
    return addresses.postgres_url


def reveal_url(given: str | Secret | None) -> str | None:
    """The URL `given` as text, with its password."""
    return given if given is None or isinstance(given, str) else given.get_secret_value()


def _check_url(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError("a URL is text")


def _no_server(server: str, variable: str, data_dir: Path) -> InvalidConfiguration:
    return InvalidConfiguration(
        f"no {server}: {variable} is not set and no private {server} was started in "
        f"{data_dir.absolute()}; set {variable}, start `analytics up` there, or point "
        "ANALYTICS_DATA_DIR at the directory where it runs"
    )
