"""A standby of a private Postgres: streams from it, answers reads, and can be promoted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from pipeline.embedded.postgres import find_installation
from tests.conftest import chosen_programs
from tests.helpers.redis_nodes import free_port
from tests.helpers.support import eventually


class Standby:
    """A running standby; `url` leads to it."""

    def __init__(self, url: URL) -> None:
        self.url = url

    def ask(self, statement: str) -> object:
        """The one value that a statement returns here."""
        text = self.url.render_as_string(hide_password=False).replace("+psycopg", "")
        with psycopg.connect(text, autocommit=True) as connection:
            [(value,)] = connection.execute(statement).fetchall()
        return value

    def promote(self) -> None:
        """Make it a primary."""
        assert self.ask("SELECT pg_promote(true)") is True

    def wait_for(self, primary: psycopg.Connection) -> None:
        """Return when all that the primary has committed is here."""
        [(newest,)] = primary.execute("SELECT pg_current_wal_lsn()").fetchall()
        eventually(
            lambda: self.ask(f"SELECT pg_last_wal_replay_lsn() >= '{newest}'"),
            what="the standby does not follow",
        )


@contextmanager
def standby(primary_url: str) -> Iterator[Standby]:
    """Copy the cluster of a server and run it as its standby."""
    primary, port = make_url(primary_url), free_port()
    programs = find_installation(chosen_programs()["postgres_bin_dir"], Path("/nonexistent"))
    # Not below pytest's own directory, which only its owner may enter: Postgres refuses to run as
    # root.
    directory = Path(tempfile.mkdtemp(prefix="standby-"))
    data = directory / "data"
    dsn = primary.set(drivername="postgresql", database=None).render_as_string(hide_password=False)
    process = None
    try:
        copy = f"{programs.binary('pg_basebackup')} -R -X stream --checkpoint=fast".split()
        command: list[str | Path] = [*copy, "-d", dsn, "-D", data]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        user = None
        if os.getuid() == 0:
            user = "nobody"
            for path in (directory, data, *data.rglob("*")):
                shutil.chown(path, user)
        options = f"-c port={port} -c unix_socket_directories= -c listen_addresses=127.0.0.1"
        with_us = ["setpriv", "--pdeathsig", "KILL", programs.binary("postgres")]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(
                [*with_us, "-D", data, *options.split()],
                user=user,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        made = Standby(primary.set(port=port))

        def answers() -> bool:
            assert process is not None
            assert process.poll() is None, (directory / "log").read_text()
            try:
                return made.ask("SELECT pg_is_in_recovery()") is True
            except psycopg.OperationalError:
                return False

        eventually(answers, what="the standby does not answer")
        yield made
    finally:
        if process is not None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(directory, ignore_errors=True)
