"""A private pgbouncer for tests, in front of a Postgres of theirs, on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.helpers.redis_nodes import free_port
from tests.helpers.support import eventually

_STALLED_S = 20
"""After which pgbouncer refuses a client for which no connection to Postgres gets free."""


def need_pgbouncer() -> str:
    """The program. Where there is none, skips; where CI is set, fails."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        without = pytest.fail if os.environ.get("CI") else pytest.skip
        without("pgbouncer is not installed (on Debian: apt-get install pgbouncer)")
    return str(found)


@contextmanager
def pgbouncer(directory: Path, url: str, pool_size: int = 2, **more: str) -> Iterator[str]:
    """Run one before the server of `url`; yields the URL that leads through it. In transaction mode
    with so many connections to Postgres, unless `more` settings say otherwise."""
    program, server, port = need_pgbouncer(), make_url(url), free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": f"{port}",
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": "transaction",
        "default_pool_size": f"{pool_size}",
        "max_client_conn": "200",
        "query_wait_timeout": f"{_STALLED_S}",
        **more,
    }
    # Readable by the user to whom it changes, since it refuses to run as root.
    with Path("/dev/null").open("rb") as nothing:
        config = directory / "pgbouncer.ini"
        lines = [f"{name} = {value}" for name, value in settings.items()]
        target = f"host={server.host} port={server.port} user={server.username}"
        config.write_text(
            f"[databases]\n* = {target} password={server.password}\n[pgbouncer]\n"
            + "\n".join(lines)
            + "\n"
        )
        config_fd = os.open(config, os.O_RDONLY)
        try:
            as_user = ["-u", "nobody"] if os.getuid() == 0 else []
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", program, "-q", *as_user, f"/dev/fd/{config_fd}"],
                stdin=nothing,
                stderr=subprocess.DEVNULL,
                pass_fds=(config_fd,),
            )
        finally:
            os.close(config_fd)

    def listens() -> bool:
        assert process.poll() is None, f"pgbouncer ended with {process.returncode}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(listens, what="pgbouncer takes no connection")
        yield server.set(port=port, password="any").render_as_string(hide_password=False)
    finally:
        process.kill()
        process.wait()
